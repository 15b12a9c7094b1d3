"""Runs the requests of loaded versions on a few threads that all versions share: batches form by themselves while
another one runs, and versions take turns.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from typing import Final, Self

from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Backend, GroupBackend, Inline
from services.serving.domain.queueing import BatchQueue, GreedyQueue
from services.serving.domain.sequences import SequenceQueue
from services.serving.domain.statistics import Statistics
from services.serving.domain.work import Work
from services.serving.errors import Overloaded, Unloaded
from services.serving.outbound.allocator import trim_memory
from services.serving.outbound.execution import Execution, tell

Task = Callable[[], None]
QUICK_NS: Final = 2_000_000
"""A model whose batches take longer does not run in a transport's thread, which then would take no calls."""
USUAL: Final = 8
"""Batches that the mean looks back on."""


class Pool:
    """Threads that run tasks in the order they are put in; an async context manager."""

    def __init__(self, threads: int, name: str = "inference") -> None:
        """Nothing runs before it is entered, or started."""
        self._tasks: SimpleQueue[Task | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End each thread after the tasks before this call; does not wait."""
        for _ in self._threads:
            self._tasks.put(None)

    def put(self, task: Task) -> None:
        """Have it run; it must not raise."""
        self._tasks.put(task)

    @property
    def idle(self) -> bool:
        """Whether no task waits."""
        return self._tasks.empty()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            task()


class Scheduler:
    """A version's queue and its turns on the pool. Implements `Runner`; safe from any thread."""

    def __init__(self, config: ModelConfig, backend: Backend, pool: Pool, most_queued: int) -> None:
        """A blocking backend gets threads of its own instead of the pool's."""
        self.statistics: Final = Statistics()
        self._backend: Backend | None = backend
        self._execution: Execution | None = Execution(config, backend)
        self._own_pool = Pool(config.instances, f"model-{config.name}"[:15]) if backend.blocking else None
        if self._own_pool is not None:
            self._own_pool.start()
        self._pool = self._own_pool or pool
        self._shared_pool = pool
        self._queue = queue_of(config, most_queued, joined=backend.joins or isinstance(backend, GroupBackend))
        self._instances = config.instances
        self._lock = threading.Lock()
        self._running = 0
        self._holders = 0
        self._usual_ns = 0
        """A moving mean of what a batch takes."""
        self._retired = False
        self._closing = False
        """Holders no longer count."""
        self._alarm: threading.Timer | None = None
        self._closed = threading.Event()

    @property
    def pending(self) -> int:
        """Requests that wait."""
        return len(self._queue)

    def submit(self, work: Work, inline: Inline | None = None) -> None:
        """Queue a request; never blocks. Raises `Overloaded`, `BadRequest`; then the sink is not called.

        `inline` is handed the turn instead of the pool while batches of this model stay quick.
        """
        with self._lock:
            self._require_open()
            self._queue.push(work, time.perf_counter_ns())
            starts = self._running < self._instances
            if starts:
                self._running += 1
        if not starts:
            return
        if inline is not None and self._own_pool is None and self._usual_ns < QUICK_NS:
            inline(self._turn_once)
        else:
            self._pool.put(self._turn)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep it open inside the block although it was retired. Raises `Overloaded` when it is closed already."""
        with self._lock:
            self._require_open()
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
            self._close_when_idle()

    def retire(self) -> None:
        """Close after the last request and the last holder."""
        self._retired = True
        self._close_when_idle()

    async def close(self) -> None:
        """Refuse what waits, wait for what runs, give the memory back."""
        with self._lock:
            waiting = self._queue.drain()
            self._retired = self._closing = True
        for work in waiting:
            tell(work, Overloaded("The version is being unloaded; try again."), True)
        self._close_when_idle()
        while not self._closed.is_set():
            await asyncio.sleep(0.002)

    def _turn(self) -> None:
        """In a thread of the pool: run one batch, and more while no other version waits for the thread."""
        while True:
            with self._lock:
                batch, refused = self._queue.take(time.perf_counter_ns())
                if not batch:
                    self._rest()
            for work, error in refused:
                tell(work, error, True)
            if not batch:
                self._close_when_idle()
                return
            self._run(batch)
            if not self._pool.idle:
                self._pool.put(self._turn)
                return

    def _turn_once(self) -> None:
        """In a caller's thread: run one batch; what waits then is the pool's."""
        with self._lock:
            batch, refused = self._queue.take(time.perf_counter_ns())
            if not batch:
                self._rest()
        for work, error in refused:
            tell(work, error, True)
        if not batch:
            self._close_when_idle()
            return
        self._run(batch)
        with self._lock:
            ended = not len(self._queue)
            if ended:
                self._rest()
        if ended:
            self._close_when_idle()
        else:
            self._pool.put(self._turn)

    def _run(self, batch: list[Work]) -> None:
        assert self._execution is not None
        began = time.perf_counter_ns()
        outcomes = self._execution.run(batch)
        ended = time.perf_counter_ns()
        self._usual_ns += (ended - began - self._usual_ns) // USUAL
        now_ms = time.time_ns() // 1_000_000
        with self._lock:
            self._queue.done(batch, ended)
            self.statistics.note(outcomes, now_ms)

    def _require_open(self) -> None:
        if self._execution is None:
            raise Unloaded("This version was just unloaded; try again.")

    def _rest(self) -> None:
        """A turn ends, the lock held; where requests wait for the clock alone, it is looked at again then."""
        self._running -= 1
        wake_ns = self._queue.wake_ns()
        if wake_ns and self._alarm is None:
            self._alarm = threading.Timer(max(0, wake_ns - time.perf_counter_ns()) / 1e9, self._wake)
            self._alarm.daemon = True
            self._alarm.start()

    def _wake(self) -> None:
        """In the timer's thread."""
        with self._lock:
            self._alarm = None
            if self._execution is None or self._running == self._instances:
                return  # a turn that runs looks at the queue when it has ended
            self._running += 1
        self._pool.put(self._turn)

    def _close_when_idle(self) -> None:
        with self._lock:
            held = self._holders and not self._closing
            if not self._retired or held or self._running or len(self._queue) or self._backend is None:
                return
            if self._alarm is not None:
                self._alarm.cancel()
            backend, self._backend, self._execution = self._backend, None, None
        if self._own_pool is not None:
            self._own_pool.stop()
        self._shared_pool.put(lambda: self._free(backend))

    def _free(self, backend: Backend) -> None:
        try:
            backend.close()
            del backend
            trim_memory()
        finally:
            self._closed.set()


def queue_of(config: ModelConfig, most_queued: int, *, joined: bool = True) -> BatchQueue:
    """The queue that the model's batching asks for; `joined`: whether the backend takes several requests at once.

    Requests that it takes one by one are left to its other instances.
    """
    if config.sequence_batching is not None:
        return SequenceQueue(
            config.name, config.sequence_batching, config.max_batch_size, config.instances, most_queued
        )
    return GreedyQueue(config.name, config.dynamic_batching, config.max_batch_size if joined else 0, most_queued)
