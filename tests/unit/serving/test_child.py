"""A process beside serving is gone when its end has been waited for, however the waiting went."""

from __future__ import annotations

import asyncio
import signal
import sys

from services.serving.outbound.child import ended

TALKS = "import sys\nwhile True: sys.stdout.write('x' * 65536)"
LISTENS = "import sys; sys.stdin.read()"


async def child(code: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdin=pipe, stdout=pipe)


async def test_one_that_ends_by_itself_is_not_killed() -> None:
    one = await child(LISTENS)
    assert one.stdin is not None
    one.stdin.close()
    await ended(one, 60)
    assert one.returncode == 0


async def test_one_that_goes_on_talking_is_killed_and_what_it_said_is_read() -> None:
    one = await child(TALKS)
    await ended(one, 0.2)
    assert one.returncode == -signal.SIGKILL
    assert one.stdout is not None
    assert one.stdout.at_eof()


async def test_one_whose_end_is_waited_for_no_more_does_not_stay() -> None:
    one = await child(LISTENS)
    waiting = asyncio.create_task(ended(one, 60))
    await asyncio.sleep(0.1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    assert one.returncode == -signal.SIGKILL
