"""Challengers judged: the bad are found within few answers, the good pass, and chance is not taken for evidence.

Fewer rollouts than `python -m tests.bench.challenge` draws; the bounds are the same.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.monitor.domain.challenge.betting import Bet
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import OTHER, Judged, Labelled, RolloutKnown, Seen
from services.monitor.domain.pieces import Snapshots, rebuild
from tests.unit.monitor.rollouts import Course, Kind, first, judged
from tests.unit.monitor.worlds import EPOCH, policy


@pytest.mark.parametrize("kind", ["shuffled", "late"])
def test_a_bad_version_is_found_within_60_labels_or_300_answers(kind: Kind) -> None:
    for seed in range(5):
        labelled = first(Course(kind, seed, pairs=400, stage="watch"), "worse")
        assert labelled is not None and labelled.labelled <= 60
        unlabelled = first(Course(kind, seed, pairs=400, labels=0.0), "worse")
        assert unlabelled is not None and unlabelled.pairs <= 300
        assert "disagreement" in unlabelled.reason


@pytest.mark.parametrize(("kind", "guard"), [("failing", "errors"), ("slow", "latency")])
def test_a_version_that_fails_or_is_slow_is_worse(kind: Kind, guard: str) -> None:
    found = first(Course(kind, 0, labels=0.0), "worse")
    assert found is not None and found.pairs <= 300 and found.reason.startswith(guard)


@pytest.mark.parametrize("kind", ["same", "better"])
def test_an_equal_or_better_version_passes_within_2000_pairs(kind: Kind) -> None:
    for seed in range(4):
        found = first(Course(kind, seed), "equal", "better", "worse")
        assert found is not None and found.verdict != "worse" and found.pairs <= 2000


def test_a_version_worse_by_three_in_a_hundred_never_passes() -> None:
    assert all(first(Course("slightly worse", seed), "equal", "better") is None for seed in range(2))


def test_one_that_is_the_same_is_not_called_worse() -> None:
    assert sum(first(Course("other", seed, pairs=300), "worse") is not None for seed in range(100, 120)) <= 1


def test_late_labels_in_any_order_and_a_snapshot_in_between_change_no_verdict() -> None:
    course = Course("better", 3, pairs=600, labels=0.5, delay=200.0)
    plain = list(judged(course))
    engine, snapshots, said = Engine.new(policy()), Snapshots(), []
    written: dict[str, bytes] = {}
    inputs = list(course.inputs())
    for start in range(0, len(inputs), 10):
        batch = [(type(item).__name__, isinstance(item, Seen), item) for item in inputs[start : start + 10]]
        said += [found for found in engine.feed(batch) if isinstance(found, Judged)]
        written |= snapshots.changed(engine)
        if start % 300 == 0:
            engine = Engine.new(policy())
            rebuild(engine, written)
    said += [found for found in engine.drain() if isinstance(found, Judged)]
    assert said == plain and said[-1].labelled > 150


def test_frames_of_one_second_are_one_outcome() -> None:
    inputs = list(Course("shuffled", 1, pairs=200, labels=0.0).inputs())
    crowded = [
        replace(item, at=EPOCH + 1.0 + (item.at - EPOCH) / 1000) if isinstance(item, Seen) else item for item in inputs
    ]
    engine = Engine.new(policy())
    engine.feed([("p", True, item) for item in crowded])
    engine.drain()
    challenge = engine.models["m"].challenge
    assert challenge is not None
    assert (challenge.compared, challenge.bets["disagreement"].outcomes, challenge.verdict()) == (200, 1, "undecided")


def test_labels_picked_for_another_reason_never_enter() -> None:
    inputs = [
        replace(item, origin=OTHER) if isinstance(item, Labelled) else item
        for item in Course("same", 1, pairs=200).inputs()
    ]
    engine = Engine.new(policy())
    engine.feed([("p", True, item) for item in inputs])
    engine.drain()
    challenge = engine.models["m"].challenge
    assert challenge is not None and (challenge.compared, challenge.labelled) == (200, 0)


def test_a_new_stage_goes_on_and_another_rollout_begins_anew_and_an_end_forgets() -> None:
    engine = Engine.new(policy())
    watch = engine.watch("m")
    for item in Course("same", 1, pairs=50).inputs():
        engine.feed([("p", True, item)])
    engine.drain()
    assert watch.challenge is not None and watch.challenge.compared == 50
    later = RolloutKnown(EPOCH + 100, "2", "", "m", "r", "1", "2", "watch")
    for item in (later, replace(later, at=EPOCH + 101, id="s"), replace(later, at=EPOCH + 102, id="")):
        engine.feed([("p", True, item)])
        engine.drain()
        kept = None if watch.challenge is None else (watch.challenge.rollout.stage, watch.challenge.compared)
        assert kept == {"r": ("watch", 50), "s": ("watch", 0), "": None}[item.id]


def test_drift_is_watched_on_the_champion_alone_while_a_rollout_is_under_way() -> None:
    engine = Engine.new(policy())
    for item in Course("failing", 1, pairs=50).inputs():
        engine.feed([("p", True, item)])
    engine.drain()
    watch = engine.models["m"]
    assert (watch.version, watch.seen, watch.apart) == ("1", 50, {"canary": 45})


def test_a_bet_refuses_no_true_hypothesis_but_rarely_and_bounded_weights_shrink_it() -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    rejected = 0
    for _ in range(200):
        bet = Bet(0.0, 0.05)
        for outcome in rng.choice([-1.0, 0.0, 1.0], 300, p=[0.1, 0.8, 0.1]):
            bet.take(float(outcome))
        rejected += bet.rejected
    assert rejected <= 20
    light, heavy = Bet(0.0, 0.01), Bet(0.0, 0.01)
    for _ in range(10):
        light.take(1.0, 0.1)
        heavy.take(1.0)
    assert 1.0 < light.capital() < heavy.capital()
