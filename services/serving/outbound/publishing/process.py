"""Serving's side of the publisher's process: starts it, starts it anew when it ends, hurries it when much waits."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from services.common.metrics import SERVING_PUBLISHER_RESTARTS
from services.common.telemetry import log
from services.serving.outbound.publishing.publisher import LAST_S

RETRY_S: Final = (0.5, 30.0)
SETTLED_S: Final = 10.0
"""A process that lived so long was well."""


class PublisherProcess:
    """Implements `Publishing`."""

    def __init__(self, folder: Path) -> None:
        """`folder`: the spool's."""
        self._folder = folder
        self._hurried = False
        self._child: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """Of the process; 0 while there is none."""
        return self._child.pid if self._child is not None else 0

    def hurry(self, wanted: bool) -> None:
        """Whether it is to take its share of the machine instead of what is left over."""
        if wanted != self._hurried:
            self._hurried = wanted
            log.warning("publisher_hurried" if wanted else "publisher_steps_back")
            if self._child is not None and self._child.stdin is not None:
                self._child.stdin.close()

    async def run(self) -> None:
        """Until cancelled; then what is on disk may still be published, for two seconds."""
        delay = RETRY_S[0]
        loop = asyncio.get_running_loop()
        while True:
            began, hurried = loop.time(), self._hurried
            await self._live()
            if hurried != self._hurried:
                continue
            delay = RETRY_S[0] if loop.time() - began > SETTLED_S else min(2 * delay, RETRY_S[1])
            SERVING_PUBLISHER_RESTARTS.inc()
            log.error("publisher_ended", retry_s=delay)
            await asyncio.sleep(delay)

    async def _live(self) -> None:
        """One life of the process."""
        arguments = ["-m", "services.serving.outbound.publishing", str(self._folder)]
        child = self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            *(["--hurry"] if self._hurried else []),
            stdin=asyncio.subprocess.PIPE,
        )
        try:
            await child.wait()
        finally:
            self._child = None
            await asyncio.shield(_ended(child))


async def _ended(child: asyncio.subprocess.Process) -> None:
    """The end of its input is its sign to stop."""
    if child.stdin is not None:
        child.stdin.close()
    try:
        async with asyncio.timeout(LAST_S + 1.0):
            await child.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
