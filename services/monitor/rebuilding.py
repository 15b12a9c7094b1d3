"""State and analytics from the topics alone: read anew, put together aside, and swapped in when all of it is there.

The judge's state takes the place of the old one in one Kafka transaction; tables take the place of the old ones in one
statement each. Until then the old ones stand, and a rebuild that is broken off has changed nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any, Final

from irisloop.topics import CLOCK_TICKED, TOPICS

from services.common.bus import Delivery, decode
from services.common.bus.api import Position
from services.common.bus.handover import place_of, take_over
from services.common.bus.replaying import Stretch
from services.common.errors import InvalidMessage
from services.common.settings import KafkaSettings
from services.monitor import wire
from services.monitor.backtest import SAID
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Finding
from services.monitor.domain.pieces import Snapshots
from services.monitor.domain.policy import Policy
from services.monitor.domain.rows import Rows
from services.monitor.errors import Expired, StillRunning
from services.monitor.gaps import ANALYTICS, JUDGE, accept, gaps_of
from services.monitor.inbound.analytics import stored
from services.monitor.inbound.stream import HANDLER, INPUTS, place_of_source, snapshot_events
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.outbound.recording import KafkaSource, Records, Source
from services.monitor.replaying import INPUT_NAMES, Replay
from services.monitor.settings import MonitorSettings

_TOPICS: Final = {topic.name: topic for topic in TOPICS}
_COMPACTED: Final = {topic.name for topic in TOPICS if topic.compacted}
_BATCH: Final = 1000
_ROWS: Final = 20_000

Progress = Callable[[int], None]


@dataclass(slots=True)
class RebuiltState:
    """What was put together. `unsaid` are findings that the topics do not hold, `unfounded` words in them that the
    state does not lead to: with the policy of then and nothing expired there are none of either.
    """

    pieces: list[tuple[str, bytes]] = field(default_factory=list)
    offsets: dict[Position, int] = field(default_factory=dict)
    inputs: int = 0
    taken: int = 0
    clock: float = 0.0
    late: int = 0
    missing: list[str] = field(default_factory=list)
    unsaid: list[Finding] = field(default_factory=list)
    unfounded: int = 0


def expired(stretches: Sequence[Stretch]) -> list[str]:
    """What the topics no longer hold, in words; a compacted topic loses only what a newer record replaces."""
    gone = [one for one in stretches if one.begin > 0 and one.topic not in _COMPACTED]
    return [f"{one.topic}/{one.partition} offsets 0 to {one.begin - 1}" for one in gone]


def _whole(stretches: Sequence[Stretch], accept: bool) -> list[str]:
    gone = expired(stretches)
    if gone and not accept:
        raise Expired(f"these records have expired, and what they led to cannot be rebuilt: {'; '.join(gone)}")
    return gone


async def require_stopped(settings: KafkaSettings, handlers: Sequence[str]) -> None:
    """Raises `StillRunning` when a monitor is in one of these groups."""
    for handler in handlers:
        members, _ = await place_of(settings, "monitor", handler)
        if members:
            raise StillRunning(
                f"a monitor runs (members of the group irisloop.monitor.{handler}: {members}); stop it first"
            )


async def rebuild_state(
    source: Source,
    policy: Policy,
    reached: Mapping[Position, int],
    *,
    accept_expired: bool = False,
    begun: Progress = lambda total: None,
    passed: Progress = lambda steps: None,
) -> RebuiltState:
    """Judge everything anew up to the offsets that the judge had `reached` (all there is when it knows none).

    Raises `Expired`, `Unavailable`. Nothing is written; `swap_state` does that.
    """
    rebuilt, found, said = RebuiltState(), [], set()
    names = [topic.name for topic in (*INPUTS, *SAID)]
    async with source.open(names) as held:
        rebuilt.missing = _whole(held.stretches, accept_expired)
        replay = Replay.of(Engine.new(policy), held.stretches)
        inputs = {(one.topic, one.partition) for one in held.stretches if one.topic in INPUT_NAMES}
        rebuilt.offsets = {place: at for place, at in reached.items() if place in inputs}
        replay.ticks_until = rebuilt.offsets.get((CLOCK_TICKED.name, 0), inf)
        begun(held.total)
        async for batch in _batches(held, passed):
            said |= {d.ce_id for d in batch if d.record.topic not in INPUT_NAMES}
            found += replay.hear(batch)
    if not replay.ticking:
        found += replay.finish()
    _settle(replay, rebuilt, found, said)
    return rebuilt


def _settle(replay: Replay, rebuilt: RebuiltState, found: list[Finding], said: set[str]) -> None:
    """What waits is no part of the state: the judge reads it again, from the offsets that it had reached or, where it
    knows none, from the first record that waits.
    """
    engine = replay.engine
    rebuilt.pieces = Snapshots().changed(engine)
    if not rebuilt.offsets:
        rebuilt.offsets = {place_of_source(source): at for source, at in engine.gate.unread().items()}
    words = {_ce_id(finding): finding for finding in found if wire.event_of(finding).topic in SAID}
    rebuilt.unsaid = [finding for ce_id, finding in words.items() if ce_id not in said]
    rebuilt.unfounded = len(said - words.keys())
    rebuilt.inputs, rebuilt.late = replay.inputs, replay.late
    rebuilt.taken, rebuilt.clock = engine.taken, engine.clock


def _ce_id(finding: Finding) -> str:
    return wire.event_of(finding).ce_id


async def _batches(held: Records, passed: Progress) -> Any:
    batch: list[Delivery[Any]] = []
    async for record, steps in held.records():
        passed(steps)
        try:
            batch.append(decode(record, _TOPICS[record.topic]))
        except InvalidMessage:
            continue  # a dead letter then
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    yield batch


async def swap_state(settings: KafkaSettings, rebuilt: RebuiltState) -> None:
    """Put the rebuilt state in the place of the judge's, with its offsets, in one transaction. Raises `Unavailable`."""
    events = snapshot_events(rebuilt.pieces, rebuilt.taken, rebuilt.clock)
    offsets = {place: at for place, at in rebuilt.offsets.items() if at}
    await take_over(settings, "monitor", HANDLER, 0, events, offsets)


