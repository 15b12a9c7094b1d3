"""Order, memory and the life of a version: the same events give the same verdicts, and a new champion starts anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Request, State
from services.monitor.domain.inputs import RunEnded, Seen, VersionKnown
from services.monitor.domain.merge import Merger
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.domain.recency import Recent
from services.monitor.domain.snapshot import dump, load
from tests.unit.monitor.worlds import EPOCH, World, policy


def seen(at: float, ce_id: str) -> Seen:
    return Seen(EPOCH + at, ce_id, "", "m", "1", "champion", "c", ce_id, "x", 1.0, ())


def test_inputs_come_out_by_event_time_and_id_and_wait_for_the_slowest_partition() -> None:
    merger = Merger(lateness=1.0, idle=10.0)
    merger.add([("a", True, seen(0, "a0")), ("b", True, seen(0, "b0"))])
    merger.add([("a", True, seen(t, f"a{t}")) for t in range(1, 30)])
    assert [i.ce_id for i in merger.release()] == ["a0", "b0", *(f"a{t}" for t in range(1, 29))]
    merger.add([("b", True, seen(3, "late"))])
    assert [i.ce_id for i in merger.release()] == ["late"]
    assert merger.late == 1


def test_a_partition_that_lags_holds_the_others_back_until_it_counts_as_idle() -> None:
    merger = Merger(lateness=1.0, idle=10.0)
    merger.add([("a", True, seen(0, "a0")), ("b", True, seen(12, "b12"))])
    merger.add([("a", True, seen(5, "a5"))])
    assert [i.ce_id for i in merger.release()] == ["a0"]
    merger.add([("b", True, seen(14, "b14"))])
    assert [i.ce_id for i in merger.release()] == []
    merger.add([("b", True, seen(17, "b17"))])
    assert [i.ce_id for i in merger.release()] == ["a5", "b12", "b14"]
    assert [i.ce_id for i in merger.drain()] == ["b17"]


def test_two_interleavings_of_the_same_partitions_give_the_same_words() -> None:
    world = World(11, frames=6500, shift=1.5, error_after=0.4, uniform=0.1)
    batches = list(world.inputs())
    plain, shuffled = Engine.new(policy()), Engine.new(policy())
    said = [f for batch in batches for f in plain.feed(batch)] + plain.drain()
    rng = np.random.default_rng(0)
    other = shuffled.feed(batches[0])
    for start in range(1, len(batches), 5):
        items = [item for batch in batches[start : start + 5] for item in batch]
        by_source: dict[str, list[tuple[str, bool, object]]] = {}
        for item in items:
            by_source.setdefault(item[0], []).append(item)
        for source in rng.permutation(sorted(by_source)):
            other += shuffled.feed(by_source[str(source)])  # type: ignore[arg-type]
    other += shuffled.drain()
    assert any(isinstance(f, Request) for f in said)
    assert other == said
    assert shuffled.merger.late == plain.merger.late == 0


def test_a_state_put_back_from_its_pieces_goes_on_to_the_bit() -> None:
    batches = list(World(12, frames=6000, shift=1.5, error_after=0.4, uniform=0.1).inputs())
    engine, snapshots = Engine.new(policy()), Snapshots()
    written: dict[str, bytes] = {}
    for batch in batches[:215]:
        engine.feed(batch)
        written.update(snapshots.changed(engine))
    copy = Engine.new(policy())
    rebuild(copy, written)
    said = [f for batch in batches[215:] for f in engine.feed(batch)]
    assert [f for batch in batches[215:] for f in copy.feed(batch)] == said
    assert any(isinstance(f, Request) for f in said)
    assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))


def test_only_what_changed_is_written_again() -> None:
    engine, snapshots = World(1, frames=2000).run(), Snapshots()
    everything = snapshots.changed(engine)
    assert {key for key, _ in snapshots.changed(engine)} == {"@merge", "m"}
    assert len(everything) > 20


@pytest.mark.parametrize("seed", [1, 2])
def test_a_new_champion_closes_the_incident_and_is_not_asked_to_be_replaced(seed: int) -> None:
    before = World(seed, shift=1.5, error_after=0.4)
    engine = before.run()
    (request,) = [f for f in before.findings if isinstance(f, Request)]
    after = World(seed + 50, onset=0, shift=1.5, error_after=0.15, error_before=0.15, version="2", first=8000)
    ended = RunEnded(after.time(0), "run", "", "m", request.id, True, "")
    judged = VersionKnown(after.time(0), "judged", "", "m", "2", request.id, "accepted", 0.14, 400)
    after.heard(engine.feed([("trainer/0", False, ended), ("registry/0", False, judged)]))
    after.run(engine)
    closed = next(f for f in after.findings if isinstance(f, DriftFound)).incident
    assert (closed.version, closed.state) == ("1", State.OK)
    assert closed.closed_at >= after.time(0)
    assert not [f for f in after.findings if isinstance(f, Request)]
    watch = engine.models["m"]
    assert (watch.version, watch.ledger.open) == ("2", None)
    assert all(c.reference is not None for c in watch.cameras.values())


def test_shadows_are_counted_apart_and_repeats_not_at_all() -> None:
    engine = Engine.new(policy())
    one = replace(seen(0, "p"), features=(0.0,) * 22)
    shadow = replace(one, ce_id="q", role="shadow", version="0")
    engine.feed([("a", True, one), ("a", True, one), ("a", True, shadow)])
    engine.drain()
    watch = engine.models["m"]
    assert (watch.seen, watch.repeated, watch.apart, watch.version) == (1, 1, {"shadow": 1}, "1")


def test_the_memory_of_ids_is_bounded() -> None:
    recent = Recent()
    assert all(recent.fresh(f"id-{n}") for n in range(2000))
    assert not recent.fresh("id-1999")
    assert len(recent.ids) <= 512


def test_a_snapshot_is_exact_and_refuses_what_it_does_not_know() -> None:
    value = {"a": (1, 2.5, float("inf")), "b": [np.arange(3.0), b"x", {"y", "z"}], 3: None, "s": State.WARN}
    back = load(dump(value))
    assert back["a"] == value["a"]
    assert back["b"][0].tolist() == [0.0, 1.0, 2.0]
    assert (back["b"][1:], back[3], back["s"]) == ([b"x", {"y", "z"}], None, State.WARN)
    with pytest.raises(ValueError, match="object cannot be part"):
        dump(object())


@pytest.mark.parametrize("change", [{"labels": {}}, {"more": {}}, {"harm": {"deviations": "much"}}])
def test_a_policy_that_is_not_whole_is_refused_by_name(change: dict[str, dict[str, object]]) -> None:
    import yaml

    from tests.unit.monitor.worlds import POLICY_FILE

    document = yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8"))
    for section, values in change.items():
        document[section] = {**document.get(section, {}), **values} if values else {}
    with pytest.raises(ValueError, match="policy: "):
        Policy.read(document)
