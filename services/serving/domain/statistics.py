"""What ModelStatistics and the metrics tell of a version: counts and durations, added up as batches end."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

BUCKETS_MS: Final = (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)


@dataclass(slots=True)
class Duration:
    """How often, and how long together, in nanoseconds."""

    count: int = 0
    ns: int = 0

    def add(self, ns: int, count: int = 1) -> None:
        """Add so many of `ns` together."""
        self.count += count
        self.ns += ns


@dataclass(slots=True)
class BatchTimes:
    """Executions of one batch size."""

    compute_input: Duration = field(default_factory=Duration)
    compute_infer: Duration = field(default_factory=Duration)
    compute_output: Duration = field(default_factory=Duration)


@dataclass(slots=True)
class Latency:
    """A histogram of whole requests, milliseconds."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MS) + 1))
    sum_ms: float = 0.0

    def add(self, ms: float) -> None:
        """One request."""
        self.counts[bisect_left(BUCKETS_MS, ms)] += 1
        self.sum_ms += ms


@dataclass(frozen=True, slots=True)
class Execution:
    """One batch that ran, in nanoseconds of the monotonic clock."""

    rows: int
    queued: Sequence[int]
    """When each request was queued."""
    began: int
    ready: int
    """Inputs joined."""
    ran: int
    """Outputs there."""
    ended: int
    """Outputs handed out."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One request that ended in an error."""

    ns: int
    """From the queue to the error."""


class Statistics:
    """Of one version; it is written by one thread at a time (the scheduler's lock is held), but for `refused`."""

    def __init__(self) -> None:
        self.rejected = 0
        """Calls that were refused, or expired, before they ran: there was too much to do."""
        self._refusing = Lock()
        self.last_inference_ms = 0
        """Unix time of the newest request, milliseconds."""
        self.inference_count = 0
        """Images."""
        self.execution_count = 0
        """Batches."""
        self.success = Duration()
        self.fail = Duration()
        self.queue = Duration()
        self.compute_input = Duration()
        self.compute_infer = Duration()
        self.compute_output = Duration()
        self.batches: dict[int, BatchTimes] = {}
        self.latency = Latency()

    def executed(self, run: Execution, now_ms: int) -> None:
        """A batch answered all of its requests."""
        count = len(run.queued)
        into, infer, out = run.ready - run.began, run.ran - run.ready, run.ended - run.ran
        waited = run.began * count - sum(run.queued)
        self.last_inference_ms = now_ms
        self.inference_count += run.rows
        self.execution_count += 1
        self.queue.add(waited, count)
        self.compute_input.add(into * count, count)
        self.compute_infer.add(infer * count, count)
        self.compute_output.add(out * count, count)
        self.success.add(waited + (run.ended - run.began) * count, count)
        for queued in run.queued:
            self.latency.add((run.ended - queued) / 1e6)
        times = self.batches.get(run.rows)
        if times is None:
            times = self.batches[run.rows] = BatchTimes()
        times.compute_input.add(into)
        times.compute_infer.add(infer)
        times.compute_output.add(out)

    def refused(self) -> None:
        """A call found no room, or waited too long; from any thread."""
        with self._refusing:
            self.rejected += 1

    def failed(self, failure: Failure, now_ms: int) -> None:
        """A request ended in an error."""
        self.last_inference_ms = now_ms
        self.fail.add(failure.ns)

    def note(self, outcomes: Sequence[Execution | Failure], now_ms: int) -> None:
        """All that came of a batch."""
        for outcome in outcomes:
            if isinstance(outcome, Execution):
                self.executed(outcome, now_ms)
            else:
                self.failed(outcome, now_ms)
