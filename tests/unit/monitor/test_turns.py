"""Heavy answers take turns, and the queue for them is bounded."""

from __future__ import annotations

import asyncio

import pytest

from services.common.errors import Transient
from services.monitor.inbound.turns import Turns


async def test_one_is_at_work_at_a_time_and_whoever_finds_a_full_queue_is_sent_away() -> None:
    turns, free, at_work, most = Turns(waiting=2), asyncio.Event(), 0, 0

    async def work() -> None:
        nonlocal at_work, most
        async with turns.one():
            at_work += 1
            most = max(most, at_work)
            await free.wait()
            at_work -= 1

    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(work())
        await asyncio.sleep(0)
        with pytest.raises(Transient, match="try again"):
            async with turns.one():
                pass
        free.set()
    assert (most, at_work) == (1, 0)
    async with turns.one():
        pass


async def test_a_turn_that_fails_or_is_cancelled_is_given_back() -> None:
    turns = Turns(waiting=0)
    with pytest.raises(ValueError, match="odd"):
        async with turns.one():
            raise ValueError("odd")

    async def long() -> None:
        async with turns.one():
            await asyncio.Event().wait()

    task = asyncio.create_task(long())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with turns.one():
        pass
