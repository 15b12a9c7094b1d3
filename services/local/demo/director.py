"""Runs the demo from the first process to the report: each act waits for what the loop does by itself."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import numpy as np
from aiokafka import AIOKafkaProducer

from services.local.demo import apis
from services.local.demo.annotators import Annotators
from services.local.demo.chaos import Chaos
from services.local.demo.client import InferenceClient, wait_live
from services.local.demo.frames import FrameSource, Truth
from services.local.demo.journal import SHADOW, Journal
from services.local.demo.observer import Observer
from services.local.demo.producer import Cameras
from services.local.demo.report import HEALTHY_FRAMES, Facts
from services.local.demo.scenario import HARMLESS_FRAMES, Scenario

MODEL: Final = "demo"
FIRST_LABELS: Final = 12_000
CALLS_A_SECOND: Final = 25.0
BUDGET: Final = 800
PATIENCE_S: Final = 240.0


class Deployment(Protocol):
    """The one-machine deployment, as the demo uses it."""

    bootstrap_servers: str

    def address(self, service: str) -> str:
        """host:port of its gRPC."""

    def url(self, service: str) -> str:
        """Base URL of its HTTP."""

    def kill(self, name: str) -> None: ...

    def is_ready(self, name: str) -> bool: ...

    def processes(self) -> dict[str, dict[str, Any]]:
        """pid, restarts and pss_mb of each."""


class Narrator(Protocol):
    """Tells the person at the terminal what happens."""

    def act(self, name: str) -> None: ...

    def say(self, sentence: str) -> None: ...


@dataclass(slots=True)
class Director:
    """One run on a deployment that is up and ready."""

    deployment: Deployment
    scenario: Scenario
    seed: int
    images: Any
    labels: Any
    class_names: list[str]
    data_name: str
    chaos: bool
    rate: float
    narrator: Narrator
    facts: Facts = field(init=False)
    observer: Observer = field(init=False)
    cameras: Cameras = field(init=False)
    client: InferenceClient = field(init=False)
    annotators: Annotators = field(init=False)
    is_live: bool = False
    """Everything that a status line tells of is there."""

    async def run(self) -> Facts:
        """Play all acts; raises `TimeoutError` naming what did not come."""
        try:
            return await self._play()
        except ExceptionGroup as group:
            late = group.subgroup(TimeoutError)
            if late is None:
                raise
            raise TimeoutError(str(_first(late))) from group

    async def _play(self) -> Facts:
        async with AsyncExitStack() as stack:
            await self._prepare(stack)
            await self._bootstrap()
            await stack.enter_async_context(self._live())
            await self._healthy()
            if self.scenario.mendable:
                await self._drift_and_recovery()
            else:
                await self._nothing_to_mend()
        await self._settle()
        return self.facts

    async def _prepare(self, stack: AsyncExitStack) -> None:
        truth = Truth(self.scenario)
        journal = Journal(truth, self.class_names)
        first = min(FIRST_LABELS, len(self.images) // 2)
        source = FrameSource(self.images[first:], self.labels[first:], self.scenario, self.seed)
        bootstrap = self.deployment.bootstrap_servers
        producer = AIOKafkaProducer(
            bootstrap_servers=bootstrap, enable_idempotence=True, linger_ms=2, max_request_size=8 << 20
        )
        await stack.enter_async_context(producer)
        self.observer = Observer(bootstrap, journal)
        self.cameras = Cameras(producer, source, truth, uuid.uuid4().hex[:12], self.rate)
        calls = self.images[:64, None, :, :]
        self.client = InferenceClient(self.deployment.address("serving"), MODEL, np.asarray(calls), CALLS_A_SECOND)
        self.annotators = Annotators(self.deployment.address("labeling"), truth, self.class_names, BUDGET)
        self.facts = Facts(
            self.scenario, self.seed, {"name": self.data_name, "frames": 0}, {}, journal, self.cameras.sent,
            self.client.calls,
        )  # fmt: skip
        await stack.enter_async_context(running(self.observer.run()))
        self.is_live = True

    async def _bootstrap(self) -> None:
        began = time.monotonic()
        first = min(FIRST_LABELS, len(self.images) // 2)
        self.narrator.act(f"bootstrap: {first:,} labelled images, a first model")
        await apis.import_images(self.deployment, MODEL, self.images[:first], self.labels[:first], self.class_names)
        self.narrator.say(f"imported in {time.monotonic() - began:.0f} s; training")
        await apis.start_run(self.deployment, MODEL, self.seed)
        journal = self.facts.journal
        await self._until("the first model's run", lambda: bool(journal.runs), PATIENCE_S)
        await self._until("the first champion", lambda: bool(journal.champions()), PATIENCE_S)
        await apis.bind(self.deployment, MODEL)
        await wait_live(self.deployment.address("serving"), MODEL, 60.0)
        self.facts.seconds["bootstrap"] = time.monotonic() - began

    @asynccontextmanager
    async def _live(self) -> AsyncIterator[None]:
        """Cameras, client, annotators (and chaos) at work until the acts are over."""
        async with asyncio.TaskGroup() as group:
            works = (self.client.run(), self.annotators.run(), self.cameras.run())
            tasks = [group.create_task(work) for work in works]
            chaos = group.create_task(self._wreak()) if self.chaos else None
            try:
                yield
            finally:
                self.cameras.stopping = self.annotators.stopping = True
                await asyncio.wait(tasks[1:])
                await self._drained()
                self.client.stopping = True
                if chaos is not None:
                    chaos.cancel()

    async def _wreak(self) -> None:
        chaos = Chaos(self.deployment, self.facts.journal, self._sent, self.scenario.onset, self._note_down)
        self.facts.kills = chaos.kills
        await chaos.run()

    def _note_down(self, target: str, down: bool) -> None:
        self.narrator.say(f"[red]killed {target}[/]" if down else f"[green]{target} is back[/]")
        if target in ("serving", "kafka"):
            self.client.down = down

    def _sent(self) -> int:
        return self.cameras.source.sent

    async def _healthy(self) -> None:
        self.narrator.act(f"healthy: {self.scenario.onset:,} frames from five cameras on two sites")
        await self._frames_until(self.scenario.onset)
        self.facts.onset_at = datetime.now(UTC)
        self.annotators.begin_budget()

    async def _drift_and_recovery(self) -> None:
        journal, began = self.facts.journal, time.monotonic()
        self.narrator.act(f"the picture changes: {self.scenario.family.value} on {len(self.scenario.cameras)} cameras")
        await self._until("drift detected", lambda: bool(self._after_onset()), PATIENCE_S)
        self.facts.seconds["detection"] = time.monotonic() - began
        self.narrator.say("the monitor saw it")
        await self._until("a retrain request", lambda: bool(journal.requests), PATIENCE_S)
        asked = time.monotonic()
        self.narrator.act("retraining, asked for by the monitor")
        await self._until("the second champion", lambda: len(journal.champions()) >= 2, PATIENCE_S)
        self.facts.seconds["retrain"] = time.monotonic() - asked
        self.narrator.act("recovered? both models on the same changed frames")
        first = await self._both_answering()
        await self._frames_until(first + self._evaluation_frames())
        self.facts.evaluation = (first, self._sent())

    def _evaluation_frames(self) -> int:
        return int(HEALTHY_FRAMES * 1.35)

    async def _both_answering(self) -> int:
        """The number of the first frame sent after the new champion and the old one in shadow both answer."""
        version = self.facts.journal.champions()[-1].to_version

        def both() -> bool:
            seen = self.facts.journal.versions
            newest = [max(seen[role], default=-1) for role in seen]
            return min(newest) >= 0 and seen["champion"][newest[0]] == version and len(seen[SHADOW]) > 20

        await self._until("answers of both models", both, 60.0)
        return self._sent()

    async def _nothing_to_mend(self) -> None:
        self.narrator.act(f"{self.scenario.family.value}: {HARMLESS_FRAMES:,} more frames, nothing should be done")
        first = self._sent()
        await self._frames_until(self.scenario.onset + HARMLESS_FRAMES)
        self.facts.evaluation = (first, self._sent())

    async def _frames_until(self, number: int) -> None:
        while self._sent() < number:
            await asyncio.sleep(0.05)

    def _after_onset(self) -> list[Any]:
        onset = self.facts.onset_at
        return [i for i in self.facts.journal.drifts if onset and i.detected_at.ToDatetime(tzinfo=UTC) >= onset]

    async def _until(self, what: str, condition: Callable[[], bool], seconds: float) -> None:
        await self.observer.wait_for(what, condition, seconds)

    async def _drained(self) -> None:
        """Every accepted frame has its prediction (or a minute has passed: the report will say what is missing)."""
        journal = self.facts.journal
        try:
            await self._until(
                "the last predictions", lambda: len(journal.answers["champion"]) >= len(journal.truth.label), 60.0
            )
        except TimeoutError as error:
            self.narrator.say(str(error))
        if self.chaos:
            await asyncio.sleep(1.0)

    async def _settle(self) -> None:
        """Ask the owners for what only they know."""
        facts = self.facts
        facts.accepted, facts.rejected = await apis.count_frames(self.deployment, self.scenario)
        facts.in_datasets = await apis.frames_in_datasets(self.deployment, facts.journal)
        model = await apis.model(self.deployment, MODEL)
        facts.champion, facts.versions = model
        facts.runs_after_onset = await apis.runs_since(self.deployment, MODEL, facts.onset_at)
        cut = [version for version in facts.journal.dataset_versions if version.request_id]
        facts.labels_used = int(cut[-1].condition_labels) if cut else 0
        facts.data["frames"] = len(facts.journal.truth.label)
        told = ("pid", "restarts", "pss_mb")
        facts.services = {
            name: {key: process[key] for key in told} for name, process in self.deployment.processes().items()
        }


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[None]:
    """`work` runs beside the block and is cancelled at its end; its failure is raised there."""
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        results = await asyncio.gather(task, return_exceptions=True)
        if isinstance(results[0], Exception):
            raise results[0]
