"""The queue in front of a graph: greedy batches, calls before cameras, bounds, and closing after the last call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from services.serving.domain.tensors import TensorSpec
from services.serving.errors import InferenceFailed, Overloaded
from services.serving.outbound.engine import OnnxEngine


class Doubler:
    """A session that doubles, one run at a time and when it is let."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.batches: list[list[float]] = []

    def run(self, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> Sequence[np.ndarray]:
        assert self.gate.wait(10)
        values = feed["x"]
        self.batches.append(values[:, 0].tolist())
        if (values < 0).any():
            raise RuntimeError("negative")
        return [values * 2]


@pytest.fixture
def session() -> Iterator[Doubler]:
    one = Doubler()
    yield one
    one.gate.set()


def engine(session: Any, max_batch: int = 4, most_queued: int = 100) -> OnnxEngine:
    spec = [TensorSpec("x", "FP32", (-1, 1))]
    return OnnxEngine(session, spec, spec, max_batch=max_batch, most_queued=most_queued, thread=ThreadPoolExecutor(1))


def rows(*values: float) -> dict[str, np.ndarray]:
    return {"x": np.array([[value] for value in values], np.float32)}


async def ask(one: OnnxEngine, *values: float, background: bool = False) -> list[float]:
    found = await one.infer(rows(*values), background=background)
    return [float(value) for value in found["x"][:, 0]]


async def queue(*calls: Any) -> list[asyncio.Task[list[float]]]:
    """Start calls in this order and let each reach the queue."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    for _ in range(3):
        await asyncio.sleep(0)
    return tasks


async def test_what_is_queued_while_the_graph_runs_runs_together(session: Doubler) -> None:
    one = engine(session)
    tasks = await queue(ask(one, 1), ask(one, 2), ask(one, 3, 4), ask(one, 5, 6), ask(one, 7))
    session.gate.set()
    assert await asyncio.gather(*tasks) == [[2], [4], [6, 8], [10, 12], [14]]
    assert session.batches == [[1], [2, 3, 4], [5, 6, 7]]
    await one.close()


async def test_calls_run_before_the_cameras_images_and_apart_from_them(session: Doubler) -> None:
    one = engine(session)
    tasks = await queue(
        ask(one, 1, background=True), ask(one, 2, background=True), ask(one, 3, background=True), ask(one, 9)
    )
    session.gate.set()
    await asyncio.gather(*tasks)
    assert session.batches == [[1], [9], [2, 3]]
    await one.close()


async def test_a_full_queue_refuses_calls_but_never_the_cameras(session: Doubler) -> None:
    one = engine(session, most_queued=2)
    tasks = await queue(ask(one, 1), ask(one, 2), ask(one, 3))
    with pytest.raises(Overloaded):
        await one.infer(rows(4))
    tasks += await queue(ask(one, 5, background=True))
    session.gate.set()
    assert await asyncio.gather(*tasks) == [[2], [4], [6], [10]]
    await one.close()


async def test_one_that_fails_does_not_fail_those_it_ran_with(session: Doubler) -> None:
    one = engine(session)
    tasks = await queue(ask(one, 1), ask(one, 2), ask(one, -1), ask(one, 3))
    session.gate.set()
    first, second, third, fourth = await asyncio.gather(*tasks, return_exceptions=True)
    assert (first, second, fourth) == ([2], [4], [6])
    assert isinstance(third, InferenceFailed)
    await one.close()


async def test_a_caller_that_went_away_is_not_run(session: Doubler) -> None:
    one = engine(session)
    first, gone, last = await queue(ask(one, 1), ask(one, 2), ask(one, 3))
    gone.cancel()
    await asyncio.sleep(0)
    session.gate.set()
    assert [await first, await last] == [[2], [6]]
    assert session.batches == [[1], [3]]
    await one.close()


async def test_calls_of_different_shapes_do_not_run_together(session: Doubler) -> None:
    one = engine(session)
    wide = one.infer({"x": np.ones((1, 2), np.float32)})
    tasks = await queue(ask(one, 1), ask(one, 2), wide, ask(one, 3))
    session.gate.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in session.batches] == [1, 1, 1, 1]
    await one.close()


async def test_a_retired_engine_answers_what_it_took_and_what_holds_it_then_closes(session: Doubler) -> None:
    one = engine(session)
    with one.hold():
        tasks = await queue(ask(one, 1), ask(one, 2))
        one.retire()
        session.gate.set()
        assert await asyncio.gather(*tasks) == [[2], [4]]
        assert await ask(one, 3) == [6]
    with pytest.raises(Overloaded):
        await one.infer(rows(4))


async def test_closing_waits_for_what_runs_and_refuses_what_waits(session: Doubler) -> None:
    one = engine(session)
    running, waiting = await queue(ask(one, 1), ask(one, 2))
    closing = asyncio.ensure_future(one.close())
    await asyncio.sleep(0)
    session.gate.set()
    await closing
    assert await running == [2]
    with pytest.raises(Overloaded):
        await waiting