async def rebuild_analytics(
    source: Source,
    warehouse: ClickHouse,
    *,
    accept_expired: bool = False,
    begun: Progress = lambda total: None,
    passed: Progress = lambda steps: None,
) -> dict[str, int]:
    """Fill new tables from the topics and swap them in; returns the rows of each. Rows of records that have expired are
    taken over from the old tables. Raises `Expired`, `Unavailable`, `AnalyticsClosed`.
    """
    kinds = {topic.name: (topic, table, row) for topic, _, table, row in stored()}
    waiting: dict[Position, list[Delivery[Any]]] = {}
    async with source.open(list(kinds)) as held:
        _whole(held.stretches, accept_expired)
        begun(held.total)
        async with _aside(warehouse, held.stretches) as new:
            async for batch in _batches(held, passed):
                for delivery in batch:
                    waiting.setdefault((delivery.record.topic, delivery.record.partition), []).append(delivery)
                for place in [place for place, many in waiting.items() if len(many) >= _ROWS]:
                    await new.insert(_rows(waiting.pop(place), kinds))
            for many in waiting.values():
                await new.insert(_rows(many, kinds))
            counts: dict[str, int] = await new.swap()
            return counts


def _rows(deliveries: Sequence[Delivery[Any]], kinds: Mapping[str, Any]) -> Rows:
    record = deliveries[0].record
    _, table, row = kinds[record.topic]
    columns = list(zip(*(row(d.value, d.ce_time) for d in deliveries), strict=True))
    return Rows(table, record.topic, record.partition, [d.record.offset for d in deliveries], columns)


def _aside(warehouse: ClickHouse, stretches: Sequence[Stretch]) -> Any:
    return warehouse.aside({(one.topic, one.partition): one.begin for one in stretches})


async def rebuild(
    settings: KafkaSettings,
    monitor: MonitorSettings,
    policy: Policy,
    only: str,
    accept_expired: bool,
    begun: Progress,
    passed: Progress,
) -> list[str]:
    """What `irisloop monitor rebuild` does; returns what there is to say. Raises what its parts raise."""
    await require_stopped(settings, [HANDLER, *(handler for _, handler, _, _ in stored())])
    source, lines = KafkaSource(settings), []
    if only in ("", "state"):
        _, reached = await place_of(settings, "monitor", HANDLER)
        state = await rebuild_state(source, policy, reached, accept_expired=accept_expired, begun=begun, passed=passed)
        await swap_state(settings, state)
        lines += _told(state)
    if only in ("", "analytics"):
        home = monitor.common.home.absolute()
        async with ClickHouse(home / "clickhouse", monitor.clickhouse_url, monitor.analytics_days) as warehouse:
            await warehouse.open()
            counts = await rebuild_analytics(
                source, warehouse, accept_expired=accept_expired, begun=begun, passed=passed
            )
        lines += [f"{table}: {count:,} rows" for table, count in counts.items()]
    if accept_expired:
        lines += await _go_on(settings, {"": {**JUDGE, **ANALYTICS}, "state": JUDGE, "analytics": ANALYTICS}[only])
    return lines


async def _go_on(settings: KafkaSettings, handlers: Mapping[str, Sequence[str]]) -> list[str]:
    """Without the records that were to be read next and are gone."""
    found = await gaps_of(settings, handlers)
    await accept(settings, found, "irisloop monitor rebuild", "made anew of what is left", datetime.now(UTC))
    return [f"{handler} goes on without what is missing: {gap}" for handler, gaps in found.items() for gap in gaps]


def _told(state: RebuiltState) -> list[str]:
    lines = [f"state: {state.inputs:,} events judged again, {len(state.pieces):,} pieces written"]
    if state.missing:
        lines.append(f"expired, so the state knows nothing of it: {'; '.join(state.missing)}")
    if state.unsaid or state.unfounded:
        lines.append(
            f"{len(state.unsaid)} findings were never said, {state.unfounded} words were said that do not follow: "
            "another policy, or expired records"
        )
    if state.late:
        lines.append(f"{state.late} inputs came later than the policy waits for")
    return lines
