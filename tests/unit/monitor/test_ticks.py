"""What ticks let through is a function of records and ticks: not of how they were read, nor of who died."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Finding, Request
from services.monitor.domain.inputs import Input
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.ticks import Arrival, Gate, Tick, exact
from services.monitor.wire import tick_event, tick_of
from tests.unit.monitor.records import Reading
from tests.unit.monitor.worlds import EPOCH, World, policy


def arrival(source: str, offset: int, at: float) -> Arrival:
    return Arrival(at, f"{source}-{offset}", source, offset, None)


def ids(released: Sequence[Arrival]) -> list[str]:
    return [one.ce_id for one in released]


def test_a_tick_waits_for_the_records_that_it_counts_on_and_lets_the_rest_wait() -> None:
    gate = Gate()
    gate.add([arrival("a/0", 0, 1.0), arrival("a/0", 1, 3.0), arrival("a/0", 2, 2.0)])
    gate.tick(0, Tick(2.5, {"a/0": 2, "b/0": 1}))
    assert list(gate.release()) == []
    gate.add([arrival("b/0", 0, 0.5)])
    assert [ids(one) for one in gate.release()] == [["b/0-0", "a/0-0"]]
    assert gate.unread() == {"a/0": 1, "b/0": 1}
    gate.tick(1, Tick(3.0, {"a/0": 3}))
    assert [ids(one) for one in gate.release()] == [["a/0-2", "a/0-1"]]
    assert gate.late == 1
    assert gate.unread() == {"a/0": 3, "b/0": 1}


def test_a_tick_that_is_known_changes_nothing() -> None:
    gate = Gate()
    gate.add([arrival("a/0", 0, 1.0)])
    gate.tick(0, Tick(2.0, {"a/0": 1}))
    assert len(list(gate.release())) == 1
    gate.tick(0, Tick(2.0, {"a/0": 1}))
    assert list(gate.release()) == []
    assert not gate.pending


def test_a_tick_travels_exactly() -> None:
    tick = Tick(exact(EPOCH + 0.1234567), {"irisloop.x.y.z.v1/11": 7, "a/0": 1})
    assert tick_of(tick_event(tick, "judge").value) == tick


class Log:
    """A broker's partitions and ticks, read in any cut and any interleaving."""

    def __init__(self, seed: int) -> None:
        world = World(seed, frames=5000, onset=2500, shift=1.5, error_after=0.4, uniform=0.1)
        reading, self.partitions, self.ticks = Reading(), dict[str, list[Arrival]](), list[tuple[int, Tick]]()
        newest = 0.0
        for number, batch in enumerate(world.inputs()):
            for one in reading.read(batch):
                self.partitions.setdefault(one.source, []).append(one)
                newest = max(newest, one.at)
            if number % 5 == 4:
                ends = {source: len(log) for source, log in self.partitions.items()}
                # Some records are later than that: which ones is decided by the ticks as well.
                self.ticks.append((len(self.ticks), Tick(exact(newest - 0.15), ends)))
        ends = {source: len(log) for source, log in self.partitions.items()}
        self.ticks.append((len(self.ticks), Tick(exact(newest), ends)))


@pytest.fixture(scope="module")
def log() -> Log:
    return Log(21)


def judged(log: Log, rng: np.random.Generator, most: int, deaths: float) -> tuple[list[Finding], dict[str, bytes]]:
    """Read partitions and ticks in random turns of up to `most` records; die now and then before a commit,
    and go on from what was committed.
    """
    engine, snapshots = Engine.new(policy()), Snapshots()
    said: list[Finding] = []
    written: dict[str, bytes] = {}
    committed: dict[str, int] = {}
    tick = at_tick = 0
    at: dict[str, int] = {}
    names = [*log.partitions, "ticks"]
    while at_tick < len(log.ticks) or any(at.get(s, 0) < len(p) for s, p in log.partitions.items()):
        name = names[int(rng.integers(len(names)))]
        count = int(rng.integers(1, most + 1))
        if name == "ticks":
            engine.hear([], log.ticks[at_tick : at_tick + max(count // 40, 1)])
            at_tick = min(at_tick + max(count // 40, 1), len(log.ticks))
        else:
            begin = at.get(name, 0)
            engine.hear(log.partitions[name][begin : begin + count])
            at[name] = min(begin + count, len(log.partitions[name]))
        found = engine.advance()
        dies = rng.random() < deaths
        if found is not None and not dies:
            said += found
            written.update(snapshots.changed(engine))
            committed.update(engine.gate.unread())
            tick = engine.gate.pending[0][0] if engine.gate.pending else at_tick
        if dies:
            engine, snapshots = Engine.new(policy()), Snapshots()
            rebuild(engine, written)
            at, at_tick = dict(committed), tick
    return said, dict(Snapshots().changed(engine))


@pytest.mark.parametrize(("seed", "most", "deaths"), [(1, 1, 0.0), (2, 37, 0.0), (3, 900, 0.0), (4, 120, 0.05)])
def test_any_cut_any_interleaving_and_any_death_give_the_same_bits(
    log: Log, seed: int, most: int, deaths: float
) -> None:
    said, state = judged(log, np.random.default_rng(0), 100, 0.0)
    assert any(isinstance(one, Request) for one in said)
    others, end = judged(log, np.random.default_rng(seed), most, deaths)
    assert others == said
    assert {key: end[key] for key in state if key != "@merge"} == {k: v for k, v in state.items() if k != "@merge"}


def test_a_state_of_the_first_codec_has_what_waited_and_it_is_judged() -> None:
    """Codec 1 kept inputs that waited in the merger, and had committed their offsets."""
    batches = list(World(21, frames=600).inputs())
    old = Engine.new(policy())
    for batch in batches[:20]:
        old.feed(batch)
    assert old.merger.waiting
    pieces = dict(Snapshots().changed(old))
    from services.monitor.domain.snapshot import dump

    pieces["@merge"] = dump([old.merger, old.clock, old.taken, sorted(old.models)])
    copy = Engine.new(policy())
    rebuild(copy, pieces)
    waiting: list[Input] = [entry[3] for entry in sorted(old.merger.waiting, key=lambda e: e[:3])]
    assert copy.gate.watermark == old.merger.released
    copy.drain()
    assert copy.taken == old.taken + len(waiting)
