"""The publisher as a process: `python -m services.serving.outbound.publishing SPOOL [--hurry]`.

Started by serving with its environment. It ends when its standard input does, that is, with serving.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from services.common.bus import KafkaBus
from services.common.settings import CommonSettings
from services.common.telemetry import configure
from services.serving.outbound.child import step_back
from services.serving.outbound.publishing.publisher import Publisher


async def run(settings: CommonSettings, folder: Path) -> None:
    """Publish until the parent is gone."""
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
    common = CommonSettings()
    configure(common, "serving")
    asyncio.run(run(common, Path(sys.argv[1])))
