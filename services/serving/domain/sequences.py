"""Requests of sequences: each sequence runs in order, one request at a time; several sequences run together.

Pure, as `services.serving.domain.queueing`. Triton's sequence batcher is the model: START, END and a correlation id
mark the requests, and a graph hears of them through control inputs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.serving.domain.config import Control, ControlKind, SequenceBatching
from services.serving.domain.queueing import Refused, cancelled
from services.serving.domain.tensors import DTYPES
from services.serving.domain.work import Arrays, SequenceMark, Work, fits
from services.serving.errors import BadRequest, Overloaded

NO_SEQUENCE: Final = SequenceMark(0)


@dataclass(slots=True, eq=False)
class Sequence:
    """A sequence that has begun and may still hold requests."""

    id: int | str
    waiting: deque[Work] = field(default_factory=deque)
    running: bool = False
    used_ns: int = 0
    ended: bool = False
    """No further request will join it."""
    after: Sequence | None = None
    """The one before under the same id: this one runs when that one is over, so that the graph sees them in order."""

    @property
    def over(self) -> bool:
        """Whether it may leave."""
        return self.ended and not self.waiting and not self.running

    def may_run(self) -> bool:
        """Whether its next request may run now."""
        if self.after is not None and self.after.over:
            self.after = None
        return bool(self.waiting) and not self.running and self.after is None


class SequenceQueue:
    """Implements `BatchQueue` for models with sequence batching."""

    def __init__(self, model: str, batching: SequenceBatching, max_rows: int, instances: int, most_queued: int) -> None:
        """`max_rows`: sequences in one batch, at least 1. `most_queued`: requests that may wait."""
        candidates = batching.max_candidate_sequences if batching.strategy == "oldest" else 0
        self._model = model
        self._idle_ns = batching.max_sequence_idle_us * 1000
        self._max_rows = max(1, max_rows)
        self._slots = (candidates or self._max_rows) * instances
        self._most_queued = most_queued
        self._open: dict[int | str, Sequence] = {}
        self._seated: list[Sequence] = []
        """Those that hold a slot, oldest first."""
        self._last: dict[int | str, Sequence] = {}
        """The newest under each id that is not over."""
        self._backlog: deque[Sequence] = deque()
        """Those that wait for a slot, oldest first."""
        self._running: dict[Work, Sequence] = {}
        self._queued = 0
        self._expiry_ns = 0
        """No sequence is idle for too long before then."""

    def __len__(self) -> int:
        return self._queued

    def push(self, work: Work, now_ns: int) -> None:
        """Raises `BadRequest` without a correlation id or before a START; `Overloaded`."""
        mark = work.asked.sequence or NO_SEQUENCE
        self._check(work, mark)
        self.expire(now_ns)
        sequence = self._sequence(mark)
        work.queued_ns = work.queued_ns or now_ns
        sequence.used_ns = now_ns
        sequence.waiting.append(work)
        self._queued += 1
        if mark.end:
            self._end(sequence)

    def take(self, now_ns: int) -> tuple[list[Work], Refused]:
        """The next request of each of the oldest sequences that have one and are not running."""
        if self._backlog:
            self.expire(now_ns)
        refused = self._cancelled()
        batch: list[Work] = []
        for sequence in self._seated:
            if len(batch) == self._max_rows:
                break
            if not sequence.may_run() or (batch and not fits(sequence.waiting[0], batch[0])):
                continue
            work = sequence.waiting.popleft()
            sequence.running = True
            self._running[work] = sequence
            batch.append(work)
        self._queued -= len(batch)
        return batch, refused

    def done(self, batch: list[Work], now_ns: int) -> None:
        """Sequences that are over leave their slots, and the backlog moves up."""
        for work in batch:
            sequence = self._running.pop(work)
            sequence.running = False
            sequence.used_ns = now_ns
        self._leave()

    def expire(self, now_ns: int) -> None:
        """Forget sequences that were idle for longer than the model allows."""
        if now_ns < self._expiry_ns:
            return
        self._expiry_ns = now_ns + self._idle_ns
        for sequence in [one for one in self._open.values() if not one.waiting and not one.running]:
            expiry_ns = sequence.used_ns + self._idle_ns
            if expiry_ns < now_ns:
                self._end(sequence)
            else:
                self._expiry_ns = min(self._expiry_ns, expiry_ns + 1)
        self._leave()

    def drain(self) -> list[Work]:
        """In the order of the sequences; none of them is open any longer."""
        sequences = [*self._seated, *self._backlog]
        found = [work for sequence in sequences for work in sequence.waiting]
        for sequence in sequences:
            sequence.waiting.clear()
            self._end(sequence)
        self._queued = 0
        return found

    def wake_ns(self) -> int:
        """When the first of the sequences that hold a slot has been idle for too long, while others wait for one."""
        idle = [one.used_ns for one in self._seated if not one.waiting and not one.running]
        return min(idle) + self._idle_ns + 1 if self._backlog and idle else 0

    def _cancelled(self) -> Refused:
        """A request that was cancelled ends its sequence, whose state would miss it, and what waits behind it."""
        refused: Refused = []
        while broken := [one for one in self._seated if one.waiting and one.waiting[0].cancelled and not one.running]:
            for sequence in broken:
                refused += [
                    (work, cancelled() if work.cancelled else self._torn(sequence)) for work in sequence.waiting
                ]
                self._queued -= len(sequence.waiting)
                sequence.waiting.clear()
                self._end(sequence)
            self._leave()
        return refused

    def _torn(self, sequence: Sequence) -> BadRequest:
        return BadRequest(
            f"an earlier request of sequence {str(sequence.id)[:128]} to model {self._model!r} was cancelled; begin it "
            "again with the START flag",
            field="parameters.sequence_start",
        )

    def _check(self, work: Work, mark: SequenceMark) -> None:
        if not mark.id:
            raise BadRequest(
                f"inference request to model {self._model!r} must specify a non-zero or non-empty correlation ID",
                field="parameters.sequence_id",
            )
        if work.rows != 1:
            raise BadRequest(
                f"inference request to model {self._model!r} must specify batch-size 1 due to requirements of "
                "sequence batcher",
                field="inputs",
            )
        if self._queued >= self._most_queued:
            raise Overloaded(f"Exceeds maximum queue size: {self._queued} requests wait for model {self._model!r}.")

    def _sequence(self, mark: SequenceMark) -> Sequence:
        """The one that is open under this id, or a new one; a START on an open one ends that and begins anew.

        One that has ended and still holds requests runs first.
        """
        known = self._open.get(mark.id)
        if known is not None and not mark.start:
            return known
        if not mark.start:
            raise BadRequest(
                f"inference request for sequence {str(mark.id)[:128]} to model {self._model!r} must specify the START "
                "flag on the first request of the sequence",
                field="parameters.sequence_start",
            )
        if known is not None:
            self._end(known)
        sequence = self._open[mark.id] = Sequence(mark.id, after=self._last.get(mark.id))
        self._last[mark.id] = sequence
        self._backlog.append(sequence)
        self._leave()
        return sequence

    def _end(self, sequence: Sequence) -> None:
        sequence.ended = True
        if self._open.get(sequence.id) is sequence:
            del self._open[sequence.id]

    def _leave(self) -> None:
        for sequence in [one for one in self._seated if one.over]:
            self._seated.remove(sequence)
            self._forget(sequence)
        while self._backlog and len(self._seated) < self._slots:
            sequence = self._backlog.popleft()
            if sequence.over:
                self._forget(sequence)
            else:
                self._seated.append(sequence)

    def _forget(self, sequence: Sequence) -> None:
        if self._last.get(sequence.id) is sequence:
            del self._last[sequence.id]


def with_controls(inputs: Arrays, batch: list[Work], controls: tuple[Control, ...], batched: bool) -> Arrays:
    """The inputs of a joined batch and one value a row for each control: shape [rows, 1], or [1] without a batch."""
    if not controls:
        return inputs
    shape = (len(batch), 1) if batched else (1,)
    marks = [work.asked.sequence or NO_SEQUENCE for work in batch]
    return {**inputs, **{control.name: _values(control, marks).reshape(shape) for control in controls}}


def _values(control: Control, marks: list[SequenceMark]) -> NDArray[Any]:
    if control.kind is ControlKind.CORRID:
        return _correlation_ids(control, marks)
    said = {
        ControlKind.START: [mark.start for mark in marks],
        ControlKind.END: [mark.end for mark in marks],
        ControlKind.READY: [True] * len(marks),
    }[control.kind]
    no, yes = control.false_true
    return np.array([yes if one else no for one in said]).astype(DTYPES[control.datatype])


def _correlation_ids(control: Control, marks: list[SequenceMark]) -> NDArray[Any]:
    if control.datatype == "BYTES":
        return np.array([str(mark.id).encode() for mark in marks] + [None], dtype=np.object_)[:-1]
    if any(isinstance(mark.id, str) for mark in marks):
        raise BadRequest(
            f"control input {control.name!r} takes {control.datatype} correlation ids, not strings",
            field="parameters.sequence_id",
        )
    return np.array([mark.id for mark in marks], dtype=DTYPES[control.datatype])
