"""Runs the inspection on a few threads: the decoders and numpy let go of the interpreter while they work."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Final, Self

from services.ingest.domain.frames import Frame
from services.ingest.domain.inspection import Limits, Verdict, inspect

WORTH_A_THREAD: Final = 128 * 1024
"""Bytes below which a share of a batch is not worth a hand-over."""


class PoolInspector:
    """An async context manager; large batches are shared among the threads, small ones stay together."""

    def __init__(self, limits: Limits, workers: int = 0) -> None:
        """`workers` threads; 0 takes one for each core that this process may use."""
        self._limits = limits
        self._workers = workers or len(os.sched_getaffinity(0))
        self._pool: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Start the threads."""
        self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="inspect")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is under way."""
        if self._pool is not None:
            await asyncio.to_thread(self._pool.shutdown)
            self._pool = None

    async def inspect(self, frames: Sequence[Frame]) -> list[Verdict]:
        """A verdict for each frame, in order."""
        loop = asyncio.get_running_loop()
        shares = [
            loop.run_in_executor(self._pool, inspect, share, self._limits) for share in _shares(frames, self._workers)
        ]
        return list(chain.from_iterable(await asyncio.gather(*shares)))


def _shares(frames: Sequence[Frame], workers: int) -> list[Sequence[Frame]]:
    """Cut a batch into at most `workers` runs of about as many bytes each."""
    total = sum(len(frame.image) for frame in frames)
    count = max(1, min(workers, total // WORTH_A_THREAD, len(frames)))
    shares: list[Sequence[Frame]] = []
    start, taken = 0, 0
    for index, frame in enumerate(frames):
        taken += len(frame.image)
        if taken * count >= total * (len(shares) + 1) and len(shares) + 1 < count:
            shares.append(frames[start : index + 1])
            start = index + 1
    shares.append(frames[start:])
    return [share for share in shares if share]
