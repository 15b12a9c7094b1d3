"""From the models' threads back to the event loop, many results at one wake-up."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

from services.serving.domain.ports import Runner
from services.serving.domain.work import Arrays, Result, Work


class Settling:
    """Brings results to the futures of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop: Final = loop
        self._results: deque[tuple[asyncio.Future[Any], Any]] = deque()
        self._woken = False

    def put(self, future: asyncio.Future[Any], result: Any, last: bool = True) -> None:
        """From any thread: `future` gets the result, or raises it, soon."""
        self._results.append((future, result))
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._woken = False
        while self._results:
            settle(*self._results.popleft())


async def run_in_background(runner: Runner, inputs: Arrays, rows: int) -> Arrays:
    """The outputs, after all calls of clients. Raises what the runner does."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Arrays] = loop.create_future()

    def take(result: Result, last: bool) -> None:
        loop.call_soon_threadsafe(settle, future, result)

    work = Work(inputs, rows, take, background=True)
    runner.submit(work)
    try:
        return await future
    except asyncio.CancelledError:
        work.cancelled = True
        raise


def settle(future: asyncio.Future[Any], result: Any) -> None:
    """On the event loop: an exception is raised where the future is awaited; one that nobody awaits is left alone."""
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)
