"""The cameras: plain images over Kafka by a client of their own, at a steady rate, whatever happens to the services."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from services.local.demo.frames import Frame, FrameSource, Truth

TOPIC: Final = "irisloop.ingest.frame.captured.v1"
TRUNCATED_EVERY: Final = 250
"""A camera's link breaks now and then: one frame in so many arrives cut short, beside the good one."""
TWICE_EVERY: Final = 400
"""And one frame in so many is sent again under the same ce_id, as a camera does that missed the acknowledgement."""
IN_FLIGHT: Final = 20_000


@dataclass(slots=True)
class Sent:
    """Counts of what the broker acknowledged."""

    frames: int = 0
    truncated: int = 0
    again: int = 0
    waiting: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def total(self) -> int:
        """Every acknowledged record."""
        return self.frames + self.truncated + self.again


@dataclass(slots=True)
class Cameras:
    """Sends frames from `source` at `rate` a second until told to stop; sending never waits for an acknowledgement."""

    producer: AIOKafkaProducer
    source: FrameSource
    truth: Truth
    run_id: str
    rate: float
    sent: Sent = field(default_factory=Sent)
    on_sent: Callable[[Frame], None] | None = None
    stopping: bool = False

    async def run(self) -> None:
        """Send until `stopping`, then wait for the acknowledgements that are still out."""
        loop = asyncio.get_running_loop()
        began, first = loop.time(), self.source.sent
        while not self.stopping:
            due = first + int((loop.time() - began) * self.rate) + 1
            while self.source.sent < due and len(self.sent.waiting) < IN_FLIGHT:
                self._start(self.source.next())
            await asyncio.sleep(0.01)
        while self.sent.waiting:
            await asyncio.wait(set(self.sent.waiting))

    def _start(self, frame: Frame) -> None:
        at = datetime.now(UTC)
        self._spawn(self._send(frame, at))
        if frame.number % TRUNCATED_EVERY == TRUNCATED_EVERY - 1:
            self._spawn(self._send_truncated(frame, at))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self.sent.waiting.add(task)
        task.add_done_callback(self.sent.waiting.discard)

    async def _send(self, frame: Frame, at: datetime) -> None:
        self.truth.note_sent(frame, at)
        await self._put(frame, frame.png, f"{self.run_id}-{frame.number}", at)
        self.sent.frames += 1
        if frame.number % TWICE_EVERY == TWICE_EVERY - 1:
            await self._put(frame, frame.png, f"{self.run_id}-{frame.number}", at)
            self.sent.again += 1
        if self.on_sent is not None:
            self.on_sent(frame)

    async def _send_truncated(self, frame: Frame, at: datetime) -> None:
        await self._put(frame, frame.png[: len(frame.png) // 2], f"{self.run_id}-{frame.number}-cut", at)
        self.sent.truncated += 1

    async def _put(self, frame: Frame, image: bytes, ce_id: str, at: datetime) -> None:
        headers = [
            ("content-type", b"image/png"),
            ("ce_id", ce_id.encode()),
            ("captured-at", at.isoformat().encode()),
            ("meta-frame", str(frame.number).encode()),
        ]
        await self.producer.send_and_wait(TOPIC, value=image, key=frame.camera.encode(), headers=headers)
