"""A run: what it is, which states it goes through, and which steps are allowed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.trainer.errors import RunOver


class RunState(StrEnum):
    """WAITING for labels -> QUEUED -> RUNNING -> one of the three ends; CANCELLED from anywhere before an end."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Run:
    """One run. Times are aware, UTC; `result` is the child's answer as protobuf bytes once there is one.

    `labels_since`, `labels_wanted` and `cameras` say what a waiting run waits for. `weights` names the torch weights in
    the object store that a later run may start from. `epoch` counts the epochs that are done.
    """

    id: str
    model: str
    state: RunState
    request_id: str
    requested_by: str
    dataset: str
    dataset_version: int
    seed: int
    epochs: int
    from_scratch: bool
    created_at: datetime
    labels_since: datetime | None = None
    labels_wanted: int = 0
    cameras: tuple[str, ...] = ()
    expires_at: datetime | None = None
    waiting_for: str = ""
    warm_start_from: str = ""
    epoch: int = 0
    attempts: int = 0
    started_at: datetime | None = None
    finished_at: datetime | None = None
    error: str = ""
    weights: str = ""
    condition_labels: int = 0
    package: bytes = b""
    report: bytes = b""
    class_names: tuple[str, ...] = ()
    traceparent: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing will happen to it any more."""
        return self.state in OVER

    def wait(self, for_what: str) -> Run:
        """Labels are missing."""
        return replace(self._going_on(), state=RunState.WAITING, waiting_for=for_what)

    def queue(self, dataset_version: int, condition_labels: int) -> Run:
        """Its dataset version is there."""
        return replace(
            self._going_on(),
            state=RunState.QUEUED,
            dataset_version=dataset_version,
            condition_labels=condition_labels,
            waiting_for="",
        )

    def start(self, at: datetime, warm_start_from: str) -> Run:
        """A process is about to be started for it, for the first time or again."""
        begun = self.started_at or at
        run = replace(self._going_on(), state=RunState.RUNNING, attempts=self.attempts + 1, started_at=begun)
        return replace(run, warm_start_from=warm_start_from)

    def end(self, state: RunState, at: datetime, error: str = "") -> Run:
        """It is over."""
        return replace(self._going_on(), state=state, finished_at=at, error=error, waiting_for="")

    def _going_on(self) -> Run:
        if self.is_over:
            raise RunOver(f"run {self.id} is over: {self.state.value}", field="run_id")
        return self
