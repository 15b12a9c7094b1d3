"""The judge as a stream: predictions and labels in; findings, snapshots and offsets out, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import (
    ALIASES_PUBLISHED,
    ANNOTATION_CONFIRMED,
    CAMERA_CHANGED,
    COMMAND_GIVEN,
    DEPLOYMENT_CHANGED,
    PREDICTION_MADE,
    RUN_FINISHED,
    SNAPSHOT_TAKEN,
    VERSION_JUDGED,
)

from services.common.bus import Bus, Delivery, Event, Outcome, Stream
from services.common.errors import InvalidMessage, PoisonedDelivery
from services.common.metrics import (
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
from services.monitor.domain.events import Input, Judged
from services.monitor.domain.pieces import KEYFRAME
from services.monitor.domain.retraining import derive
from services.monitor.domain.snapshot import CODEC, READS
from services.monitor.handlers import Judge, Judgement
from services.monitor.inbound.gauges import Gauges
from services.monitor.wire_quality import truth_of

_BATCH: Final = 1000
_LINGER_MS: Final = 250  # Verdicts go by seconds of event time.
HANDLER: Final = "judge-drift"
TOPICS: Final = (
    PREDICTION_MADE,
    ANNOTATION_CONFIRMED,
    RUN_FINISHED,
    VERSION_JUDGED,
    DEPLOYMENT_CHANGED,
    ALIASES_PUBLISHED,
    CAMERA_CHANGED,
    COMMAND_GIVEN,
)
_HOLDS: Final = PREDICTION_MADE.name
_PARTITION: Final = 0  # One judge, one order: what is read back is what was written last.
_IDLE_CALLS: Final = 2  # So many seconds of silence, and what waits for slower partitions is judged without them.


class DriftStream:
    """Reads, calls the judge in a thread, writes."""

    def __init__(self, judge: Judge, pace: float) -> None:
        """The judge is restored on assignment; batches that are not full are taken at most every `pace` seconds."""
        self._judge = judge
        self._pace = pace
        self._taken_at = 0.0
        self._silent = 0
        self._late = 0
        self._gauges = Gauges()
        self.restored = False

    def stream(self) -> Stream:
        """For `Bus.stream`: one active judge over all partitions; a second instance fences the first."""
        return Stream(TOPICS, HANDLER, self, scope="all", max_batch=_BATCH, linger_ms=_LINGER_MS)

    def waiting_for(self) -> str:
        """What keeps the judge from working."""
        return "" if self.restored else "the judge's state"

    async def restore(self, unit: int, bus: Bus) -> None:
        """Read what was written since the newest keyframe; pieces of another codec are left out, and learnt anew."""
        pieces = await _read(bus)
        await asyncio.to_thread(self._judge.restore, pieces)
        self._silent, self.restored = 0, True
        log.info("judge_restored", pieces=len(pieces))

    async def process(self, unit: int, batch: Sequence[Delivery[Any]]) -> Outcome:
        """Judge a batch. Raises `PoisonedDelivery` for a record that breaks its contract."""
        self._silent = 0
        await self._keep_pace(len(batch))
        items = [item for place, d in enumerate(batch) if (item := _item(place, d)) is not None]
        MONITOR_INPUTS.inc(len(batch))
        with MONITOR_STEP_SECONDS.time():
            truths = [truth for d in batch if (truth := truth_of(d.value, d.ce_time)) is not None]
            judgement = await asyncio.to_thread(self._judge.take, items, truths)
        return self._outcome(judgement)

    async def _keep_pace(self, size: int) -> None:
        clock = asyncio.get_running_loop().time
        if size < _BATCH:
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
        events = [wire.event_of(finding) for finding in judgement.findings]
        for finding in judgement.findings:
            MONITOR_FINDINGS.labels(type(finding).__name__).inc()
            if isinstance(finding, Judged):
                _show(finding)
        late, taken, clock = self._judge.look(lambda e: (e.merger.late, e.taken, e.clock))
        MONITOR_LATE.inc(max(late - self._late, 0))
        self._late = late
        self._gauges.show(self._judge, clock)
        MONITOR_SNAPSHOT_BYTES.set(sum(len(state) for _, state in judgement.pieces))
        for key, state in judgement.pieces:
            value = pb.SnapshotTaken(key=key, codec=CODEC, state=state)
            ce_id = derive("snapshot", key, str(taken), str(clock))
            events.append(Event(SNAPSHOT_TAKEN, key, value, ce_id, wire.moment(clock), partition=_PARTITION))
        return Outcome(events)


def _show(judged: Judged) -> None:
    MONITOR_CHALLENGER_PAIRS.labels(judged.model).set(judged.pairs)
    for test in judged.tests:
        MONITOR_CHALLENGER_E_VALUE.labels(judged.model, test.name).set(test.e_value)


def _item(place: int, delivery: Delivery[Any]) -> tuple[str, bool, Input] | None:
    try:
        item = wire.input_of(delivery)
    except InvalidMessage as error:
        raise PoisonedDelivery(place, str(error), field=error.field) from error
    topic = delivery.record.topic
    return None if item is None else (f"{topic}/{delivery.record.partition}", topic == _HOLDS, item)


async def _read(bus: Bus) -> dict[str, bytes]:
    """The newest piece of each key since the last keyframe, reading backwards until it is found."""
    last = 1024
    while True:
        records = await bus.read(SNAPSHOT_TAKEN, _PARTITION, last=last)
        pieces: dict[str, bytes] = {}
        found = False
        for record in records:
            taken = pb.SnapshotTaken.FromString(record.value)
            if taken.codec not in READS:
                log.warning("snapshot_of_other_codec", key=taken.key, codec=taken.codec)
            elif taken.key == KEYFRAME:
                pieces, found = {}, True
            else:
                pieces[taken.key] = taken.state
        if found or len(records) < last:
            return pieces if found else {}
        last *= 4
