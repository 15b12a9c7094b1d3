"""How soon and how surely a challenger is judged, on seeded rollouts that go through the engine."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Judged
from tests.unit.monitor.rollouts import ROLLOUT, Rollout, without_disagreement

RUNS = range(20)
WORSE = frozenset({"worse"})
GOOD = frozenset({"equal", "better"})


def ends(said: list[list[Judged]]) -> Counter[str]:
    """How often which verdict was the last word."""
    return Counter(one[-1].verdict for one in said)


def test_a_bad_version_is_worse_within_60_labels_although_they_come_late() -> None:
    used = without_disagreement()
    said = [Rollout(seed, 300, shuffled=True).run(used, WORSE) for seed in RUNS]
    assert ends(said) == {"worse": 20}
    assert max(one[-1].labelled for one in said) <= 60
    assert "(worse, e-value" in said[0][-1].reason


def test_a_bad_version_is_worse_within_300_answers_without_labels() -> None:
    said = [Rollout(seed, 300, shuffled=True, labelled=0.0).run(until=WORSE) for seed in RUNS]
    assert ends(said) == {"worse": 20}
    assert max(one[-1].pairs for one in said) <= 300
    assert {one[-1].labelled for one in said} == {0}
    assert "(disagreement, e-value" in said[0][-1].reason


def test_an_equal_or_better_version_is_accepted_within_2000_pairs() -> None:
    equal = [Rollout(seed, lost=0.01, mended=0.01).run(until=GOOD) for seed in RUNS[:10]]
    better = [Rollout(seed, lost=0.01, mended=0.03).run(until=GOOD) for seed in RUNS[10:]]
    assert sum(ends(equal + better).values()) == 20
    assert set(ends(equal + better)) <= GOOD
    assert max(one[-1].labelled for one in equal + better) <= 2000


def test_a_version_that_errs_more_often_by_three_in_a_hundred_is_never_accepted() -> None:
    said = [Rollout(seed, lost=0.04, mended=0.01).run() for seed in RUNS]
    assert not [one for run in said for one in run if one.verdict in GOOD]
    merits = [t for run in said for t in run[-1].tests if t.name in ("better", "not_worse")]
    assert not [t for t in merits if t.rejected]


def test_a_clearly_better_version_is_called_better() -> None:
    said = [Rollout(seed, lost=0.01, mended=0.06).run(until=frozenset({"better"})) for seed in range(5)]
    assert ends(said) == {"better": 5}


def test_of_100_rollouts_between_equals_at_most_three_are_called_worse() -> None:
    said = [Rollout(seed, 800, lost=0.03, mended=0.03).run(until=WORSE) for seed in range(1000, 1100)]
    assert sum(one[-1].verdict == "worse" for one in said) <= 3


def test_pairs_of_the_stage_before_do_not_count_for_the_next() -> None:
    engine = Engine.new(without_disagreement())
    rollout = Rollout(1, 260, labelled=0.0)
    batches = list(rollout.records())
    canary = replace(ROLLOUT, at=rollout.time(150), ce_id="canary", stage="canary", stage_since=rollout.time(150))
    batches[100].append(("registry/0", False, canary))  # heard while the first 150 are still under way
    said = [one for batch in batches for one in engine.feed(batch)] + engine.drain()
    found = [(one.pairs, one.stage_since, one.stage_pairs) for one in said if isinstance(one, Judged)]
    assert found == [(100, 0.0, 100), (200, canary.stage_since, 0)], "a shadow's answers are no canary's"


def test_the_first_pair_of_another_stage_is_told_of_at_once() -> None:
    engine = Engine.new(without_disagreement())
    rollout = Rollout(1, 260, labelled=0.0)
    batches = list(rollout.records())
    again = replace(ROLLOUT, at=rollout.time(150), ce_id="again", stage_since=rollout.time(150))
    batches[150].append(("registry/0", False, again))
    said = [one for batch in batches for one in engine.feed(batch)] + engine.drain()
    found = [(one.pairs, one.stage_pairs) for one in said if isinstance(one, Judged)]
    assert [stage_pairs for _, stage_pairs in found] == [100, 1, 101]
    assert found[1][0] in range(149, 152)
