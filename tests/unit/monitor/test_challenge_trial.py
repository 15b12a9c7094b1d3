"""What enters a trial and what does not: pairs by version, slots, labels, failures, stages; memory, order, restart."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from services.monitor import queries
from services.monitor.domain.challenge.betting import BettingTest
from services.monitor.domain.challenge.trial import Trial
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Judged
from services.monitor.domain.inputs import Input, Labelled, PredictionOf, Seen
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.handlers import Judge
from services.monitor.outbound.clickhouse import NoAnalytics
from tests.unit.monitor.records import Reading
from tests.unit.monitor.rollouts import FEATURES, ROLLOUT, Record, Rollout
from tests.unit.monitor.worlds import EPOCH, policy


def seen(at: float, version: str, said: str, **more: Any) -> Seen:
    asset = more.pop("asset_id", f"a{at}")
    role = "champion" if version == "1" else "canary"
    one = Seen(
        EPOCH + at, f"p{asset}/{version}", "", "m", version, role, "", asset, said, 0.9, FEATURES, asset, "r1", 5.0
    )
    return replace(one, **more)


def label(at: float, asset: str, truth: str, **more: Any) -> Labelled:
    reference = PredictionOf("m", "1", "champion", "x", 0.9)
    one = Labelled(EPOCH + at, f"l{asset}", "", asset, "", EPOCH + 1, 1, truth, "uniform", 0.05, (reference,))
    return replace(one, **more)


def tried(items: Iterable[Input], engine: Engine | None = None) -> Trial:
    engine = engine or Engine.new(policy())
    engine.feed(("p", True, item) for item in (ROLLOUT, *items))
    engine.drain()
    trial = engine.models["m"].trial
    assert trial is not None
    return trial


def test_wealth_is_the_average_over_the_bets_and_rejection_stays() -> None:
    test = BettingTest("worse", 0.0, 1, 0.01)
    for _ in range(5000):
        test.update(1.0)
    assert test.rejected
    assert test.e_value() > 1e300
    for _ in range(50_000):
        test.update(-1.0)
    assert test.rejected
    assert np.isfinite(test.log_e())


def test_a_fair_game_is_rejected_at_most_as_often_as_alpha_says() -> None:
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(100):
        test = BettingTest("worse", 0.0, 1, 0.05)
        for outcome in rng.choice([-1.0, 0.0, 1.0], 300):
            test.update(float(outcome))
        rejected += test.rejected
    assert rejected <= 10


def test_a_weight_shrinks_the_bet() -> None:
    full, half = BettingTest("worse", 0.0, 1, 0.01), BettingTest("worse", 0.0, 1, 0.01)
    full.update(1.0)
    half.update(1.0, 0.5)
    assert full.wealth[-1] == pytest.approx(log(1.9))
    assert half.wealth[-1] == pytest.approx(log(1.45))
    assert full.mean() == half.mean() == 1.0


def test_a_camera_gives_one_outcome_a_slot_and_the_first_one_counts_whatever_it_says() -> None:
    frames = [seen(1.0 + n / 10, v, "x", camera_id="c") for n in range(25) for v in "12"]
    trial = tried(frames)
    assert (trial.pairs, trial.compared) == (3, 25)
    trial = tried([seen(1.0, "1", "x", camera_id="c"), *frames[2:6]])
    assert (trial.pairs, trial.compared, trial.offered) == (0, 2, 3)


def test_pairs_without_a_camera_count_each() -> None:
    assert tried(seen(1.0 + n / 10, v, "x") for n in range(25) for v in "12").pairs == 25


def test_labels_and_answers_may_come_in_any_order() -> None:
    first, second = seen(1.0, "1", "x", asset_id="a"), seen(2.0, "2", "y", asset_id="a")
    given = label(1.5, "a", "y")
    late, early = replace(given, at=EPOCH + 3), replace(given, at=EPOCH + 0.5)
    orders: list[list[Input]] = [[first, second, late], [first, given, second], [early, second, first]]
    for order in orders:
        trial = tried(order)
        assert (trial.labelled, trial.tests["worse"].mean()) == (1, -1.0)


def test_a_label_that_names_both_answers_needs_no_remembered_pair() -> None:
    both = tuple(PredictionOf("m", v, "champion", said, 0.9) for v, said in (("1", "x"), ("2", "y")))
    trial = tried([label(5000.0, "forgotten", "x", predictions=both)])
    assert (trial.labelled, trial.tests["worse"].mean(), trial.pairs) == (1, 1.0, 0)


def test_only_the_first_label_counts_and_only_one_drawn_at_random() -> None:
    pair = [seen(1.0, v, v, asset_id="a") for v in "12"] + [seen(2.0, v, v, asset_id="b") for v in "12"]
    later = [
        label(3.0, "a", "1"),
        label(4.0, "a", "2", ce_id="l2", revision=2),
        label(5.0, "b", "1", origin="other"),
        label(6.0, "b", "1", ce_id="l3", propensity=0.0),
    ]
    trial = tried([*pair, *later])
    assert (trial.labelled, trial.revised, trial.not_random) == (1, 1, 2)
    assert trial.tests["worse"].mean() == 1.0


def test_a_label_that_was_likelier_to_be_drawn_weighs_less() -> None:
    pairs = [seen(1.0 + at, v, v, asset_id=name) for at, name in enumerate("abc") for v in "12"]
    labels = [label(9.0, "a", "1", propensity=0.8), label(10.0, "b", "1", propensity=0.4)]
    likelier = label(11.0, "c", "1", propensity=0.8)
    assert tried([*pairs, *labels]).tests["worse"].weight == pytest.approx(2.0)
    assert tried([*pairs, *labels, likelier]).tests["worse"].weight == pytest.approx(2.5)
    rare = [label(9.0, "a", "1", propensity=0.001), label(10.0, "b", "1", propensity=0.8)]
    assert tried([*pairs, *rare]).tests["worse"].weight == pytest.approx(1.1)


def test_a_challenger_that_fails_where_the_champion_answers_is_worse_and_drift_hears_none_of_it() -> None:
    engine = Engine.new(policy())
    items = [seen(1.0 + n, v, "x", failed=v == "2") for n in range(20) for v in "12"]
    trial = tried(items, engine)
    assert trial.said is not None
    assert trial.said.verdict == "worse"
    assert "fails where the champion answers" in trial.said.reason
    assert engine.models["m"].apart == {}
    assert engine.models["m"].seen == 20


def test_an_answer_that_takes_too_long_is_worse_unless_it_ran_beside_only() -> None:
    slow = [seen(1.0 + n, v, "x", latency_ms=5.0 if v == "1" else 50.0) for n in range(60) for v in "12"]
    trial = tried(slow)
    assert trial.said is not None
    assert "too slow" in trial.said.reason
    beside = tried(replace(one, role="shadow") if one.version == "2" else one for one in slow)
    assert beside.tests["latency"].outcomes == 0


def test_disagreement_is_not_held_against_the_version_that_answers_already() -> None:
    differ = [seen(1.0 + n, v, v) for n in range(60) for v in "12"]
    assert tried(differ).tests["disagreement"].rejected
    watch = replace(ROLLOUT, ce_id="watch", at=EPOCH + 0.5, stage="watch")
    trial = tried([watch, *differ])
    assert (trial.tests["disagreement"].outcomes, trial.pairs) == (0, 60)


def test_labels_that_show_a_better_version_outweigh_its_disagreement() -> None:
    differ = [seen(1.0 + n, v, v) for n in range(100) for v in "12"]
    labels = [label(200.0 + n, f"a{1.0 + n}", "2", captured_at=EPOCH + 1 + n) for n in range(100)]
    trial = tried([*differ, *labels])
    assert trial.tests["disagreement"].rejected
    assert trial.said is not None
    assert trial.said.verdict == "better"


def test_another_stage_goes_on_and_another_rollout_begins_anew() -> None:
    pairs = [seen(1.0 + n, v, "x") for n in range(5) for v in "12"]
    canary = replace(ROLLOUT, ce_id="canary", at=EPOCH + 50, stage="canary")
    assert tried([*pairs, canary]).pairs == 5
    assert tried([*pairs, replace(canary, id="r2")]).pairs == 0
    engine = Engine.new(policy())
    tried(pairs, engine)
    engine.feed([("p", True, replace(canary, id="", champion="", challenger=""))])
    engine.drain()
    assert engine.models["m"].trial is None


def test_answers_of_another_rollout_or_version_do_not_enter() -> None:
    strangers = [seen(1.0, "1", "x", rollout_id="r0"), seen(1.0, "3", "x")]
    assert tried(strangers).offered == 0


def test_memory_is_bounded_and_what_was_forgotten_is_counted() -> None:
    shipped = policy()
    engine = Engine.new(replace(shipped, challenge=replace(shipped.challenge, remembered=10)))
    trial = tried((seen(1.0 + n, "1", "x") for n in range(50)), engine)
    assert (len(trial.book.entries), trial.book.dropped, trial.offered, trial.coverage()) == (10, 40, 50, 0.0)


def test_a_verdict_is_said_when_it_changes_and_now_and_then() -> None:
    said = Rollout(1, 450, lost=0.0, mended=0.0, labelled=0.0).run()
    assert [(one.verdict, one.pairs) for one in said] == [("undecided", n) for n in (100, 200, 300, 400)]
    assert {one.coverage for one in said} <= {1.0, 100 / 101, 200 / 201, 300 / 301, 400 / 401}


def judgements(engine: Engine, batches: Iterable[list[Record]]) -> list[Judged]:
    return [f for batch in batches for f in engine.feed(batch) if isinstance(f, Judged)]


def test_two_interleavings_give_the_same_judgements() -> None:
    batches = list(Rollout(2, 600, lost=0.04, mended=0.01, camera_id="c", apart=0.5, label_delay=20).records())
    plain, other = Engine.new(policy()), Engine.new(policy())
    expected = judgements(plain, batches) + plain.drain()
    merged = [[item for batch in batches[n : n + 7] for item in batch] for n in range(0, len(batches), 7)]
    shuffled = [sorted(batch, key=lambda record: record[0]) for batch in merged]
    assert judgements(other, shuffled) + other.drain() == expected
    assert len(expected) >= 2


def test_a_trial_put_back_from_its_pieces_goes_on_to_the_bit() -> None:
    shipped = policy()
    used = replace(shipped, challenge=replace(shipped.challenge, remembered=600))
    batches = list(Rollout(3, 1500, lost=0.02, mended=0.02, labelled=0.5, label_delay=300).records())
    engine, snapshots = Engine.new(used), Snapshots()
    written: dict[str, bytes] = {}
    for number, batch in enumerate(batches[:1200]):
        engine.feed(batch)
        if number % 25 == 24:
            written.update(snapshots.changed(engine))
    copy = Engine.new(used)
    rebuild(copy, written)
    assert copy.models["m"].trial == engine.models["m"].trial
    assert judgements(copy, batches[1200:]) == judgements(engine, batches[1200:])
    assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))


async def test_rollouts_under_way_can_be_asked_for() -> None:
    judge = Judge(policy())
    judge.take(Reading().read(item for batch in Rollout(4, 400).records() for item in batch))
    judge.rest()
    ((message, left_out),) = await queries.Reader(judge, NoAnalytics()).challenges("")
    assert (message.rollout_id, message.challenger, len(message.tests)) == ("r1", "2", 6)
    assert left_out == {"labels_not_random": 0, "labels_revised": 0, "pairs_without_partner": 0}
