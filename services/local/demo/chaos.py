"""`--chaos`: each service and Kafka are killed once, by SIGKILL, in the middle of what they do best."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from services.local.demo.journal import Journal

RUNNING_EPOCH: Final = 1


class Deployment(Protocol):
    """What chaos needs of the one-machine deployment."""

    def kill(self, name: str) -> None: ...

    def is_ready(self, name: str) -> bool: ...


@dataclass(slots=True)
class Kill:
    """One kill; `frame` is the number of live frames sent when it was done."""

    target: str
    phase: str
    frame: int
    seconds_down: float = 0.0


@dataclass(slots=True)
class Chaos:
    """Waits for each target's moment, kills it, and measures until it is ready again.

    `moments` maps a target to the phase's name and a test of the journal; `healthy_frames` is read from `frames_sent`.
    """

    deployment: Deployment
    journal: Journal
    frames_sent: Callable[[], int]
    onset: int
    on_down: Callable[[str, bool], None]
    kills: list[Kill] = field(default_factory=list)

    async def run(self) -> None:
        """Kill each target once, each when its own moment has come; ends when all have been killed and are back."""
        async with asyncio.TaskGroup() as group:
            for target, (phase, came) in self._moments().items():
                group.create_task(self._kill_at(target, phase, came))

    def _moments(self) -> dict[str, tuple[str, Callable[[], bool]]]:
        journal, sent = self.journal, self.frames_sent
        return {
            "ingest": ("frames in flight, healthy", lambda: sent() >= self.onset // 3),
            "serving": ("frames in flight, healthy", lambda: sent() >= 2 * self.onset // 3),
            "monitor": ("between alarm and request", lambda: bool(journal.drifts) and sent() >= self.onset),
            "labeling": ("a run waits for labels", lambda: bool(self._retrain_waits())),
            "kafka": ("drifted, a run waits for labels", lambda: self._since_waiting() >= 1),
            "trainer": ("in an epoch", lambda: self._epochs_of_retraining() >= RUNNING_EPOCH),
            "registry": ("in a promotion", lambda: len(journal.runs) >= 2),
        }

    def _retrain_waits(self) -> list[str]:
        asked = {request.request_id for request in self.journal.requests}
        return [message.run.id for message in self.journal.waiting if message.run.request_id in asked]

    def _since_waiting(self) -> int:
        return sum(kill.target == "labeling" and kill.seconds_down > 0 for kill in self.kills)

    def _epochs_of_retraining(self) -> int:
        first = self.journal.runs[0].id if self.journal.runs else ""
        return sum(message.run_id != first for message in self.journal.progress) if first else 0

    async def _kill_at(self, target: str, phase: str, came: Callable[[], bool]) -> None:
        while not came():
            await asyncio.sleep(0.02)
        loop = asyncio.get_running_loop()
        kill = Kill(target, phase, self.frames_sent())
        self.on_down(target, True)
        self.deployment.kill(target)
        began = loop.time()
        await asyncio.sleep(0.2)
        while not self.deployment.is_ready(target):
            await asyncio.sleep(0.1)
        kill.seconds_down = round(loop.time() - began, 1)
        self.kills.append(kill)
        self.on_down(target, False)
