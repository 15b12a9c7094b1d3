"""Clients' predictions as events: noted in a bounded buffer, made into events and published off the hot path."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Bus, Event
from services.common.errors import Transient
from services.common.metrics import SERVING_DIRECT_DROPPED, SERVING_PREDICTIONS
from services.common.telemetry import log
from services.serving.codec import message, timestamp
from services.serving.domain.bindings import DIRECT
from services.serving.domain.features import Answer, answers
from services.serving.domain.routes import Version
from services.serving.domain.work import Arrays

AT_ONCE: Final = 64
"""Calls made into events between two looks at the event loop."""
PAUSE_S: Final = 0.05
RETRY_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Note:
    """A call and its answer."""

    version: Version
    outputs: Arrays
    arrived_at: datetime
    latency_ms: float
    traceparent: str
    role: str


class DirectEvents:
    """Implements `Notes`; `run` publishes until cancelled, then what is left."""

    def __init__(self, bus: Bus, replica: str, most: int, clock: Callable[[], datetime]) -> None:
        self._bus = bus
        self._replica = replica
        self._most = most
        self._clock = clock
        self._notes: deque[Note] = deque()

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
    ) -> None:
        """Keep it for later, or drop and count it when the buffer is full."""
        if len(self._notes) >= self._most:
            SERVING_DIRECT_DROPPED.inc()
            return
        card = version.card
        kept = {name: outputs[name] for name in (card.scores, card.embedding) if name} if card else {}
        arrived_at = datetime.fromtimestamp(arrived_at_ns / 1e9, UTC)
        self._notes.append(Note(version, kept, arrived_at, latency_ns / 1e6, traceparent, role))

    async def run(self) -> None:
        """Publish what was noted, oldest first, also once more when the service stops."""
        try:
            while True:
                await asyncio.sleep(PAUSE_S)
                await self._publish_all()
        except asyncio.CancelledError:
            await self._publish_all(last=True)
            raise

    async def _publish_all(self, *, last: bool = False) -> None:
        while self._notes:
            notes = [self._notes.popleft() for _ in range(min(AT_ONCE, len(self._notes)))]
            events = [event for note in notes for event in self._events(note)]
            while True:
                try:
                    await self._bus.publish(events)
                    SERVING_PREDICTIONS.labels(DIRECT).inc(len(events))
                    break
                except Transient as error:
                    if last:
                        SERVING_DIRECT_DROPPED.inc(len(events))
                        log.warning("direct_predictions_dropped", count=len(events), error=str(error))
                        break
                    await asyncio.sleep(RETRY_S)

    def _events(self, note: Note) -> list[Event[pb.PredictionMade]]:
        """One a row; one without scores for a model that nobody described."""
        predicted_at = self._clock()
        events: list[Event[pb.PredictionMade]] = []
        card = note.version.card
        for answer in answers(card, note.outputs) if card is not None else [Answer()]:
            identity = str(uuid.uuid4())
            name = note.version.model
            prediction = message(identity, name, note.version.name, note.role, answer, note.latency_ms, self._replica)
            prediction.captured_at.CopyFrom(timestamp(note.arrived_at))
            prediction.predicted_at.CopyFrom(timestamp(predicted_at))
            value = pb.PredictionMade(prediction=prediction)
            events.append(Event(PREDICTION_MADE, f"model/{name}", value, identity, note.arrived_at, note.traceparent))
        return events
