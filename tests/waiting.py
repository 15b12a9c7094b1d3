"""How tests wait: for what they are about to assert, with a bound that only keeps a broken test from hanging.

The bound is generous, since it costs nothing where a test passes, and a busy machine is no defect.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from inspect import isawaitable
from typing import Any, Final

PATIENCE_S: Final = 120.0


async def until(
    holds: Callable[[], Any],
    seconds: float = PATIENCE_S,
    *,
    what: str | Callable[[], str] = "it",
    pause_s: float = 0.01,
) -> Any:
    """Poll until `holds`, which may be a coroutine function, gives something true; that.

    Raises `TimeoutError` after the bound, naming `what` was waited for.
    """
    deadline = time.monotonic() + seconds
    while True:
        found = holds()
        if isawaitable(found):
            found = await found
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what if isinstance(what, str) else what()} did not come in {seconds:g} s")
        await asyncio.sleep(pause_s)


def wait_until(holds: Callable[[], Any], seconds: float = PATIENCE_S, *, what: str = "it") -> None:
    """The same for a test without an event loop."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come in {seconds:g} s")
        time.sleep(0.01)
