"""Serving's side of the publisher's process: starts it, starts it anew when it ends, hurries it when much waits."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Final

from services.common.telemetry import log
from services.serving.outbound.child import ended, keep
from services.serving.outbound.publishing.publisher import LAST_S

END_S: Final = LAST_S + 1.0
"""What it is given to publish the rest and end."""


class PublisherProcess:
    """Implements `Publishing`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the spool's."""
        self._folder = folder
        self._hurried = False
        self._changed = asyncio.Event()

    def hurry(self, wanted: bool) -> None:
        """Whether it is to take its share of the machine instead of what is left over: another process does."""
        if wanted != self._hurried:
            self._hurried = wanted
            log.warning("publisher_hurries" if wanted else "publisher_steps_back")
            self._changed.set()

    async def run(self) -> None:
        """Until cancelled; then what is on disk may still be published, for two seconds."""
        await keep("publisher", self._live)

    async def _live(self) -> bool:
        """One life of the process; True when it made room for one of another priority."""
        self._changed.clear()
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "services.serving.outbound.publishing", str(self._folder)),
            *(["--hurry"] if self._hurried else []),
            stdin=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None
        ends = [asyncio.create_task(child.wait()), asyncio.create_task(self._changed.wait())]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            return self._changed.is_set()
        finally:
            for end in ends:
                end.cancel()
            child.stdin.close()
            await ended(child, END_S)
