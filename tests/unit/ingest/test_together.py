"""Batches that come in one moment are stored as one, and nobody fails for another's frames."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from services.common.errors import InvalidMessage, Transient
from services.ingest.together import Together


class Store:
    """Remembers each call; fails on the frames it is told to, or waits until it is let go."""

    def __init__(self, error: Exception | None = None, bad: str = "") -> None:
        self.calls: list[str] = []
        self.error, self.bad = error, bad
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, frames: Sequence[Any]) -> list[Any]:
        self.calls.append("".join(frames))
        await self.go.wait()
        if self.error is not None and self.bad in self.calls[-1]:
            raise self.error
        return [frame.upper() for frame in frames]


async def answers(*calls: Any) -> list[Any]:
    """Of all, errors too."""
    found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    return found


async def test_what_comes_in_one_moment_goes_together_and_each_gets_its_own() -> None:
    store = Store()
    together: Any = Together(store)
    assert await answers(together("ab"), together("c"), together("de")) == [["A", "B"], ["C"], ["D", "E"]]
    assert store.calls == ["abcde"]


async def test_what_comes_while_two_are_under_way_waits_and_goes_together() -> None:
    store = Store()
    store.go.clear()
    together: Any = Together(store)
    callers = []
    for frames in ("a", "b", "c", "d"):
        callers.append(asyncio.create_task(together(frames)))
        await asyncio.sleep(0.01)
    assert store.calls == ["a", "b"]
    store.go.set()
    assert await answers(*callers) == [["A"], ["B"], ["C"], ["D"]]
    assert store.calls == ["a", "b", "cd"]


async def test_a_batch_that_fails_in_company_fails_alone() -> None:
    store = Store(InvalidMessage("no"), bad="x")
    together: Any = Together(store)
    good, bad, other = await answers(together("a"), together("x"), together("b"))
    assert (good, other) == (["A"], ["B"])
    assert bad is store.error
    assert store.calls == ["axb", "a", "x", "b"]


async def test_what_may_pass_is_for_all_to_try_again() -> None:
    store = Store(Transient("busy"))
    together: Any = Together(store)
    assert await answers(together("a"), together("b")) == [store.error, store.error]
    assert store.calls == ["ab"]


async def test_a_caller_that_gives_up_leaves_the_others_alone() -> None:
    store = Store()
    store.go.clear()
    together: Any = Together(store)
    leaving, staying = asyncio.create_task(together("a")), asyncio.create_task(together("b"))
    await asyncio.sleep(0.01)
    leaving.cancel()
    store.go.set()
    assert await staying == ["B"]
    with pytest.raises(asyncio.CancelledError):
        await leaving
