"""A batch on its way through a backend: joined along the first dimension, run, split again, handed out."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from services.common.errors import IrisloopError
from services.common.telemetry import log
from services.serving.domain import statistics
from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.ports import Backend, GroupBackend
from services.serving.domain.sequences import with_controls
from services.serving.domain.work import Arrays, Result, Work
from services.serving.errors import InferenceFailed

Outcome = statistics.Execution | statistics.Failure


class Execution:
    """The steps between a queue and a backend."""

    def __init__(self, config: ModelConfig, backend: Backend) -> None:
        self._backend = backend
        self._group = backend if isinstance(backend, GroupBackend) and not backend.joins else None
        self._model = config.name
        self._batched = config.max_batch_size > 0
        self._decoupled = config.decoupled
        self._controls = tuple(config.sequence_batching.controls) if config.sequence_batching else ()
        self._into = [tensor for tensor in config.inputs if tensor.reshape is not None]
        self._back = [tensor for tensor in config.outputs if tensor.reshape is not None]

    def run(self, batch: list[Work]) -> list[Outcome]:
        """Answer every request of the batch; when several fail together, each runs alone, so that one bad request
        cannot fail the others.
        """
        if len(batch) > 1 and (self._decoupled or not (self._backend.joins or self._group)):
            return [outcome for work in batch for outcome in self.run([work])]
        began = time.perf_counter_ns()
        for work in batch:
            work.started_ns = began
        if self._decoupled:
            return self._stream(batch[0], began)
        if self._group is not None and len(batch) > 1:
            return self._side_by_side(self._group, batch, began)
        try:
            inputs = self._inputs(batch)
            ready = time.perf_counter_ns()
            ((outputs, _),) = self._backend.run(inputs, batch[0].asked)
            ran = time.perf_counter_ns()
            parts = self._split(outputs, batch)
        except Exception as error:
            return self._failed(batch, error)
        for work, part in zip(batch, parts, strict=True):
            tell(work, part, True)
        return [_executed(batch, began, ready, ran)]

    def _side_by_side(self, backend: GroupBackend, batch: list[Work], began: int) -> list[Outcome]:
        """Requests that run together unjoined: one that fails leaves the others alone."""
        try:
            requests = [(self._inputs([work]), work.asked) for work in batch]
            ready = time.perf_counter_ns()
            found = backend.run_group(requests)
            ran = time.perf_counter_ns()
            results = [self._result(work, one) for work, one in zip(batch, found, strict=True)]
        except Exception as error:
            return self._failed(batch, error)
        good = [work for work, result in zip(batch, results, strict=True) if not isinstance(result, Exception)]
        for work, result in zip(batch, results, strict=True):
            tell(work, result, True)
        now = time.perf_counter_ns()
        outcomes: list[Outcome] = [statistics.Failure(now - work.queued_ns) for work in batch if work not in good]
        return [*outcomes, _executed(good, began, ready, ran)] if good else outcomes

    def _result(self, work: Work, found: Arrays | Exception) -> Result:
        try:
            return self._known(found) if isinstance(found, Exception) else self._split(found, [work])[0]
        except Exception as error:
            return self._known(error)

    def _stream(self, work: Work, began: int) -> list[Outcome]:
        """A decoupled request: each answer goes out as it comes."""
        try:
            inputs = self._inputs([work])
            ready = time.perf_counter_ns()
            ended = False
            for outputs, ended in self._backend.run(inputs, work.asked):
                tell(work, self._shaped(outputs, self._back, work.rows, back=True), ended)
                if work.cancelled or ended:
                    break
        except Exception as error:
            return self._failed([work], error)
        if not ended:
            tell(work, None, True)
        now = time.perf_counter_ns()
        return [statistics.Execution(work.rows, [work.queued_ns], began, ready, now, now)]

    def _inputs(self, batch: list[Work]) -> Arrays:
        joined = _joined(batch)
        if self._into:
            joined = self._shaped(joined, self._into, sum(work.rows for work in batch), back=False)
        return with_controls(joined, batch, self._controls, self._batched)

    def _split(self, outputs: Arrays, batch: list[Work]) -> Sequence[Arrays]:
        rows = sum(work.rows for work in batch)
        if self._back:
            outputs = self._shaped(outputs, self._back, rows, back=True)
        if len(batch) == 1:
            return [outputs]
        for name, array in outputs.items():
            if not array.shape or array.shape[0] != rows:
                raise InferenceFailed(
                    f"Model {self._model!r} gave output {name!r} of the shape {list(array.shape)} for {rows} images; "
                    "its first dimension must be the batch."
                )
        parts: list[Arrays] = []
        start = 0
        for work in batch:
            end = start + work.rows
            parts.append({name: array[start:end] for name, array in outputs.items()})
            start = end
        return parts

    def _shaped(self, arrays: Arrays, tensors: list[TensorConfig], rows: int, *, back: bool) -> Arrays:
        """Between the shapes that clients see and those that the graph sees."""
        lead = (rows,) if self._batched else ()
        shapes = {tensor.name: tensor.dims if back else tensor.reshape or () for tensor in tensors}
        return {name: array.reshape(lead + shapes[name]) if name in shapes else array for name, array in arrays.items()}

    def _failed(self, batch: list[Work], error: Exception) -> list[Outcome]:
        if len(batch) > 1:
            return [outcome for work in batch for outcome in self.run([work])]
        work = batch[0]
        tell(work, self._known(error), True)
        return [statistics.Failure(time.perf_counter_ns() - work.queued_ns)]

    def _known(self, error: Exception) -> Result:
        if isinstance(error, IrisloopError):
            return error
        log.error("inference_failed", model=self._model, error=repr(error), exc_info=error)
        return InferenceFailed(f"Model {self._model!r} failed: {str(error)[:500] or repr(error)}")


def tell(work: Work, result: Result, last: bool) -> None:
    """Hand a result over; whoever cannot take it must not stop the thread that other requests wait for."""
    try:
        work.sink(result, last)
    except Exception as error:
        log.error("answer_not_taken", error=repr(error), exc_info=error)


def _executed(batch: list[Work], began: int, ready: int, ran: int) -> statistics.Execution:
    rows = sum(work.rows for work in batch)
    ended = time.perf_counter_ns()
    return statistics.Execution(rows, [work.queued_ns for work in batch], began, ready, ran, ended)


def _joined(batch: list[Work]) -> Arrays:
    if len(batch) == 1:
        return batch[0].inputs
    return {name: np.concatenate([work.inputs[name] for work in batch]) for name in batch[0].inputs}
