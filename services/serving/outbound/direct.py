"""Clients' predictions as events: noted in memory, written to a spool on disk every few milliseconds, published from
there. Inference waits for none of it, and Kafka may be away for as long as the spool has room.
"""

from __future__ import annotations

import asyncio
import struct
import time
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final, Self, cast

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Bus, Event
from services.common.errors import Transient
from services.common.metrics import SERVING_DIRECT_DROPPED, SERVING_PREDICTIONS, SERVING_SPOOL_BYTES
from services.common.telemetry import log
from services.serving.codec import message
from services.serving.domain.bindings import DIRECT
from services.serving.domain.features import Answer, answers
from services.serving.domain.routes import Version
from services.serving.domain.work import Arrays
from services.serving.outbound.spool import Place, Spool, Tally

AT_ONCE: Final = 256
"""Calls made into events between two looks at the event loop; events in one publication."""
FLUSH_S: Final = 0.05
RETRY_S: Final = (0.1, 2.0)
LAST_S: Final = 2.0
"""What the stop waits for Kafka; what is left stays on disk for the next start."""
HEAD: Final = struct.Struct("<qHHH")
"""Event time, nanoseconds since 1970, and the lengths of id, key and trace; the message follows."""


@dataclass(frozen=True, slots=True)
class Note:
    """A call and its answer."""

    version: Version
    outputs: Arrays
    rows: int
    arrived_at_ns: int
    latency_ns: int
    traceparent: str
    role: str
    pair_id: str = ""
    rollout_id: str = ""


class DirectEvents:
    """Implements `Notes`; an async context manager whose `run` spools and publishes until cancelled."""

    def __init__(self, bus: Bus, replica: str, most: int, folder: Path, limit_bytes: int) -> None:
        """`most`: calls noted and not yet on disk; `folder`, `limit_bytes`: of the spool."""
        self._bus = bus
        self._replica = replica
        self._most = most
        self._folder = folder
        self._limit = limit_bytes
        self._notes: deque[Note] = deque()
        self._spool: Spool | None = None
        self._tally: Tally | None = None
        self._given_up = 0
        self._fresh = asyncio.Event()
        self._stopping = False

    async def __aenter__(self) -> Self:
        self._spool = await asyncio.to_thread(Spool, self._folder, self._limit)
        self._tally = Tally(self._folder / "tally")
        if self._tally.lost:
            SERVING_DIRECT_DROPPED.inc(self._tally.lost)
            log.warning("direct_predictions_lost", calls=self._tally.lost, cause="the process before was killed")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """What was noted is on disk; what is on disk stays."""
        await self._flush()
        tally, self._tally = self._tally, None
        if tally is not None:
            tally.close()

    def note(
        self,
        version: Version,
        outputs: Arrays,
        *,
        arrived_at_ns: int,
        latency_ns: int,
        key: str,
        role: str,
        traceparent: str,
        pair_id: str = "",
        rollout_id: str = "",
    ) -> None:
        """Keep it for the next flush, or drop and count it when too many wait."""
        tally = self._tally
        if tally is None or len(self._notes) >= self._most:
            SERVING_DIRECT_DROPPED.inc()
            return
        tally.note()
        card = version.card
        kept = {name: outputs[name] for name in (card.scores, card.embedding) if name} if card else {}
        rows = len(kept[card.scores]) if card else 1
        self._notes.append(Note(version, kept, rows, arrived_at_ns, latency_ns, traceparent, role, pair_id, rollout_id))

    async def run(self) -> None:
        """Until cancelled; then flush, and give Kafka a moment to take the rest."""
        publishing = asyncio.create_task(self._publish_for_ever())
        try:
            while True:
                await asyncio.sleep(FLUSH_S)
                await self._flush()
        finally:
            self._stopping = True
            self._fresh.set()
            await asyncio.wait([publishing], timeout=LAST_S)  # what is published is acknowledged, and not said again
            publishing.cancel()
            await asyncio.wait([publishing])
            await self._flush()
            await self._publish_last()

    async def _flush(self) -> None:
        """From memory to disk. What the disk does not take is dropped, counted and said."""
        while self._notes:
            notes = [self._notes.popleft() for _ in range(min(AT_ONCE, len(self._notes)))]
            records = await asyncio.to_thread(self._records, notes)
            try:
                await asyncio.to_thread(self._open.append, records)
            except OSError as error:
                SERVING_DIRECT_DROPPED.inc(len(records))
                log.error("spool_failed", dropped=len(records), error=str(error))
            if self._tally is not None:
                self._tally.kept(len(notes))
            self._count_given_up()
            self._fresh.set()

    async def _publish_for_ever(self) -> None:
        delay = RETRY_S[0]
        while not self._stopping:
            try:
                if not await self._publish_some():
                    self._fresh.clear()
                    if not self._stopping:
                        await self._fresh.wait()
                delay = RETRY_S[0]
            except Transient as error:
                log.warning("direct_predictions_wait", error=str(error), spool_bytes=self._open.size)
                await asyncio.sleep(delay)
                delay = min(2 * delay, RETRY_S[1])

    async def _publish_some(self) -> int:
        """The oldest on disk; they leave it when the broker has them. Raises `Transient`."""
        records, place = await asyncio.to_thread(self._open.read, AT_ONCE)
        if records:
            await self._bus.publish([event_of(record) for record in records])
            SERVING_PREDICTIONS.labels(DIRECT).inc(len(records))
            await asyncio.to_thread(self._acknowledge, place)
        return len(records)

    async def _publish_last(self) -> None:
        try:
            async with asyncio.timeout(LAST_S):
                while await self._publish_some():
                    pass
        except (Transient, TimeoutError) as error:
            log.warning("direct_predictions_left", spool_bytes=self._open.size, error=str(error))

    def _acknowledge(self, place: Place) -> None:
        self._open.acknowledge(place)
        SERVING_SPOOL_BYTES.set(self._open.size)

    def _count_given_up(self) -> None:
        SERVING_SPOOL_BYTES.set(self._open.size)
        lost = self._open.given_up - self._given_up
        if lost:
            self._given_up += lost
            SERVING_DIRECT_DROPPED.inc(lost)

    @property
    def _open(self) -> Spool:
        assert self._spool is not None
        return self._spool

    def _records(self, notes: Sequence[Note]) -> list[bytes]:
        now_ns = time.time_ns()
        return [record for version, same in _by_version(notes) for record in self._of(version, same, now_ns)]

    def _of(self, version: Version, notes: Sequence[Note], now_ns: int) -> Iterator[bytes]:
        """One a row; one without scores for a model that nobody described."""
        found = iter(_answers(version, notes))
        key, predicted_at = f"model/{version.model}", _stamp(now_ns)
        for note in notes:
            arrived_at, latency_ms = _stamp(note.arrived_at_ns), note.latency_ns / 1e6
            for row in range(note.rows):
                identity = str(uuid.uuid4())
                made = message(identity, version.model, version.name, note.role, next(found), latency_ms, self._replica)
                made.captured_at.MergeFrom(arrived_at)
                if note.pair_id:
                    made.pair_id = f"{note.pair_id}/{row}" if note.rows > 1 else note.pair_id
                made.rollout_id = note.rollout_id
                made.predicted_at.MergeFrom(predicted_at)
                value = pb.PredictionMade(prediction=made).SerializeToString()
                yield record_of(identity, key, note.arrived_at_ns, note.traceparent, value)


