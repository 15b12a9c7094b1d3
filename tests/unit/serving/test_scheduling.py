"""How versions share threads: greedy batches, fairness, inline turns, errors, and the end of a version."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from services.common.errors import Transient
from services.serving.domain.config import DynamicBatching, QueuePolicy, SequenceBatching
from services.serving.domain.work import PLAIN, Arrays, Asked, SequenceMark
from services.serving.errors import BadRequest, InferenceFailed, Overloaded
from services.serving.outbound.scheduling import Pool, Scheduler
from tests.unit.serving.runners import Doubling, Heard, config_of, feed, opened
from tests.waiting import PATIENCE_S, until


@pytest.fixture
def pool() -> Iterator[Pool]:
    """One thread for all."""
    found = Pool(1)
    found.start()
    yield found
    found.stop()


def scheduler(backend: Doubling, pool: Pool, most: int = 100, **fields: Any) -> Scheduler:
    return Scheduler(config_of(**fields), backend, pool, most)


def submit(runner: Scheduler, *values: float, asked: Asked = PLAIN, background: bool = False) -> Heard:
    heard = Heard()
    runner.submit(heard.work(feed(*values), len(values), asked, background=background))
    return heard


async def test_what_waits_while_a_batch_runs_becomes_the_next_batch_and_is_split_again(pool: Pool) -> None:
    backend = Doubling()
    runner = scheduler(backend, pool)
    first = submit(runner, 1)
    await until(lambda: backend.running == 1)
    others = [submit(runner, 2, 3), submit(runner, 4)]
    assert runner.pending == 2
    backend.gate.set()
    assert [one.values() for one in (first, *others)] == [[2], [4, 6], [8]]
    assert backend.batches == [[1], [2, 3, 4]]
    statistics = runner.statistics
    await until(lambda: statistics.success.count == 3)
    assert (statistics.inference_count, statistics.execution_count, sorted(statistics.batches)) == (4, 2, [1, 3])


async def test_priority_goes_before_age_and_the_background_after_all(pool: Pool) -> None:
    backend = Doubling()
    runner = scheduler(backend, pool, max_batch=1, dynamic_batching=DynamicBatching(priority_levels=2))
    submit(runner, 0)
    await until(lambda: backend.running == 1)
    later = [
        submit(runner, 1, background=True),
        submit(runner, 2, asked=Asked(priority=2)),
        submit(runner, 3, asked=Asked(priority=1)),
    ]
    backend.gate.set()
    assert [one.values() for one in later] == [[2], [4], [6]]
    assert backend.batches == [[0], [3], [2], [1]]


async def test_a_request_that_waited_too_long_is_refused_unrun(pool: Pool) -> None:
    backend = Doubling()
    policy = QueuePolicy(default_timeout_us=1)
    runner = scheduler(backend, pool, dynamic_batching=DynamicBatching(default_policy=policy))
    plug = Doubling()
    busy = submit(scheduler(plug, pool), 1)
    await until(lambda: plug.running == 1)
    late = submit(runner, 2)
    plug.gate.set()
    backend.gate.set()
    error = late.only()
    assert isinstance(error, Overloaded)
    assert (error.reason, busy.values(), backend.batches) == ("TIMEOUT", [2], [])


async def test_a_request_whose_caller_went_away_is_not_run(pool: Pool) -> None:
    backend = Doubling()
    runner = scheduler(backend, pool, max_batch=1)
    submit(runner, 1)
    await until(lambda: backend.running == 1)
    gone, stays = Heard(), Heard()
    work = gone.work(feed(2))
    runner.submit(work)
    runner.submit(stays.work(feed(3)))
    work.cancelled = True
    backend.gate.set()
    assert stays.values() == [6]
    assert isinstance(gone.only(), InferenceFailed)
    assert backend.batches == [[1], [3]]


async def test_two_versions_on_one_thread_take_turns(pool: Pool) -> None:
    order: list[str] = []

    def noting(name: str) -> Callable[[Arrays], None]:
        return lambda inputs: order.append(name)

    one, two = Doubling(failing=noting("a")), Doubling(failing=noting("b"))
    first, second = scheduler(one, pool, max_batch=1), scheduler(two, pool, max_batch=1)
    heard = [submit(first, 1) for _ in range(4)] + [submit(second, 1) for _ in range(4)]
    one.gate.set()
    two.gate.set()
    for each in heard:
        each.only()
    assert "".join(order) == "abababab"


async def test_as_many_batches_run_at_one_time_as_there_are_instances() -> None:
    pool = Pool(4)
    pool.start()
    backend = Doubling()
    runner = scheduler(backend, pool, max_batch=1, instances=2)
    heard = [submit(runner, value) for value in range(6)]
    await until(lambda: backend.running == 2)
    assert runner.pending == 4
    backend.gate.set()
    assert [one.values() for one in heard] == [[value * 2] for value in range(6)]
    assert backend.most_running == 2
    pool.stop()


async def test_a_blocking_backend_has_threads_of_its_own(pool: Pool) -> None:
    blocked = Doubling(blocking=True)
    waiting = submit(scheduler(blocked, pool, name="slow"), 1)
    await until(lambda: blocked.running == 1)
    assert submit(scheduler(opened(), pool), 2).values() == [4]
    blocked.gate.set()
    assert waiting.values() == [2]
    assert all(name.startswith("model-slow") for name in blocked.threads)


async def test_requests_that_a_backend_takes_one_by_one_are_left_to_its_other_instances(pool: Pool) -> None:
    backend = Doubling(blocking=True, joins=False)
    runner = scheduler(backend, pool, instances=2)
    heard = [submit(runner, value) for value in (1, 2, 3)]
    await until(lambda: backend.running == 2)
    backend.gate.set()
    assert [one.values() for one in heard] == [[2], [4], [6]]
    assert sorted(map(len, backend.batches)) == [1, 1, 1]


async def test_a_request_that_fails_among_others_fails_alone(pool: Pool) -> None:
    def picky(inputs: Arrays) -> Exception | None:
        return InferenceFailed("not a 3") if 3 in inputs["x"] else None

    backend = Doubling(failing=picky)
    runner = scheduler(backend, pool)
    submit(runner, 0)
    await until(lambda: backend.running == 1)
    heard = [submit(runner, value) for value in (1, 3, 2)]
    backend.gate.set()
    assert [heard[0].values(), heard[2].values()] == [[2], [4]]
    assert str(heard[1].only()) == "not a 3"
    await until(lambda: runner.statistics.fail.count == 1)
    assert runner.statistics.success.count == 3


async def test_an_error_that_nobody_foresaw_is_a_sentence_and_the_model_goes_on(pool: Pool) -> None:
    def broken(inputs: Arrays) -> Exception | None:
        return ZeroDivisionError("division by zero") if 0 in inputs["x"] else None

    runner = scheduler(opened(failing=broken), pool)
    error = submit(runner, 0).only()
    assert isinstance(error, InferenceFailed)
    assert str(error) == "Model 'm' failed: division by zero"
    assert submit(runner, 1).values() == [2]


async def test_a_caller_that_cannot_take_its_answer_stops_nobody(pool: Pool) -> None:
    backend = Doubling()
    runner = scheduler(backend, pool)
    submit(runner, 0)
    await until(lambda: backend.running == 1)
    deaf, other = Heard(), Heard()
    deaf.last.set()  # its sink raises
    runner.submit(deaf.work(feed(1)))
    runner.submit(other.work(feed(2)))
    backend.gate.set()
    assert other.values() == [4]
    await runner.close()
    assert backend.closed == 1


async def test_a_quick_model_runs_in_the_callers_thread_and_the_rest_in_the_pools(pool: Pool) -> None:
    backend = opened()
    runner = scheduler(backend, pool, max_batch=1)
    turns: list[Callable[[], None]] = []
    first, second = Heard(), Heard()
    runner.submit(first.work(feed(1)), turns.append)
    runner.submit(second.work(feed(2)), turns.append)
    assert len(turns) == 1
    turns[0]()
    assert first.threads == ["MainThread"]
    assert second.values() == [4]
    assert second.threads != ["MainThread"]


async def test_every_answer_of_a_decoupled_model_goes_out_and_then_the_end(pool: Pool) -> None:
    runner = scheduler(opened(answers=(2, 3)), pool, decoupled=True)
    heard = submit(runner, 5)
    assert heard.last.wait(PATIENCE_S)
    first, second, end = heard.results
    assert end is None
    assert [float(one["y"][0][0]) for one in (first, second) if isinstance(one, dict)] == [10, 15]
    await until(lambda: runner.statistics.success.count == 1)


async def test_decoupled_requests_are_never_joined(pool: Pool) -> None:
    backend = Doubling(answers=(1,))
    runner = scheduler(backend, pool, decoupled=True)
    heard = [submit(runner, value) for value in (1, 2, 3)]
    backend.gate.set()
    for one in heard:
        assert one.last.wait(PATIENCE_S)
        assert len(one.results) == 2
    assert backend.batches == [[1], [2], [3]]


async def test_a_retired_version_answers_what_waits_and_then_closes(pool: Pool) -> None:
    backend = Doubling()
    runner = scheduler(backend, pool, max_batch=1)
    heard = [submit(runner, 1), submit(runner, 2)]
    runner.retire()
    assert backend.closed == 0
    backend.gate.set()
    assert [one.values() for one in heard] == [[2], [4]]
    await until(lambda: backend.closed == 1)
    with pytest.raises(Overloaded, match="just unloaded"):
        submit(runner, 3)
    with pytest.raises(Overloaded, match="just unloaded"), runner.hold():
        pass


async def test_a_holder_keeps_a_retired_version_open(pool: Pool) -> None:
    backend = opened()
    runner = scheduler(backend, pool)
    with runner.hold():
        runner.retire()
        assert submit(runner, 1).values() == [2]
        assert backend.closed == 0
    await until(lambda: backend.closed == 1)


async def test_closing_refuses_what_waits_lets_what_runs_end_and_does_not_wait_for_holders(pool: Pool) -> None:
    backend = Doubling()
    runner = scheduler(backend, pool, max_batch=1)
    runs, waits = submit(runner, 1), submit(runner, 2)
    await until(lambda: backend.running == 1)
    with runner.hold():
        closing = asyncio.create_task(runner.close())
        assert isinstance(await asyncio.to_thread(waits.only), Transient)
    assert not closing.done()
    backend.gate.set()
    await asyncio.wait_for(closing, PATIENCE_S)
    assert (runs.values(), backend.closed) == ([2], 1)
    await runner.close()


def sequenced(id: int, flags: str) -> Asked:
    return Asked(sequence=SequenceMark(id, "s" in flags, "e" in flags))


async def test_a_sequence_gets_the_slot_of_an_idle_one_although_nobody_calls(pool: Pool) -> None:
    batching = SequenceBatching(max_sequence_idle_us=20_000)
    runner = scheduler(opened(), pool, max_batch=1, dynamic_batching=None, sequence_batching=batching)
    assert submit(runner, 1, asked=sequenced(1, "s")).values() == [2]
    assert submit(runner, 2, asked=sequenced(2, "se")).values() == [4]
    with pytest.raises(BadRequest, match="START"):
        submit(runner, 3, asked=sequenced(1, ""))
    await runner.close()


async def test_a_sequence_runs_in_order_though_there_are_more_threads() -> None:
    pool = Pool(3)
    pool.start()
    backend = opened()
    runner = scheduler(
        backend, pool, instances=3, max_batch=2, dynamic_batching=None, sequence_batching=SequenceBatching()
    )
    flags = ["s", *[""] * 18, "e"]
    heard = [submit(runner, value, asked=sequenced(1, flag)) for value, flag in enumerate(flags)]
    assert [one.values() for one in heard] == [[value * 2] for value in range(20)]
    assert [batch[0] for batch in backend.batches] == list(range(20))
    pool.stop()


class Beside(Doubling):
    """Takes requests side by side; a 3 is refused."""

    groups: list[int]

    def run_group(self, requests: Any) -> list[Arrays | Exception]:
        self.groups = [*getattr(self, "groups", []), len(requests)]
        return [InferenceFailed("not a 3") if 3 in inputs["x"] else {"y": inputs["x"] * 10} for inputs, _ in requests]


async def test_requests_that_are_not_joined_may_run_side_by_side(pool: Pool) -> None:
    backend = Beside(joins=False)
    runner = scheduler(backend, pool)
    submit(runner, 0)
    await until(lambda: backend.running == 1)
    heard = [submit(runner, 1), submit(runner, 3), submit(runner, 4, 5)]
    backend.gate.set()
    assert [heard[0].values(), heard[2].values()] == [[10], [40, 50]]
    assert str(heard[1].only()) == "not a 3"
    assert backend.groups == [3]
    await until(lambda: runner.statistics.success.count == 3)
    assert (runner.statistics.fail.count, runner.statistics.inference_count) == (1, 4)
