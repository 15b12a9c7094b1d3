"""Heavy answers one after another: drawing takes seconds of a thread, and the judge needs threads, too."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from services.common.errors import Transient

WAITING: Final = 16
"""So many wait for their turn; who comes then is asked to come again."""


class Turns:
    """`async with turns.one():` holds the only turn."""

    def __init__(self, waiting: int = WAITING) -> None:
        """`waiting` bounds the queue."""
        self._lock = asyncio.Lock()
        self._left = waiting + 1

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Wait for the turn. Raises `Transient` when too many do."""
        if not self._left:
            raise Transient("Too many pictures wait to be drawn; try again in a moment.", reason="BUSY")
        self._left -= 1
        try:
            async with self._lock:
                yield
        finally:
            self._left += 1
