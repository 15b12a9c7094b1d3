"""The rules of rollouts: what is refused and why, and what each judgement leads to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.common.errors import InvalidMessage
from services.registry.domain.model import Arm, Model, Rollout, Stage
from services.registry.domain.policy import Policy, PolicyStage
from services.registry.domain.rollouts import (
    Judgement,
    Step,
    advanced,
    following,
    moves,
    overdue,
    places,
    put,
    step,
    title,
    watched,
)
from services.registry.domain.wishes import Wish, check
from services.registry.errors import NothingToCompare, RolloutUnderWay
from tests.unit.registry.world import START

STAGES = (
    PolicyStage(Stage.SHADOW, 0.0, 300),
    PolicyStage(Stage.CANARY, 0.1, 300),
    PolicyStage(Stage.CANARY, 0.5),
)
POLICY = Policy(stages=STAGES, watch_pairs=200, stage_hours=24)
NAN = float("nan")


def model(rollout: Rollout | None = None, **aliases: str) -> Model:
    return Model("garments", "garments", START, 7, aliases or {"champion": "1"}, rollout)


def running(stage: Stage = Stage.SHADOW, share: float = 0.0, *, automatic: bool = True, before: int = 0) -> Rollout:
    arms = (Arm("canary", "2", share),) if share else ()
    return Rollout("id", "garments", "1", "2", stage, arms, START, START, "ann", "new", automatic, before, before)


def judged(verdict: str, pairs: int) -> Judgement:
    return Judgement("garments", "id", verdict, pairs, 10, 0.02, "")


def test_a_stage_is_left_only_by_pairs_that_were_made_in_it() -> None:
    canary = replace(running(Stage.CANARY, 0.1, before=300), stage_since=START + timedelta(minutes=1))
    late = replace(judged("better", 400), stage_since=START, stage_pairs=400)
    assert step(canary, late, POLICY) is Step.STAY
    assert step(canary, replace(late, verdict="worse"), POLICY) is Step.WITHDRAW
    own = replace(late, stage_since=canary.stage_since + timedelta(microseconds=3), stage_pairs=1)
    assert step(canary, own, POLICY) is Step.ADVANCE
    assert step(canary, replace(own, verdict="undecided", stage_pairs=299), POLICY) is Step.STAY
    assert step(canary, replace(own, stage_pairs=0), POLICY) is Step.STAY


def arms(*parts: tuple[str, str, float]) -> tuple[Arm, ...]:
    return tuple(Arm(*part) for part in parts)


@pytest.mark.parametrize(
    ("wish", "field", "words"),
    [
        (Wish(Stage.WATCH, "2"), "stage", "nobody asks for it"),
        (Wish(Stage.SHADOW), "challenger", "needs a challenger"),
        (Wish(Stage.CANARY, share=0.1), "challenger", "needs a challenger"),
        (Wish(Stage.SHADOW, "2", share=0.1), "share", "answers nobody"),
        (Wish(Stage.CANARY, "2"), "share", "got 0"),
        (Wish(Stage.CANARY, "2", share=-0.1), "share", "above 0"),
        (Wish(Stage.CANARY, "2", share=1.01), "share", "at most 1, got 1.01"),
        (Wish(Stage.CANARY, "2", share=NAN), "share", "got nan"),
        (Wish(Stage.CANARY, "2", share=0.1, arms=arms(("b", "2", 0.1))), "arms", "are of an experiment"),
        (Wish(Stage.EXPERIMENT), "arms", "needs arms"),
        (Wish(Stage.EXPERIMENT, "2", arms=arms(("b", "2", 0.1))), "challenger", "has arms"),
        (Wish(Stage.EXPERIMENT, share=0.1, arms=arms(("b", "2", 0.1))), "share", "of its arms"),
        (Wish(Stage.EXPERIMENT, automatic=True, arms=arms(("b", "2", 0.1))), "automatic", "people end it"),
        (Wish(Stage.EXPERIMENT, arms=arms(("b", "", 0.1))), "arms", "has no version"),
        (Wish(Stage.EXPERIMENT, arms=arms(("b", "2", 0.0))), "arms", "above 0"),
        (Wish(Stage.EXPERIMENT, arms=arms(("b", "2", NAN))), "arms", "got nan"),
        (Wish(Stage.EXPERIMENT, arms=arms(("b", "2", 0.6), ("c", "3", 0.5))), "arms", "add up to 1.1"),
        (Wish(Stage.EXPERIMENT, arms=arms(("b", "2", 0.1), ("b", "3", 0.1))), "arms", "two arms are called `b`"),
        (Wish(Stage.EXPERIMENT, arms=arms(("7", "2", 0.1))), "arms", "not of the form"),
        (Wish(Stage.EXPERIMENT, arms=arms(("B", "2", 0.1))), "arms", "not of the form"),
        (Wish(Stage.EXPERIMENT, arms=arms(("b" * 41, "2", 0.1))), "arms", "40 characters"),
        *[
            (Wish(Stage.EXPERIMENT, arms=arms((name, "2", 0.1))), "arms", "have that role already")
            for name in ("champion", "challenger", "previous", "shadow", "canary", "direct", "watch")
        ],
    ],
)
def test_what_could_never_be_done_is_refused_by_field(wish: Wish, field: str, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words) as caught:
        check(wish)
    assert caught.value.field == field


def test_shares_that_fill_everything_are_taken() -> None:
    check(Wish(Stage.CANARY, "2", share=1.0))
    check(Wish(Stage.EXPERIMENT, arms=arms(("a", "2", 0.1), ("b", "3", 0.2), ("c", "4", 0.7))))


@pytest.mark.parametrize(
    ("found", "wish", "error", "words"),
    [
        (model(challenger="2"), Wish(Stage.SHADOW, "2"), NothingToCompare, "no champion yet"),
        (model(), Wish(Stage.SHADOW, "1"), NothingToCompare, "version 1 is the champion"),
        (model(), Wish(Stage.EXPERIMENT, arms=arms(("b", "1", 0.1))), NothingToCompare, "version 1 is the champion"),
        (
            model(running()),
            Wish(Stage.SHADOW, "3"),
            RolloutUnderWay,
            r"version 2 is under way \(shadow\).*garments --end",
        ),
        (
            model(running()),
            Wish(Stage.EXPERIMENT, arms=arms(("b", "2", 0.1))),
            RolloutUnderWay,
            "version 2 is under way",
        ),
        (model(running(Stage.WATCH), champion="2"), Wish(Stage.SHADOW, "3"), RolloutUnderWay, r"version 2 .*\(watch\)"),
    ],
)
def test_what_the_state_forbids_is_refused(found: Model, wish: Wish, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        put(found, wish, "new", by="ann", at=START)


def test_a_change_keeps_id_salt_and_beginning() -> None:
    later = START + timedelta(hours=1)
    first = put(model(), Wish(Stage.CANARY, "2", share=0.1), "first", by="ann", at=START)
    assert (first.arms, first.champion, first.started_by) == (arms(("canary", "2", 0.1)), "1", "ann")
    seen = replace(first, pairs=40)
    more = put(model(seen), Wish(Stage.CANARY, "2", share=0.4), "second", by="bob", at=later)
    less = put(model(more), Wish(Stage.CANARY, "2", share=0.2), "third", by="bob", at=later)
    back = put(model(less), Wish(Stage.SHADOW, "2"), "fourth", by="bob", at=later)
    assert {(one.id, one.salt, one.started_at) for one in (first, more, less, back)} == {("first", "first", START)}
    assert (more.share, less.share, back.arms) == (0.4, 0.2, ())
    assert (more.stage_since, more.pairs_before) == (later, 40)
    assert put(model(back), Wish(Stage.SHADOW, "2", reason="again"), "fifth", by="eve", at=later) is back


def test_an_experiment_keeps_its_arms_and_may_share_anew() -> None:
    wish = Wish(Stage.EXPERIMENT, arms=arms(("b", "2", 0.2), ("c", "3", 0.2)))
    first = put(model(), wish, "first", by="ann", at=START)
    assert (first.challenger, first.versions, title(first)) == (
        "",
        ("1", "2", "3"),
        "experiment, b 0.2 of the keys, c 0.2 of the keys",
    )
    again = put(model(first), replace(wish, arms=arms(("b", "2", 0.5), ("c", "3", 0.1))), "x", by="ann", at=START)
    assert (again.id, again.share) == ("first", 0.6)
    for other in (arms(("b", "2", 0.2)), arms(("b", "4", 0.2), ("c", "3", 0.2))):
        with pytest.raises(RolloutUnderWay, match="an experiment is under way"):
            put(model(first), replace(wish, arms=other), "x", by="ann", at=START)


@pytest.mark.parametrize(
    ("rollout", "verdict", "pairs", "expected"),
    [
        (running(), "worse", 1, Step.WITHDRAW),
        (running(automatic=False), "worse", 1, Step.WITHDRAW),
        (running(Stage.WATCH), "worse", 1, Step.WITHDRAW),
        (running(Stage.EXPERIMENT, 0.2), "worse", 900, Step.STAY),
        (running(Stage.EXPERIMENT, 0.2), "better", 900, Step.STAY),
        (running(), "undecided", 299, Step.STAY),
        (running(), "undecided", 300, Step.ADVANCE),
        (running(), "better", 20, Step.ADVANCE),
        (running(), "equal", 20, Step.ADVANCE),
        (running(), "puzzled", 900, Step.STAY),
        (running(automatic=False), "better", 900, Step.STAY),
        (running(Stage.CANARY, 0.1, before=300), "undecided", 599, Step.STAY),
        (running(Stage.CANARY, 0.1, before=300), "undecided", 600, Step.ADVANCE),
        (running(Stage.CANARY, 0.1, before=300), "equal", 300, Step.STAY),
        (running(Stage.CANARY, 0.1, before=300), "equal", 250, Step.STAY),
        (running(Stage.CANARY, 0.1, before=300), "equal", 301, Step.ADVANCE),
        (running(Stage.CANARY, 0.5, before=600), "undecided", 90_000, Step.STAY),
        (running(Stage.CANARY, 0.5, before=600), "equal", 601, Step.PROMOTE),
        (running(Stage.CANARY, 0.5, before=600), "better", 601, Step.PROMOTE),
        (running(Stage.WATCH, before=600), "undecided", 799, Step.STAY),
        (running(Stage.WATCH, before=600), "better", 799, Step.STAY),
        (running(Stage.WATCH, before=600), "undecided", 800, Step.END),
    ],
)
def test_what_a_judgement_leads_to(rollout: Rollout, verdict: str, pairs: int, expected: Step) -> None:
    assert step(rollout, judged(verdict, pairs), POLICY) is expected


def test_without_stages_in_the_policy_one_stage_is_the_whole_way() -> None:
    assert step(running(), judged("equal", 5), Policy()) is Step.PROMOTE
    assert step(running(), judged("undecided", 5000), Policy()) is Step.STAY


def test_a_share_of_ones_own_goes_on_with_the_next_larger_one() -> None:
    shares = [following(running(Stage.CANARY, share), POLICY) for share in (0.05, 0.2, 0.5, 0.7)]
    assert [stage.share if stage else None for stage in shares] == [0.1, 0.5, None, None]


def test_a_stage_remembers_the_pairs_it_begins_with() -> None:
    later = START + timedelta(hours=1)
    after = advanced(running(), STAGES[1], 310, "equal", later)
    assert (after.stage, after.share, after.pairs_before, after.stage_since) == (Stage.CANARY, 0.1, 310, later)
    assert (after.id, after.started_at) == ("id", START)


def test_a_watch_goes_on_with_the_rollout_that_led_to_it() -> None:
    words: Any = {"by": "ann", "reason": "equal", "at": START}
    same = watched(model(running(Stage.CANARY, 0.5)), "2", "new", **words)
    assert same is not None
    assert (same.id, same.stage, same.champion, same.challenger, same.arms) == ("id", Stage.WATCH, "1", "2", ())
    other = watched(model(running(Stage.CANARY, 0.5)), "3", "new", **words)
    assert other is not None
    assert (other.id, other.challenger, other.automatic) == ("new", "3", True)
    assert watched(model(challenger="2"), "2", "new", **words) is None
    assert watched(model(), "1", "new", **words) is None


def test_time_is_up_for_what_goes_on_by_itself_alone() -> None:
    day = START + timedelta(hours=24)
    assert overdue(running(), POLICY, day)
    assert not overdue(running(), POLICY, day - timedelta(seconds=1))
    assert not overdue(running(automatic=False), POLICY, day)
    assert not overdue(running(), replace(POLICY, stage_hours=0), day + timedelta(days=900))


def test_history_shows_each_stage_as_an_alias() -> None:
    shadow, canary = running(), running(Stage.CANARY, 0.1)
    assert moves(model(), {"champion": "1"}, shadow) == [("rollout/shadow", "", "2")]
    assert moves(model(shadow), {"champion": "1"}, canary) == [("rollout/canary", "", "2"), ("rollout/shadow", "2", "")]
    more = running(Stage.CANARY, 0.5)
    assert moves(model(canary), {"champion": "1"}, more) == [("rollout/canary", "2", "2")]
    assert moves(model(canary), {"champion": "1"}, canary) == []
    assert moves(model(canary), {"champion": "1"}, None) == [("rollout/canary", "2", "")]
    experiment = replace(shadow, stage=Stage.EXPERIMENT, challenger="", arms=arms(("b", "2", 0.1)))
    assert places(experiment) == {"rollout/experiment/b": "2"}
