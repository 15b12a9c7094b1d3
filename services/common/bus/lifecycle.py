"""Several endless jobs as one: they end together, and get time to finish what is in hand."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any


async def carry(jobs: Sequence[Coroutine[Any, Any, None]], grace_s: float) -> None:
    """Run the jobs until cancelled; each is cancelled in turn and has `grace_s` to end. Raises a job's error."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        if tasks:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        else:
            await asyncio.Event().wait()
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_s)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
