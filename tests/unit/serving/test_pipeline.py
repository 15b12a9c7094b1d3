"""Ensembles as dataflow: each step as soon as its inputs are there, one error for the whole, nothing left behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from services.serving.domain.config import EnsembleStep, ModelConfig, TensorConfig
from services.serving.domain.ports import Inline
from services.serving.domain.routes import Route, RouteTable, Version
from services.serving.domain.statistics import Statistics
from services.serving.domain.work import PLAIN, Asked, SequenceMark, Work
from services.serving.errors import BadRequest, InferenceFailed, NotReady, Overloaded
from services.serving.outbound.pipeline import EnsembleRunner
from services.serving.outbound.scheduling import Pool, Scheduler
from tests.unit.serving.runners import Doubling, Heard, config_of, feed, opened
from tests.waiting import PATIENCE_S, until


class Fake:
    """A member that answers when it is told to."""

    def __init__(self) -> None:
        self.statistics = Statistics()
        self.works: list[Work] = []
        self.holders = 0
        self.closed = False
        self.refusal: Exception | None = None

    @property
    def pending(self) -> int:
        return len(self.works)

    def submit(self, work: Work, inline: Inline | None = None) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.works.append(work)

    @contextmanager
    def hold(self) -> Iterator[None]:
        if self.closed:
            raise Overloaded("This version was just unloaded; try again.")
        self.holders += 1
        try:
            yield
        finally:
            self.holders -= 1

    def retire(self) -> None:
        self.closed = True

    async def close(self) -> None:
        self.closed = True

    def answer(self, value: Any, *, last: bool = True) -> None:
        """Answer the oldest request: with y of that value, an error, or the end."""
        work = self.works.pop(0) if last else self.works[0]
        result = value if value is None or isinstance(value, Exception) else feed(*([value] * work.rows))
        work.sink({"y": result["x"]} if isinstance(result, Mapping) else result, last)

    def asked_with(self) -> dict[str, list[float]]:
        """The first column of each input of the oldest request."""
        return {name: [float(row[0]) for row in array] for name, array in self.works[0].inputs.items()}


class World:
    """Members by name, and the table that knows them."""

    def __init__(self, *names: str, **configs: ModelConfig) -> None:
        self.members = {name: Fake() for name in (*names, *configs)}
        self.configs = {name: configs.get(name, config_of(name)) for name in self.members}
        self.missing: set[str] = set()

    def __getitem__(self, name: str) -> Fake:
        return self.members[name]

    def table(self) -> RouteTable:
        routes = {}
        for name, runner in self.members.items():
            version = Version(name, "1", self.configs[name], runner)
            found = {} if name in self.missing else {"1": version}
            routes[name] = Route(name, versions=found, default=found.get("1"))
        return RouteTable(routes)


def two(name: str) -> ModelConfig:
    """A member of two inputs, the second of which may be left out."""
    inputs = (TensorConfig("x", "FP32", (2,)), TensorConfig("z", "FP32", (2,), optional=True))
    return config_of(name, inputs=inputs)


def step(model: str, tensor: str, makes: str, **more: str) -> EnsembleStep:
    return EnsembleStep(model, "", {"x": tensor, **more}, {"y": makes})


def ensemble(*steps: EnsembleStep, outputs: tuple[str, ...] = ("OUT",), **fields: Any) -> ModelConfig:
    inputs = fields.pop("inputs", (TensorConfig("IN", "FP32", (2,)),))
    declared = tuple(TensorConfig(name, "FP32", (2,)) for name in outputs)
    return ModelConfig("whole", "ensemble", 8, inputs, declared, ensemble=steps, **fields)


DIAMOND = (
    step("join", "left", "OUT", z="right"),  # the order in the file does not matter
    step("a", "IN", "middle"),
    step("b", "middle", "left"),
    step("c", "middle", "right"),
)


def start(runner: EnsembleRunner, *values: float, asked: Asked = PLAIN, **inputs: Any) -> tuple[Heard, Work]:
    heard = Heard()
    tensors = {"IN": feed(*(values or (1,)))["x"], **inputs}
    work = heard.work({name: array for name, array in tensors.items() if array is not None}, len(values) or 1, asked)
    runner.submit(work)
    return heard, work


def held(world: World) -> int:
    return sum(member.holders for member in world.members.values())


def test_a_diamond_runs_each_step_as_soon_as_its_inputs_are_there() -> None:
    world = World("a", "b", "c", join=two("join"))
    runner = EnsembleRunner(ensemble(*DIAMOND), world.table)
    heard, _ = start(runner, 1, 5)
    assert [world[name].pending for name in ("a", "b", "c", "join")] == [1, 0, 0, 0]
    assert world["a"].asked_with() == {"x": [1, 5]}
    world["a"].answer(2)
    assert [world[name].pending for name in ("a", "b", "c", "join")] == [0, 1, 1, 0]
    world["c"].answer(30)
    assert world["join"].pending == 0
    world["b"].answer(20)
    assert world["join"].asked_with() == {"x": [20, 20], "z": [30, 30]}
    assert (runner.pending, held(world), world["join"].works[0].rows) == (1, 4, 2)
    world["join"].answer(7)
    assert heard.values("OUT") == [7, 7]
    assert (runner.pending, held(world)) == (0, 0)


def test_an_output_may_come_from_the_middle_and_all_are_waited_for() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(
        ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT"), outputs=("OUT", "MID")), world.table
    )
    heard, _ = start(runner)
    world["a"].answer(2)
    assert not heard.last.is_set()
    world["b"].answer(3)
    assert (heard.values("OUT"), heard.values("MID")) == ([3], [2])


def test_the_same_model_may_be_several_steps() -> None:
    world = World("a")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("a", "MID", "OUT")), world.table)
    heard, _ = start(runner, 4)
    world["a"].answer(5)
    assert world["a"].asked_with() == {"x": [5]}
    world["a"].answer(6)
    assert heard.values("OUT") == [6]


def test_a_failing_step_ends_the_request_once_names_itself_and_cancels_the_others() -> None:
    world = World("a", "b", "c", join=two("join"))
    runner = EnsembleRunner(ensemble(*DIAMOND), world.table)
    heard, _ = start(runner)
    world["a"].answer(2)
    assert not world["c"].works[0].cancelled
    world["b"].answer(BadRequest("too small", field="inputs"))
    error = heard.only()
    assert isinstance(error, BadRequest)
    assert (str(error), error.field) == ("in ensemble 'whole', model 'b': too small", "inputs")
    assert world["c"].works[0].cancelled
    world["c"].answer(1)
    assert (world["join"].pending, runner.pending, held(world), runner.statistics.fail.count) == (0, 0, 0, 1)


def test_a_step_that_refuses_ends_the_request_with_its_own_kind_of_error() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    world["b"].refusal = Overloaded("Exceeds maximum queue size")
    heard, _ = start(runner)
    world["a"].answer(1)
    error = heard.only()
    assert isinstance(error, Overloaded)
    assert "model 'b': Exceeds maximum queue size" in str(error)
    assert held(world) == 0


def test_an_error_that_nobody_foresaw_is_a_failed_inference() -> None:
    world = World("a")
    heard, _ = start(EnsembleRunner(ensemble(step("a", "IN", "OUT")), world.table))
    world["a"].answer(ZeroDivisionError("division by zero"))
    assert isinstance(heard.only(), InferenceFailed)


def test_what_a_step_cannot_take_is_said_before_it_runs() -> None:
    def narrow(name: str) -> ModelConfig:
        return config_of(name, max_batch=1)

    world = World("a", b=narrow("b"))
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    heard, _ = start(runner, 1, 2)
    world["a"].answer(3)
    error = heard.only()
    assert isinstance(error, BadRequest)
    assert "model 'b': inference request batch-size must be <= 1" in str(error)


def test_a_tensor_that_no_step_gives_ends_the_request_instead_of_hanging_it() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    heard, _ = start(runner)
    world["a"].works.pop().sink({}, True)
    assert str(heard.only()) == "in ensemble 'whole', no step gave tensor 'OUT'"
    assert (runner.pending, held(world)) == (0, 0)


def test_an_optional_input_that_did_not_come_is_left_out_of_its_step() -> None:
    optional = (TensorConfig("IN", "FP32", (2,)), TensorConfig("EXTRA", "FP32", (2,), optional=True))
    world = World(a=two("a"))
    runner = EnsembleRunner(ensemble(step("a", "IN", "OUT", z="EXTRA"), inputs=optional), world.table)
    start(runner)
    assert set(world["a"].works[0].inputs) == {"x"}
    world["a"].answer(0)
    start(runner, EXTRA=feed(9)["x"])
    assert world["a"].asked_with() == {"x": [1], "z": [9]}


def test_a_missing_member_is_named_and_nothing_begins_or_stays_held() -> None:
    world = World("a", "b")
    world.missing = {"b"}
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    with pytest.raises(NotReady, match="ensemble 'whole' needs model 'b'"):
        start(runner)
    assert (world["a"].pending, held(world), runner.pending) == (0, 0, 0)


def test_cancelling_the_whole_cancels_what_waits_and_starts_nothing_more() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    heard, work = start(runner)
    work.cancelled = True
    assert world["a"].works[0].cancelled
    world["a"].answer(1)
    assert (world["b"].pending, runner.pending, held(world)) == (0, 0, 0)
    assert isinstance(heard.only(), InferenceFailed)


def test_priority_sequence_parameters_and_the_rest_of_the_time_are_handed_on() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    asked = Asked(3, 60_000_000, SequenceMark("s", start=True), {"k": 1})
    start(runner, asked=asked)
    world["a"].answer(1)
    found = world["b"].works[0].asked
    assert (found.priority, found.sequence, found.parameters) == (3, asked.sequence, {"k": 1})
    assert 0 < found.timeout_us < 60_000_000


def test_the_background_stays_in_the_background() -> None:
    world = World("a")
    heard = Heard()
    EnsembleRunner(ensemble(step("a", "IN", "OUT")), world.table).submit(
        heard.work({"IN": feed(1)["x"]}, background=True)
    )
    assert world["a"].works[0].background


def test_a_request_runs_on_the_versions_that_were_in_force_when_it_came() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    heard, _ = start(runner)
    old, world.members["b"] = world["b"], Fake()
    old.retire()
    world["a"].answer(1)
    old.answer(4)
    assert heard.values("OUT") == [4]
    start(runner)
    assert [world["b"].holders, old.holders] == [1, 0]


def test_a_member_that_closes_between_look_up_and_hold_is_looked_up_again() -> None:
    world = World("a")
    gone, fresh = world["a"], Fake()
    gone.closed = True
    tables = iter([world.table()])

    def table() -> RouteTable:
        found = next(tables, None)
        world.members["a"] = fresh
        return found or world.table()

    start(EnsembleRunner(ensemble(step("a", "IN", "OUT")), table))
    assert (gone.pending, fresh.pending) == (0, 1)


def test_more_requests_than_the_bound_are_refused() -> None:
    world = World("a")
    runner = EnsembleRunner(ensemble(step("a", "IN", "OUT")), world.table, most_open=1)
    start(runner)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
        start(runner)
    world["a"].answer(1)
    assert held(world) == 0
    start(runner)


async def test_closing_waits_for_what_is_in_hand_and_refuses_the_rest() -> None:
    world = World("a")
    runner = EnsembleRunner(ensemble(step("a", "IN", "OUT")), world.table)
    heard, _ = start(runner)
    closing = asyncio.create_task(runner.close())
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        start(runner)
    with pytest.raises(Overloaded), runner.hold():
        pass
    assert not closing.done()
    world["a"].answer(2)
    await asyncio.wait_for(closing, PATIENCE_S)
    assert heard.values("OUT") == [2]


def test_statistics_count_the_request_once_with_the_time_in_the_queues_of_its_steps() -> None:
    world = World("a", "b")
    runner = EnsembleRunner(ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT")), world.table)
    start(runner, 1, 2, 3)
    for name in ("a", "b"):
        work = world[name].works[0]
        work.queued_ns, work.started_ns = 1_000, 3_500
        world[name].answer(1)
    statistics = runner.statistics
    assert (statistics.success.count, statistics.inference_count, statistics.execution_count) == (1, 3, 1)
    assert (statistics.queue.ns, list(statistics.batches)) == (5_000, [3])


def decoupled(name: str) -> ModelConfig:
    return config_of(name, decoupled=True)


def test_each_answer_of_a_decoupled_step_flows_on_and_the_end_comes_last() -> None:
    world = World("b", many=decoupled("many"), join=two("join"))
    steps = (step("many", "IN", "each"), step("b", "each", "made"), step("join", "made", "OUT", z="IN"))
    runner = EnsembleRunner(ensemble(*steps, decoupled=True), world.table)
    heard, _ = start(runner, 9)
    world["many"].answer(1, last=False)
    world["many"].answer(2, last=False)
    world["b"].answer(10)
    assert world["join"].asked_with() == {"x": [10], "z": [9]}
    world["join"].answer(100)
    assert [result["OUT"][0][0] for result in heard.results if isinstance(result, dict)] == [100]
    world["many"].answer(None)
    world["b"].answer(20)
    assert not heard.last.is_set()
    world["join"].answer(200)
    assert heard.results[-1] is None
    assert [result["OUT"][0][0] for result in heard.results if isinstance(result, dict)] == [100, 200]
    assert (runner.pending, held(world), runner.statistics.success.count) == (0, 0, 1)


def test_a_decoupled_step_may_answer_nothing_at_all() -> None:
    world = World("b", many=decoupled("many"))
    runner = EnsembleRunner(ensemble(step("many", "IN", "each"), step("b", "each", "OUT"), decoupled=True), world.table)
    heard, _ = start(runner)
    world["many"].answer(None)
    assert heard.only() is None


async def test_many_requests_at_one_time_all_come_out_right_on_real_schedulers() -> None:
    pool = Pool(3)
    pool.start()
    backends = {name: opened() for name in ("a", "b", "c", "join")}
    runners = {name: Scheduler(two(name), backend, pool, 10_000) for name, backend in backends.items()}
    versions = {name: Version(name, "1", two(name), runner) for name, runner in runners.items()}
    table = RouteTable({name: Route(name, versions={"1": one}, default=one) for name, one in versions.items()})
    runner = EnsembleRunner(ensemble(*DIAMOND), lambda: table)
    heard = [start(runner, value)[0] for value in range(200)]
    assert [one.values("OUT") for one in heard] == [[value * 8] for value in range(200)]
    assert (runner.pending, runner.statistics.success.count) == (0, 200)
    assert max(map(len, backends["a"].batches)) > 1
    for one in runners.values():
        await one.close()
    pool.stop()
    assert [backend.closed for backend in backends.values()] == [1] * 4


async def test_no_request_fails_while_members_are_swapped_under_load() -> None:
    pool = Pool(2)
    pool.start()
    routes: dict[str, Route] = {}
    swapped: list[Doubling] = []

    def swap(name: str) -> None:
        old = routes.get(name)
        backend = opened()
        swapped.append(backend)
        version = Version(name, "1", config_of(name), Scheduler(config_of(name), backend, pool, 10_000))
        routes[name] = Route(name, versions={"1": version}, default=version)
        if old is not None and old.default is not None:
            old.default.runner.retire()

    swap("a")
    swap("b")
    whole = ensemble(step("a", "IN", "MID"), step("b", "MID", "OUT"))
    runner = EnsembleRunner(whole, lambda: RouteTable(dict(routes)))
    done = threading.Event()

    def hammer() -> list[Heard]:
        heard: list[Heard] = []
        while not done.is_set() and len(heard) < 5_000:
            heard.append(start(runner, 3)[0])
            heard[-1].only()
        return heard

    callers = [asyncio.create_task(asyncio.to_thread(hammer)) for _ in range(4)]
    for _ in range(50):
        seen = runner.statistics.success.count
        await until(lambda seen=seen: runner.statistics.success.count > seen)  # type: ignore[misc]
        swap("a")
        swap("b")
    done.set()
    for one in callers:
        assert {tuple(heard.values("OUT")) for heard in await one} == {(12.0,)}
    for route in routes.values():
        assert route.default is not None
        await route.default.runner.close()
    await until(lambda: all(backend.closed == 1 for backend in swapped))
    assert runner.statistics.fail.count == 0
    pool.stop()
