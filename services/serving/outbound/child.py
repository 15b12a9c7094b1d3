"""Processes that serving keeps beside itself: kept alive with back-off, at idle priority, ended by the end of their
standard input, so that none outlives a killed serving.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from services.common.metrics import SERVING_CHILD_RESTARTS
from services.common.telemetry import log

RETRY_S: Final = (0.5, 30.0)
SETTLED_S: Final = 10.0
"""A process that lived so long was well."""
READ_BYTES: Final = 1 << 16


async def keep(name: str, live: Callable[[], Awaitable[bool]]) -> None:
    """Call `live`, one life of the process, until cancelled; it returns whether it ended as it was meant to.

    A process that ends by itself, or cannot be started, is started anew, later each time.
    """
    loop, delay = asyncio.get_running_loop(), RETRY_S[0]
    while True:
        began = loop.time()
        try:
            if await live():
                continue
        except OSError as error:
            log.error("process_not_started", process=name, error=str(error))
        delay = RETRY_S[0] if loop.time() - began > SETTLED_S else min(2 * delay, RETRY_S[1])
        SERVING_CHILD_RESTARTS.labels(name).inc()
        log.error("process_ended", process=name, retry_s=delay)
        await asyncio.sleep(delay)


async def ended(child: asyncio.subprocess.Process, seconds: float) -> None:
    """Return when the process has ended and its pipes are closed; after so long, or when cancelled, it is killed.

    What it still says is read and dropped: a pipe that nobody reads would never be closed.
    """
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _end_of(child)
    finally:
        with suppress(ProcessLookupError):
            child.kill()
        await _end_of(child)


async def _end_of(child: asyncio.subprocess.Process) -> None:
    while child.stdout is not None and await child.stdout.read(READ_BYTES):
        pass
    await child.wait()


def step_back() -> None:
    """Take only the time that nobody else wants, where the system can say so; be nice elsewhere. In the child."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
