"""The publisher as a process: `python -m services.serving.outbound.publishing SPOOL [--hurry]`.

Started by serving with its environment. It ends when its standard input does, that is, with serving.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from services.common.bus import KafkaBus
from services.common.telemetry import configure
from services.serving.outbound.publishing.publisher import Publisher
from services.serving.settings import ServingSettings


def step_back() -> None:
    """Take only the time that nobody else wants, where the system can say so; be nice elsewhere."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


async def run(folder: Path) -> None:
    """Publish until the parent is gone."""
    settings = ServingSettings().common
    bus = KafkaBus(settings, service="serving")
    publisher = Publisher(bus, folder)
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), _ended, publisher)
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, publisher.stop)
    async with bus:
        await publisher.until_stopped()


def _ended(publisher: Publisher) -> None:
    """Nothing is ever written there: what can be read is the end."""
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    publisher.stop()


if __name__ == "__main__":
    if "--hurry" not in sys.argv:
        step_back()
    configure(ServingSettings().common, "serving")
    asyncio.run(run(Path(sys.argv[1])))
