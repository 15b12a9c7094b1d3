"""The judge as a stream: predictions and labels in; findings, snapshots and offsets out, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import (
    ALIASES_PUBLISHED,
    ANNOTATION_CONFIRMED,
    CAMERA_CHANGED,
    CLOCK_TICKED,
    COMMAND_GIVEN,
    DEPLOYMENT_CHANGED,
    PREDICTION_MADE,
    PROBE_ANSWERED,
    PROBE_ENDED,
    RETRAIN_ANSWERED,
    RUN_FINISHED,
    SNAPSHOT_TAKEN,
    VERSION_JUDGED,
)

from services.common.bus import Bus, Delivery, Event, Outcome, Position, Stream
from services.common.errors import InvalidMessage, PoisonedDelivery
from services.common.metrics import (
    BUS_LOST,
    MONITOR_CHALLENGER_E_VALUE,
    MONITOR_CHALLENGER_PAIRS,
    MONITOR_FINDINGS,
    MONITOR_INPUTS,
    MONITOR_LATE,
    MONITOR_SNAPSHOT_BYTES,
    MONITOR_STEP_SECONDS,
)
from services.common.telemetry import log
from services.monitor import wire
from services.monitor.domain.events import Judged
from services.monitor.domain.pieces import KEYFRAME, judged_until
from services.monitor.domain.retraining import derive
from services.monitor.domain.snapshot import CODEC
from services.monitor.domain.ticks import Arrival, Tick
from services.monitor.errors import GAP_ADVICE
from services.monitor.handlers import Judge, Judgement
from services.monitor.inbound.gauges import Gauges
from services.monitor.wire_fleet import gaps_in_words
from services.monitor.wire_quality import truth_of

_BATCH: Final = 1000
_LINGER_MS: Final = 250  # Verdicts go by seconds of event time.
HANDLER: Final = "judge-drift"
INPUTS: Final = (
    PREDICTION_MADE,
    ANNOTATION_CONFIRMED,
    RUN_FINISHED,
    VERSION_JUDGED,
    DEPLOYMENT_CHANGED,
    ALIASES_PUBLISHED,
    CLOCK_TICKED,
    RETRAIN_ANSWERED,
    CAMERA_CHANGED,
    COMMAND_GIVEN,
    PROBE_ANSWERED,
    PROBE_ENDED,
)
HOLDS: Final = PREDICTION_MADE.name
"""The topic whose partitions hold the others back."""
_PARTITION: Final = 0  # One judge, one order: what is read back is what was written last.
_IDLE_CALLS: Final = 2  # So many seconds of silence, and what waits for slower partitions is judged without them.


class DriftStream:
    """Reads, calls the judge in a thread, writes."""

    def __init__(self, judge: Judge, pace: float) -> None:
        """The judge is restored on assignment; batches that are not full are taken at most every `pace` seconds."""
        self._judge = judge
        self._pace = pace
        self._taken_at = 0.0
        self._full = False
        self._silent = 0
        self._late = 0
        self._gauges = Gauges()
        self._ticks_read = 0
        self.restored = False

    def stream(self) -> Stream:
        """For `Bus.stream`: one active judge over all partitions; a second instance fences the first."""
        return Stream(INPUTS, HANDLER, self, scope="all", max_batch=_BATCH, linger_ms=_LINGER_MS, gap_advice=GAP_ADVICE)

    def waiting_for(self) -> str:
        """What keeps the judge from working."""
        return "" if self.restored else "the judge's state"

    async def restore(self, unit: int, bus: Bus) -> Mapping[Position, int]:
        """Read what was written since the newest keyframe; earlier codecs are read, pieces of a later one left out."""
        pieces = await read_snapshot(bus)
        await asyncio.to_thread(self._judge.restore, pieces)
        self._silent, self._ticks_read, self.restored = 0, 0, True
        log.info("judge_restored", pieces=len(pieces))
        return {place_of_source(source): end for source, end in judged_until(pieces)[1].items()}

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        """Judge a batch. Raises `PoisonedDelivery` for a record that breaks its contract."""
        self._silent = 0
        await self._keep_pace(len(batch))
        MONITOR_INPUTS.inc(len(batch))
        with MONITOR_STEP_SECONDS.time():
            arrivals, ticks = await asyncio.to_thread(_heard, batch)
            if ticks:
                self._ticks_read = ticks[-1][0] + 1
            judgement = await asyncio.to_thread(self._judge.take, arrivals, ticks)
        _note_gaps(batch)
        return self._outcome(judgement)

    async def _keep_pace(self, size: int) -> None:
        clock = asyncio.get_running_loop().time
        full, self._full = self._full, size >= _BATCH
        if not (full or self._full):  # After a full one there is a backlog.
            await asyncio.sleep(max(self._taken_at + self._pace - clock(), 0.0))
        self._taken_at = clock()

    async def idle(self, unit: int) -> Outcome | None:
        """After two silent seconds, judge what is held back; then write what is not written."""
        self._silent += 1
        if self._silent < _IDLE_CALLS:
            return None
        judgement = await asyncio.to_thread(self._judge.rest)
        return self._outcome(judgement) if judgement.pieces else None

    async def release(self, unit: int) -> None:
        """Another instance judges now."""
        await asyncio.to_thread(self._judge.restore, {})
        self._gauges.clear()
        self.restored = False

    def _outcome(self, judgement: Judgement) -> Outcome:
        """What waits has no place in the state: its offsets are not committed."""
        if not judgement.pieces:
            return Outcome((), {})
        events = [wire.event_of(finding) for finding in judgement.findings]
        for finding in judgement.findings:
            MONITOR_FINDINGS.labels(type(finding).__name__).inc()
            if isinstance(finding, Judged):
                _show(finding)
        if judgement.proposed is not None:
            events.append(wire.tick_event(judgement.proposed, HANDLER))
        late, taken, clock = self._judge.look(lambda e: (e.merger.late + e.gate.late, e.taken, e.clock))
        MONITOR_LATE.inc(max(late - self._late, 0))
        self._late = late
        self._gauges.show(self._judge, clock)
        MONITOR_SNAPSHOT_BYTES.set(sum(len(state) for _, state in judgement.pieces))
        return Outcome([*events, *snapshot_events(judgement.pieces, taken, clock)], self._offsets(judgement))

    def _offsets(self, judgement: Judgement) -> dict[Position, int]:
        offsets: dict[Position, int] = {}
        for source, offset in judgement.unread.items():
            offsets[place_of_source(source)] = offset
        if judgement.tick is not None or self._ticks_read:
            ticks = judgement.tick if judgement.tick is not None else self._ticks_read
            offsets[CLOCK_TICKED.name, 0] = ticks
        return offsets


def place_of_source(source: str) -> Position:
    """The topic and partition that an arrival's source names."""
    topic, _, partition = source.rpartition("/")
    return topic, int(partition)


