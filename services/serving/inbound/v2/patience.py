"""Gives up calls whose clients stall or go away, by one look over all of them: a timer for each would cost more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.serving.inbound.v2.exchange import Request

STALL_S: Final = 60.0
LOOK_S: Final = 0.1


class Patience:
    """Of one event loop; it looks only while there are calls."""

    def __init__(self, stall_s: float = STALL_S, look_s: float = LOOK_S) -> None:
        """A client that sends nothing for `stall_s` in the middle of a body is given up; seconds."""
        self.stall_s = stall_s
        self._look_s = look_s
        self._calls: set[Request] = set()
        self._looking = False

    def add(self, call: Request) -> None:
        """A call begins."""
        self._calls.add(call)
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_later(self._look_s, self._look)

    def remove(self, call: Request) -> None:
        """It ended."""
        self._calls.discard(call)
        call.unwatch()

    def _look(self) -> None:
        self._looking = bool(self._calls)
        for call in self._calls:
            if call.waits_for == "body" and call.silent(self._look_s) > self.stall_s:
                call.give_up("stalled")
            elif call.waits_for == "model":
                call.watch()
        if self._looking:
            asyncio.get_running_loop().call_later(self._look_s, self._look)
