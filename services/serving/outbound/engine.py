"""A graph in onnxruntime with a thread and a queue of its own: what is queued when the runtime gets free runs together.

There is no waiting timer: a single call runs at once, and a batch forms by itself while another one runs.
"""

from __future__ import annotations

import asyncio
import ctypes
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from services.common.metrics import SERVING_BATCH, SERVING_COMPUTE_SECONDS
from services.serving.domain.tensors import Array, TensorSpec
from services.serving.errors import InferenceFailed, Overloaded

Arrays = Mapping[str, Array]


class Session(Protocol):
    """What is used of `onnxruntime.InferenceSession`."""

    def run(self, names: Sequence[str], feed: Arrays) -> Sequence[Array]: ...


@dataclass(slots=True, eq=False)
class Work:
    """A call that waits, or runs."""

    inputs: Arrays
    rows: int
    done: asyncio.Future[Arrays]


class OnnxEngine:
    """Implements `Engine`; used from one event loop."""

    def __init__(
        self,
        session: Session,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        max_batch: int,
        most_queued: int,
        thread: ThreadPoolExecutor,
    ) -> None:
        """With `max_batch` 0 the first dimension is no batch, and calls run one by one. `thread` has one worker."""
        self.inputs: Final = inputs
        self.outputs: Final = outputs
        self.max_batch: Final = max_batch
        self._session: Session | None = session
        self._names: Final = [spec.name for spec in outputs]
        self._most_queued: Final = most_queued
        self._thread: Final = thread
        self._calls: deque[Work] = deque()
        self._background: deque[Work] = deque()
        self._queued = 0
        self._holders = 0
        self._running: asyncio.Future[None] | None = None
        self._retired = False

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep it open inside the block although it was retired."""
        self._holders += 1
        try:
            yield
        finally:
            self._holders -= 1
            self._close_when_idle()

    async def infer(self, inputs: Arrays, *, background: bool = False) -> Arrays:
        """Queue a call and return all outputs. Raises `Overloaded` (never in the background), `InferenceFailed`."""
        rows = len(next(iter(inputs.values()))) if self.max_batch else 1
        if not background and self._queued + rows > self._most_queued and self._queued:
            raise Overloaded(f"{self._queued} images wait for this model already; try again in a moment.")
        if self._session is None:
            raise Overloaded("This version was just unloaded; try again.")
        work = Work(inputs, rows, asyncio.get_running_loop().create_future())
        (self._background if background else self._calls).append(work)
        if not background:
            self._queued += rows
        self._start()
        return await work.done

    def retire(self) -> None:
        """Close after the last call and the last holder."""
        self._retired = True
        self._close_when_idle()

    async def close(self) -> None:
        """Wait for what runs, refuse what waits, give the memory back."""
        self._retired = True
        for work in (*self._calls, *self._background):
            if not work.done.done():
                work.done.set_exception(Overloaded("The service stops; try again."))
        self._calls.clear()
        self._background.clear()
        if self._running is not None:
            await asyncio.wait([self._running])
        self._free()

    def _close_when_idle(self) -> None:
        idle = not (self._holders or self._calls or self._background or self._running)
        if self._retired and idle:
            self._free()

    def _free(self) -> None:
        if self._session is None:
            return
        self._session = None
        self._thread.submit(trim_memory)
        self._thread.shutdown(wait=False)

    def _start(self) -> None:
        if self._running is not None or self._session is None:
            return
        batch = self._take()
        if not batch:
            self._close_when_idle()
            return
        self._running = asyncio.ensure_future(self._run(self._session, batch))

    def _take(self) -> list[Work]:
        """What runs next: calls first; from one queue only, so that the cameras' images do not make a call slower."""
        for queue in (self._calls, self._background):
            batch: list[Work] = []
            rows = 0
            while queue and (not batch or (rows + queue[0].rows <= self.max_batch and fits(queue[0], batch[0]))):
                work = queue.popleft()
                if queue is self._calls:
                    self._queued -= work.rows
                if not work.done.done():  # a caller that went away is not run
                    batch.append(work)
                    rows += work.rows
            if batch:
                return batch
        return []

    async def _run(self, session: Session, batch: list[Work]) -> None:
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._compute, session, batch)
        except Exception as error:
            results = [error] * len(batch)
        for work, result in zip(batch, results, strict=True):
            if work.done.done():
                continue
            if isinstance(result, Exception):
                work.done.set_exception(InferenceFailed(f"onnxruntime failed: {result}"))
            else:
                work.done.set_result(result)
        self._running = None
        self._start()

    def _compute(self, session: Session, batch: list[Work]) -> Sequence[Arrays | Exception]:
        """In the thread; when a batch of several fails, each runs alone, so that one cannot fail the others."""
        try:
            with SERVING_COMPUTE_SECONDS.time():
                found = session.run(self._names, joined(batch))
        except Exception as error:
            if len(batch) == 1:
                return [error]
            return [self._compute(session, [work])[0] for work in batch]
        SERVING_BATCH.observe(sum(work.rows for work in batch))
        if len(batch) == 1:
            return [dict(zip(self._names, found, strict=True))]
        ends = np.cumsum([work.rows for work in batch])
        return [
            {name: array[end - work.rows : end] for name, array in zip(self._names, found, strict=True)}
            for work, end in zip(batch, ends.tolist(), strict=True)
        ]


def fits(work: Work, first: Work) -> bool:
    """Whether two calls may run as one: the same shapes beyond the batch."""
    return all(array.shape[1:] == first.inputs[name].shape[1:] for name, array in work.inputs.items())


def joined(batch: Sequence[Work]) -> dict[str, Array]:
    """The inputs of a batch, one after another along the first dimension."""
    if len(batch) == 1:
        return dict(batch[0].inputs)
    return {name: np.concatenate([work.inputs[name] for work in batch]) for name in batch[0].inputs}


def trim_memory() -> None:
    """Have glibc give freed memory back to the system; elsewhere the allocator does as it likes."""
    with suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None)
        libc.malloc_trim(0)
