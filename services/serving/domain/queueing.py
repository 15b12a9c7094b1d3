"""Requests that wait for a model, and which of them run next together: greedy, by priority, within bounds.

Pure: time comes in as nanoseconds of one monotonic clock, and nothing here locks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from services.serving.domain.config import DynamicBatching, QueuePolicy
from services.serving.domain.work import Work, fits
from services.serving.errors import InferenceFailed, Overloaded

Refused = list[tuple[Work, Exception]]
"""Requests that end without having run, and why."""


def cancelled() -> InferenceFailed:
    """What a request ends with that was cancelled before it ran; hardly anyone hears it."""
    return InferenceFailed("The request was cancelled before it ran.", reason="CANCELLED")


class BatchQueue(Protocol):
    """Where the requests of one version wait."""

    def push(self, work: Work, now_ns: int) -> None:
        """Take it in. Raises `Overloaded`, `BadRequest`; then it is not in."""

    def take(self, now_ns: int) -> tuple[list[Work], Refused]:
        """What runs next as one batch (empty: nothing may run now), and what has expired or was cancelled."""

    def done(self, batch: list[Work], now_ns: int) -> None:
        """The batch has run; what it held back may run now."""

    def drain(self) -> list[Work]:
        """Everything that waits, taken out."""

    def wake_ns(self) -> int:
        """When to take again although nothing was pushed or done; 0: never."""

    def __len__(self) -> int:
        """Requests that wait."""


class GreedyQueue:
    """Runs what waits as soon as the model is free; there is no waiting timer. Implements `BatchQueue`."""

    def __init__(self, model: str, batching: DynamicBatching | None, max_rows: int, most_queued: int) -> None:
        """`max_rows`: of one batch; `most_queued`: images of clients that may wait."""
        self._model = model
        self._batching = batching or DynamicBatching()
        self._max_rows = max_rows if batching else 0
        self._most_queued = most_queued
        self._levels: list[deque[Work]] = [deque() for _ in range(max(1, self._batching.priority_levels))]
        self._delayed: deque[Work] = deque()
        self._background: deque[Work] = deque()
        self._queued_rows = 0
        self._timed = False

    def __len__(self) -> int:
        return sum(map(len, self._levels)) + len(self._delayed) + len(self._background)

    def push(self, work: Work, now_ns: int) -> None:
        """Raises `Overloaded` when the bound of images, or the policy's of requests, is reached."""
        work.queued_ns = work.queued_ns or now_ns
        if work.background:
            self._background.append(work)
            return
        level = self._level(work)
        waiting = self._levels[level]
        policy = self._batching.policy(level + 1)
        if self._queued_rows and self._queued_rows + work.rows > self._most_queued:
            raise Overloaded(
                f"Exceeds maximum queue size: {self._queued_rows} images wait for model {self._model!r} already; "
                "try again in a moment."
            )
        if policy.max_queue_size and len(waiting) >= policy.max_queue_size:
            raise Overloaded(f"Exceeds maximum queue size of {policy.max_queue_size} for model {self._model!r}.")
        self._set_expiry(work, policy)
        self._queued_rows += work.rows
        waiting.append(work)

    def take(self, now_ns: int) -> tuple[list[Work], Refused]:
        """Clients' calls by priority, then the delayed ones, then the background; a batch holds one of the three."""
        refused = self._expire(now_ns) if self._timed else []
        batch: list[Work] = []
        for waiting in self._levels:
            self._fill(batch, waiting, refused)
        if not batch:
            self._fill(batch, self._delayed, refused)
        self._queued_rows -= sum(work.rows for work in batch)
        if not batch:
            self._fill(batch, self._background, refused)
        return batch, refused

    def done(self, batch: list[Work], now_ns: int) -> None:
        """Nothing waited for it."""

    def drain(self) -> list[Work]:
        """In order of priority."""
        found = [work for waiting in self._all() for work in waiting]
        for waiting in self._all():
            waiting.clear()
        self._queued_rows = 0
        return found

    def wake_ns(self) -> int:
        """Whatever waits runs as soon as the model is free."""
        return 0

    def _all(self) -> Iterator[deque[Work]]:
        yield from self._levels
        yield self._delayed
        yield self._background

    def _level(self, work: Work) -> int:
        """From 0. A priority that the model has not goes to its default, as Triton does."""
        levels = self._batching.priority_levels
        asked = work.asked.priority
        if not levels:
            return 0
        known = asked if 1 <= asked <= levels else self._batching.default_priority_level or levels
        return known - 1

    def _set_expiry(self, work: Work, policy: QueuePolicy) -> None:
        timeout_us = policy.default_timeout_us
        asked = work.asked.timeout_us
        if policy.allow_timeout_override and asked and (not timeout_us or asked < timeout_us):
            timeout_us = asked
        if timeout_us:
            work.expires_ns = work.queued_ns + timeout_us * 1000
            self._timed = True

    def _expire(self, now_ns: int) -> Refused:
        refused: Refused = []
        for level, waiting in enumerate(self._levels):
            late = [work for work in waiting if work.expires_ns and work.expires_ns <= now_ns]
            if not late:
                continue
            kept = [work for work in waiting if not work.expires_ns or work.expires_ns > now_ns]
            waiting.clear()
            waiting.extend(kept)
            if self._batching.policy(level + 1).delay:
                self._delayed.extend(late)
                continue
            self._queued_rows -= sum(work.rows for work in late)
            refused += [(work, Overloaded("Request timeout expired", reason="TIMEOUT")) for work in late]
        return refused

    def _fill(self, batch: list[Work], waiting: deque[Work], refused: Refused) -> None:
        """Move what fits from the queue's head into the batch; requests of callers that went away end here."""
        rows = sum(work.rows for work in batch)
        while waiting:
            work = waiting[0]
            if batch and (rows + work.rows > self._max_rows or not fits(work, batch[0])):
                break
            waiting.popleft()
            if work.cancelled:
                if not work.background:
                    self._queued_rows -= work.rows
                refused.append((work, cancelled()))
                continue
            batch.append(work)
            rows += work.rows