def snapshot_events(pieces: Sequence[tuple[str, bytes]], taken: int, clock: float) -> list[Event[Any]]:
    """Pieces of the state after `taken` inputs, at event time `clock`, as the judge writes them."""
    return [
        Event(
            SNAPSHOT_TAKEN,
            key,
            pb.SnapshotTaken(key=key, codec=CODEC, state=state),
            derive("snapshot", key, str(taken), str(clock)),
            wire.moment(clock),
            partition=_PARTITION,
        )
        for key, state in pieces
    ]


def _show(judged: Judged) -> None:
    MONITOR_CHALLENGER_PAIRS.labels(judged.model).set(judged.pairs)
    for test in judged.tests:
        MONITOR_CHALLENGER_E_VALUE.labels(judged.model, test.name).set(test.e_value)


def _note_gaps(batch: Sequence[Delivery[Any]]) -> None:
    """What somebody lets a handler go on without is lost from now on, and no longer refused."""
    for delivery in batch:
        if delivery.record.topic == COMMAND_GIVEN.name and delivery.value.HasField("accept_gaps"):
            accepted = delivery.value.accept_gaps
            BUS_LOST.labels(accepted.handler).inc(sum(max(g.oldest - g.wanted, 1) for g in accepted.gaps))
            log.warning("gaps_accepted", by=delivery.value.by, why=delivery.value.why, what=gaps_in_words(accepted))


def _heard(batch: Sequence[Delivery[Any]]) -> tuple[list[Arrival], list[tuple[int, Tick]]]:
    """Records as they came, and ticks with their offsets. Raises `PoisonedDelivery`."""
    arrivals: list[Arrival] = []
    ticks: list[tuple[int, Tick]] = []
    for place, delivery in enumerate(batch):
        try:
            if delivery.record.topic == CLOCK_TICKED.name:
                ticks.append((delivery.record.offset, wire.tick_of(delivery.value)))
            else:
                arrivals.append(arrival_of(delivery))
        except InvalidMessage as error:
            raise PoisonedDelivery(place, str(error), field=error.field) from error
    return arrivals, ticks


def arrival_of(delivery: Delivery[Any]) -> Arrival:
    """A record of one of `INPUTS`, ticks aside. Raises `InvalidMessage`."""
    record, item = delivery.record, wire.input_of(delivery)
    return Arrival(
        item.at if item is not None else delivery.ce_time.timestamp(),
        delivery.ce_id,
        f"{record.topic}/{record.partition}",
        record.offset,
        item,
        truth_of(delivery.value, delivery.ce_time),
        record.topic == HOLDS,
    )


async def read_snapshot(bus: Bus) -> dict[str, bytes]:
    """The newest piece of each key since the last keyframe, reading backwards until it is found."""
    last = 4096
    while True:
        records = await bus.read(SNAPSHOT_TAKEN, _PARTITION, last=last)
        pieces: dict[str, bytes] = {}
        found = False
        for record in records:
            taken = pb.SnapshotTaken.FromString(record.value)
            if taken.codec > CODEC:
                log.warning("snapshot_of_other_codec", key=taken.key, codec=taken.codec)
            elif taken.key == KEYFRAME:
                pieces, found = {}, True
            else:
                pieces[taken.key] = taken.state
        if found or len(records) < last:
            return pieces if found else {}
        last *= 8