class Serialized:
    """A message that is bytes already: what the spool holds is published as it is."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        """The bytes."""
        return self._data


def _stamp(ns: int) -> Timestamp:
    seconds, nanos = divmod(ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)


def _by_version(notes: Sequence[Note]) -> Iterator[tuple[Version, list[Note]]]:
    """Runs of one version and one shape, in their order, so that their answers are read together."""
    for _, same in groupby(notes, key=lambda note: (id(note.version), tuple(note.outputs))):
        listed = list(same)
        yield listed[0].version, listed


def _answers(version: Version, notes: Sequence[Note]) -> Sequence[Answer]:
    if version.card is None:
        return [Answer()] * sum(note.rows for note in notes)
    names = notes[0].outputs
    return answers(version.card, {name: np.concatenate([note.outputs[name] for note in notes]) for name in names})


def record_of(identity: str, key: str, moment_ns: int, traceparent: str, value: bytes) -> bytes:
    """What the spool holds of an event; `moment_ns`: its time, since 1970."""
    parts = [text.encode() for text in (identity, key, traceparent)]
    return b"".join([HEAD.pack(moment_ns, *map(len, parts)), *parts, value])


def event_of(record: bytes) -> Event[Any]:
    """The event, with the id that it was given when it was noted: a repeat bears the same."""
    moment_ns, *sizes = HEAD.unpack_from(record)
    place = HEAD.size
    texts: list[str] = []
    for size in sizes:
        texts.append(record[place : place + size].decode())
        place += size
    identity, key, traceparent = texts
    moment = datetime.fromtimestamp(moment_ns / 1e9, UTC)
    return Event(PREDICTION_MADE, key, cast(Any, Serialized(record[place:])), identity, moment, traceparent)
