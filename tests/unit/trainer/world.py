"""A trainer for tests: its own database file, a memory bus, neighbours and processes that do as the test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import DATASET_VERSION_CREATED, RETRAIN_REQUESTED

from services.common.bus import Event, MemoryBroker, MemoryBus, Topic, derive_id
from services.common.database import Database, sqlite_url
from services.common.errors import NotFound, Unavailable
from services.common.outbox import OutboxRelay
from services.common.settings import CommonSettings
from services.trainer.app import MIGRATIONS
from services.trainer.domain.jobs import Answer, Job, ModelReport, Opponent, Score
from services.trainer.domain.ports import Champion, DatasetVersion, EpochDone, LabelsAnswer
from services.trainer.domain.runs import Run, RunState
from services.trainer.evaluation import Evaluations
from services.trainer.handlers import Handlers
from services.trainer.inbound.kafka import Listener
from services.trainer.outbound.book import SqlBooks
from services.trainer.outbound.tables import metadata
from services.trainer.scheduler import Scheduler
from services.trainer.settings import TrainerSettings
from services.trainer.wire import timestamp
from tests.waiting import until

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
TRACE = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
CLASSES = ("coat", "boot")
RUN = Run(
    id="run-1",
    model="garments",
    state=RunState.WAITING,
    request_id="r-1",
    requested_by="ann",
    dataset="garments",
    dataset_version=0,
    seed=7,
    epochs=0,
    from_scratch=False,
    created_at=START,
)


def version(number: int = 1, dataset: str = "garments") -> DatasetVersion:
    """A dataset version."""
    return DatasetVersion(dataset, number, f"{number:064x}", CLASSES, 40)


@dataclass
class FakeLabeling:
    """Labeling, as far as trainer asks it."""

    versions: dict[tuple[str, int], DatasetVersion] = field(default_factory=dict)
    ready: dict[str, DatasetVersion] = field(default_factory=dict)
    """Versions that requests have led to."""
    present: int = 0
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    cameras: Sequence[str] = ()
    cancelled: list[str] = field(default_factory=list)

    async def request(self, run: Run) -> LabelsAnswer:
        self.asked.append(run.request_id)
        self.cameras = run.cameras
        if self.error is not None:
            raise self.error
        return LabelsAnswer(self.ready.get(run.request_id), self.present, run.labels_wanted)

    async def cancel(self, request_id: str) -> None:
        if self.error is not None:
            raise self.error
        self.cancelled.append(request_id)

    async def version(self, dataset: str, version: int) -> DatasetVersion:
        if self.error is not None:
            raise self.error
        if (dataset, version) not in self.versions:
            raise NotFound(f"no version {version} of dataset `{dataset}`", field="version")
        return self.versions[dataset, version]


@dataclass
class FakeRegistry:
    """Registry, as far as trainer asks it."""

    live: Champion | None = None
    error: Exception | None = None

    async def champion(self, model: str) -> Champion | None:
        if self.error is not None:
            raise self.error
        return self.live

    async def version(self, model: str, version: str) -> Opponent:
        if self.live is None or version not in (self.live.version, "champion"):
            raise NotFound(f"no version `{version}`", field="version")
        return Opponent(self.live.version, self.live.package)


@dataclass
class FakeProcesses:
    """Carries jobs out by what the test puts in; waits for `open` first."""

    root: Path
    outcomes: list[Answer | Exception] = field(default_factory=list)
    jobs: list[Job] = field(default_factory=list)
    stopped: int = 0
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def folder(self, run_id: str) -> Path:
        return self.root / run_id

    async def carry_out(self, job: Job, on_epoch: Callable[[EpochDone], None]) -> Answer:
        self.jobs.append(job)
        try:
            on_epoch(EpochDone(1, job.epochs, 0.7, 0.6, 1.5))
            await self.open.wait()
        except asyncio.CancelledError:
            self.stopped += 1
            raise
        outcome = self.outcomes.pop(0) if self.outcomes else answer()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


def answer(error: str = "") -> Answer:
    """What a process leaves behind."""
    score = Score("all", 90, 0.9, 0.85, 0.95, 0.3, {"coat": 0.9})
    reports = [ModelReport("challenger", "", [score], 0.4)]
    return Answer("d" * 64, 1000, "c2ln", "k" * 64, "w" * 64, reports, 1e-6, 64, error)


CHAMPION = Champion("3", "c" * 64, "run-of-3", "garments")


@dataclass
class World:
    """Trainer, wired as the app wires it."""

    database: Database
    bus: MemoryBus
    folder: Path
    now: datetime = START
    labeling: FakeLabeling = field(default_factory=FakeLabeling)
    registry: FakeRegistry = field(default_factory=FakeRegistry)

    def __post_init__(self) -> None:
        """Wire."""
        ids = count(1)
        self.processes = FakeProcesses(self.folder / "runs")
        self.books = SqlBooks(self.database)
        settings = TrainerSettings(common=CommonSettings(home=self.folder), most_attempts=3)
        wiring = (self.books, self.labeling, self.registry)
        self.scheduler = Scheduler(*wiring, self.processes, settings, self.clock)
        draw = lambda: f"{next(ids):08d}-0000-4000-8000-000000000000"  # noqa: E731 - a clock's sister
        self.handlers = Handlers(*wiring, self.clock, draw, self.scheduler.wake)
        self.evaluations = Evaluations(*wiring, self.processes, settings, self.clock)
        Listener(self.handlers).listen(self.bus)
        self.relay = OutboxRelay(self.database, self.bus)

    def clock(self) -> datetime:
        """What the test says."""
        return self.now

    async def settle(self) -> None:
        """Deliver everything and publish everything."""
        await self.bus.settle()
        while await self.relay._publish_batch():
            pass
        await self.bus.settle()

    async def said(self, topic: Topic[Any]) -> list[Any]:
        """The values published on a topic, in order."""
        await self.settle()
        return [delivery.value for delivery in self.bus.events(topic)]

    async def run(self, run_id: str) -> Run:
        """As it stands now."""
        return await self.books.read(lambda book: book.run(run_id))

    async def run_of(self, request_id: str) -> Run:
        """The run of a request."""
        run = await self.books.read(lambda book: book.run_of_request(request_id))
        assert run is not None
        return run

    async def request(self, request_id: str = "r-1", wanted: int = 40, expires_after_s: float = 3600) -> None:
        """The monitor asks for retraining."""
        value = monitor_pb2.RetrainRequested(
            request_id=request_id,
            model="garments",
            labels_wanted=wanted,
            labels_since=timestamp(START),
            expires_at=timestamp(START + timedelta(seconds=expires_after_s)),
            cameras=("gate-1", "gate-2"),
        )
        event = Event(RETRAIN_REQUESTED, "garments", value, derive_id("request", request_id), START, TRACE)
        await self.bus.publish([event])

    async def cut(self, request_id: str, number: int = 4) -> None:
        """Labeling says that the version of a request is there."""
        found = self.labeling.versions.setdefault(("garments", number), version(number))
        message = labeling_pb2.DatasetVersion(
            dataset="garments",
            version=number,
            class_names=CLASSES,
            request_id=request_id,
            condition_labels=found.condition_labels,
        )
        message.manifest.digest = found.manifest
        value = labeling_pb2.DatasetVersionCreated(version=message)
        event = Event(DATASET_VERSION_CREATED, "garments", value, derive_id("cut", request_id), START, TRACE)
        await self.bus.publish([event])
        await self.settle()

    @asynccontextmanager
    async def scheduling(self) -> AsyncIterator[None]:
        """The scheduler runs inside of the block."""
        task = asyncio.create_task(self.scheduler.run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def until(self, run_id: str, state: RunState) -> Run:
        """Wait until a run is in a state."""

        async def reached() -> Run | None:
            run = await self.run(run_id)
            return run if run.state is state else None

        found: Run = await until(reached, what=f"{state} of {run_id}")
        return found


@asynccontextmanager
async def world(folder: Path, broker: MemoryBroker | None = None) -> AsyncIterator[World]:
    """Opened on a folder; opening it again is a restart."""
    async with Database(sqlite_url(folder, "trainer"), metadata, migrations=MIGRATIONS) as database:
        one = World(database, MemoryBus(broker, service="trainer"), folder)
        one.labeling.versions["garments", 1] = version(1)
        yield one


AWAY = Unavailable("labeling does not answer")
