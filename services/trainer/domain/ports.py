"""What the handlers need of the outside, as Protocols that `outbound` implements."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from services.trainer.domain.jobs import Answer, Job, Opponent
from services.trainer.domain.runs import Run, RunState

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class EpochDone:
    """A line of the child's: one epoch is over. `epoch` counts from 1."""

    epoch: int
    epochs: int
    train_loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """A dataset version as trainer needs it."""

    dataset: str
    version: int
    manifest: str
    class_names: tuple[str, ...]
    condition_labels: int


@dataclass(frozen=True, slots=True)
class LabelsAnswer:
    """What labeling said to a request: the version, or how far it is."""

    version: DatasetVersion | None
    present: int
    wanted: int


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that is live, and the run it came from."""

    version: str
    package: str
    run_id: str
    dataset: str


class Book(Protocol):
    """Trainer's runs inside one transaction; what is said leaves with its commit. Times are aware, UTC."""

    def run(self, run_id: str) -> Run:
        """Raises `UnknownRun`."""

    def run_of_request(self, request_id: str) -> Run | None: ...

    def runs(
        self,
        *,
        model: str = "",
        dataset: str = "",
        state: RunState | None = None,
        since: datetime | None = None,
        limit: int = 100,
        before: str = "",
    ) -> Sequence[Run]:
        """Newest first; `before` is a run id that the page continues after."""

    def save(self, run: Run) -> Run:
        """Insert or replace."""

    def say_waiting(self, run: Run, at: datetime) -> None: ...

    def say_progressed(self, run: Run, done: EpochDone, at: datetime) -> None: ...

    def say_finished(self, run: Run, at: datetime) -> None: ...

    def say_evaluated(self, model: str, version: str, report: bytes, at: datetime) -> None: ...


class Books(Protocol):
    """Opens books."""

    async def transact(self, work: Callable[[Book], T]) -> T:
        """Run `work` in one transaction."""

    async def read(self, work: Callable[[Book], T]) -> T: ...


class Labeling(Protocol):
    """The owner of datasets. Raises `Unavailable`, `NotFound`."""

    async def request(self, run: Run) -> LabelsAnswer:
        """Ask for the version that a run waits for; asking again is asking once, by the run's `request_id`."""

    async def cancel(self, request_id: str) -> None: ...

    async def version(self, dataset: str, version: int) -> DatasetVersion: ...


class Registry(Protocol):
    """The owner of versions. Raises `Unavailable`."""

    async def champion(self, model: str) -> Champion | None: ...

    async def version(self, model: str, version: str) -> Opponent: ...


class Launcher(Protocol):
    """Carries a job out in a process of its own."""

    def folder(self, run_id: str) -> Path:
        """Where the run's files are."""

    async def carry_out(self, job: Job, on_epoch: Callable[[EpochDone], None]) -> Answer:
        """Start the process, or resume what an earlier one left; cancelling stops it. Raises `ChildFailed`."""
