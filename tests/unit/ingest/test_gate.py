"""Bytes in hand are bounded, and removals never overlap with stores."""

from __future__ import annotations

import asyncio

import pytest

from services.ingest.errors import Overloaded
from services.ingest.gate import Gate


async def test_a_full_gate_refuses_who_will_not_wait() -> None:
    gate = Gate(100)
    async with gate.store(60, wait=False):
        with pytest.raises(Overloaded):
            async with gate.store(60, wait=False):
                pytest.fail("it let too much in")
        async with gate.store(40, wait=False):
            assert gate.in_hand == 100
    assert gate.in_hand == 0


async def test_one_that_is_larger_than_the_bound_passes_alone() -> None:
    gate = Gate(100)
    async with gate.store(500, wait=False):
        assert gate.in_hand == 500


async def test_who_waits_gets_in_when_there_is_room() -> None:
    gate = Gate(100)
    order: list[str] = []

    async def late() -> None:
        async with gate.store(80, wait=True):
            order.append("late")

    async with asyncio.TaskGroup() as group, gate.store(80, wait=True):
        group.create_task(late())
        await asyncio.sleep(0)
        order.append("early")
    assert order == ["early", "late"]


async def test_a_removal_waits_for_stores_and_holds_new_ones_back() -> None:
    gate = Gate(100)
    order: list[str] = []

    async def remove() -> None:
        async with gate.remove():
            order.append("removal begins")
            await asyncio.sleep(0)
            order.append("removal ends")

    async def store() -> None:
        async with gate.store(1, wait=False):
            order.append("second store")

    async with asyncio.TaskGroup() as group, gate.store(1, wait=True):
        group.create_task(remove())
        await asyncio.sleep(0)
        group.create_task(store())
        await asyncio.sleep(0)
        order.append("first store")
    assert order == ["first store", "removal begins", "removal ends", "second store"]


async def test_a_removal_that_is_given_up_lets_stores_in_again() -> None:
    gate = Gate(100)
    async with gate.store(1, wait=True):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01), gate.remove():
                pytest.fail("it did not wait for the store")
        async with gate.store(1, wait=False):
            assert gate.in_hand == 2
