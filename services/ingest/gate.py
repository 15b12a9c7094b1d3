"""Bounds the bytes in hand, and keeps the removal of objects apart from the storing of frames.

An upload puts its object first and its row later; a removal between the two would leave an asset without bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.ingest.errors import Overloaded


class Gate:
    """Shared by stores, up to `bound` bytes at once; a removal has it alone."""

    def __init__(self, bound: int) -> None:
        """A single batch larger than `bound` bytes may still pass, alone."""
        self._bound = bound
        self._in_hand = 0
        self._stores = 0
        self._removals = 0
        self._changed = asyncio.Condition()

    @property
    def in_hand(self) -> int:
        """Bytes inside."""
        return self._in_hand

    @asynccontextmanager
    async def store(self, size: int, *, wait: bool) -> AsyncIterator[None]:
        """Pass with `size` bytes. When there is no room: wait for it, or raise `Overloaded`."""
        if not wait and self._is_full(size):
            raise Overloaded(f"Ingest has {self._in_hand} bytes in hand; try again in a second.")
        async with self._changed:
            await self._changed.wait_for(lambda: self._removals == 0 and not self._is_full(size))
            self._in_hand += size
            self._stores += 1
        try:
            yield
        finally:
            async with self._changed:
                self._in_hand -= size
                self._stores -= 1
                self._changed.notify_all()

    @asynccontextmanager
    async def remove(self) -> AsyncIterator[None]:
        """Wait until no store is inside, and hold new ones back."""
        async with self._changed:
            self._removals += 1
            try:
                await self._changed.wait_for(lambda: self._stores == 0)
            except BaseException:
                self._removals -= 1
                self._changed.notify_all()
                raise
        try:
            yield
        finally:
            async with self._changed:
                self._removals -= 1
                self._changed.notify_all()

    def _is_full(self, size: int) -> bool:
        return self._in_hand > 0 and self._in_hand + size > self._bound
