"""The publisher as a process: `python -m services.serving.outbound.publishing SPOOL [--hurry]`.

Started by serving with its environment. It ends when its standard input does, that is, with serving.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from services.common.bus import KafkaBus
from services.common.settings import CommonSettings
from services.common.telemetry import configure
from services.serving.outbound.child import step_back
from services.serving.outbound.publishing.publisher import Publisher
from services.serving.outbound.sampling import SAMPLES


async def run(settings: CommonSettings, folder: Path) -> None:
    """Publish until the parent is gone."""
    bus = KafkaBus(settings, service="serving")
    publishers = [Publisher.of_predictions(bus, folder)]
    if (folder / SAMPLES).is_dir():  # serving makes it before this process
        publishers.append(Publisher.of_samples(bus, folder))
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), _ended, publishers)
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, _stop, publishers)
    async with bus, asyncio.TaskGroup() as tasks:
        for publisher in publishers:
            tasks.create_task(publisher.until_stopped())


def _stop(publishers: Sequence[Publisher]) -> None:
    for publisher in publishers:
        publisher.stop()


def _ended(publishers: Sequence[Publisher]) -> None:
    """Nothing is ever written there: what can be read is the end."""
    asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
    _stop(publishers)


if __name__ == "__main__":
    if "--hurry" not in sys.argv:
        step_back()
    common = CommonSettings()
    configure(common, "serving")
    asyncio.run(run(common, Path(sys.argv[1])))
