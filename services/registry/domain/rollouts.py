"""How a version goes from shadow to champion: what may begin, what a judgement leads to, and when time is up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from services.registry.domain.aliases import changes
from services.registry.domain.model import CHAMPION, Arm, Model, Rollout, Stage
from services.registry.domain.policy import Policy, PolicyStage
from services.registry.domain.wishes import CANARY, Wish
from services.registry.errors import NothingToCompare, RolloutUnderWay

SAME: Final = timedelta(milliseconds=1)
"""Two times that are closer are one: they travel in different forms."""


class Step(StrEnum):
    """What follows from a judgement."""

    STAY = "stay"
    ADVANCE = "advance"
    PROMOTE = "promote"
    WITHDRAW = "withdraw"
    END = "end"


@dataclass(frozen=True, slots=True)
class Judgement:
    """Monitor's word on a rollout; `pairs` and `labelled_pairs` count from its beginning.

    `verdict` is better, equal, worse or undecided; `mean_difference` the challenger's error less the champion's.
    `stage_pairs` were made in the stage that began at `stage_since`, which None leaves open.
    """

    model: str
    rollout_id: str
    verdict: str
    pairs: int
    labelled_pairs: int
    mean_difference: float
    reason: str
    stage_since: datetime | None = None
    stage_pairs: int = 0

    def fresh(self, rollout: Rollout) -> int:
        """How many pairs were made in the rollout's present stage.

        What was compared before a stage began may be judged long after: the judge orders what it hears first.
        """
        if self.stage_since is None:
            return self.pairs - rollout.pairs_before
        return self.stage_pairs if abs(self.stage_since - rollout.stage_since) < SAME else 0

    @property
    def words(self) -> str:
        """The verdict with its numbers."""
        numbers = f"{self.pairs} pairs, {self.labelled_pairs} with a label, error {self.mean_difference:+.4f}"
        return f"{self.verdict} after {numbers}" + (f": {self.reason}" if self.reason else "")


def put(model: Model, wish: Wish, rollout_id: str, *, by: str, at: datetime) -> Rollout:
    """The rollout as wished: a new one with that id, or the one under way with another stage or share.

    Raises `NothingToCompare`, or `RolloutUnderWay` when it is another challenger's.
    """
    champion = model.aliases.get(CHAMPION, "")
    if not champion:
        raise NothingToCompare(f"model `{model.name}` has no champion yet: promote a version first", field="model")
    if champion in (wish.challenger, *(arm.version for arm in wish.arms)):
        raise NothingToCompare(f"version {champion} is the champion already", field="challenger")
    running = model.rollout
    if running is None:
        return _begun(model.name, champion, wish, rollout_id, by=by, at=at)
    if not _same(running, wish):
        raise RolloutUnderWay(
            f"{who(running)} is under way ({title(running)}); `irisloop models rollout {model.name} --end` ends it",
            field="model",
        )
    return _changed(running, wish, at)


def advanced(rollout: Rollout, stage: PolicyStage, pairs: int, reason: str, at: datetime) -> Rollout:
    """The rollout in the next stage."""
    arms = (Arm(CANARY, rollout.challenger, stage.share),) if stage.stage is Stage.CANARY else ()
    after = replace(rollout, stage=stage.stage, arms=arms, reason=reason)
    return _from_now(after, pairs, at)


def watched(model: Model, version: str, rollout_id: str, *, by: str, reason: str, at: datetime) -> Rollout | None:
    """The watch over a version that `model` is about to promote; None when there is no version before to go back to.

    A rollout that led here goes on as the watch, with the same id and salt.
    """
    before = model.aliases.get(CHAMPION, "")
    if not before or before == version:
        return None
    running = model.rollout
    if running is None or running.challenger != version:
        running = Rollout(rollout_id, model.name, before, version, Stage.WATCH, (), at, at, by, reason, True)
    after = replace(running, champion=before, stage=Stage.WATCH, arms=(), reason=reason, automatic=True)
    return _from_now(after, running.pairs, at)


def step(rollout: Rollout, judgement: Judgement, policy: Policy) -> Step:
    """What a judgement of this rollout leads to.

    A stage is left only by a judgement that saw pairs of it, so that a repeated one does not count twice. People decide
    on a rollout of theirs, except that what is worse goes at once; on an experiment they decide alone.
    """
    if rollout.stage is Stage.EXPERIMENT:
        return Step.STAY
    if judgement.verdict == "worse":
        return Step.WITHDRAW
    fresh = judgement.fresh(rollout)
    if not rollout.automatic or fresh <= 0:
        return Step.STAY
    if rollout.stage is Stage.WATCH:
        return Step.END if fresh >= policy.watch_pairs else Step.STAY
    after = following(rollout, policy)
    if judgement.verdict in ("better", "equal"):
        return Step.ADVANCE if after else Step.PROMOTE
    enough = judgement.verdict == "undecided" and fresh >= _stage_of(rollout, policy).pairs
    return Step.ADVANCE if after and enough else Step.STAY


def following(rollout: Rollout, policy: Policy) -> PolicyStage | None:
    """The policy's next stage: the first that gives more keys than this one, or None in the last."""
    return next((stage for stage in policy.stages if stage.share > rollout.share), None)


def overdue(rollout: Rollout, policy: Policy, now: datetime) -> bool:
    """Whether a stage that goes on by itself reached no verdict within the policy's hours."""
    if not rollout.automatic or not policy.stage_hours:
        return False
    return now - rollout.stage_since >= timedelta(hours=policy.stage_hours)


def places(rollout: Rollout | None) -> dict[str, str]:
    """The rollout as history shows it: `rollout/<stage>`, in an experiment `rollout/experiment/<arm>`, and versions."""
    if rollout is None:
        return {}
    if rollout.stage is Stage.EXPERIMENT:
        return {f"rollout/experiment/{arm.name}": arm.version for arm in rollout.arms}
    return {f"rollout/{rollout.stage.value}": rollout.challenger}


def moves(model: Model, aliases: Mapping[str, str], rollout: Rollout | None) -> list[tuple[str, str, str]]:
    """(alias, from, to) for all that differs from `model`; a change within a stage leads from a version to the same."""
    found = changes({**model.aliases, **places(model.rollout)}, {**aliases, **places(rollout)})
    if rollout != model.rollout and places(rollout) == places(model.rollout):
        found += [(name, version, version) for name, version in sorted(places(rollout).items())]
    return found


def title(rollout: Rollout) -> str:
    """The stage in words, with the shares."""
    if rollout.stage is Stage.EXPERIMENT:
        return "experiment, " + ", ".join(f"{arm.name} {arm.share:.4g} of the keys" for arm in rollout.arms)
    return rollout.stage.value + (f", {rollout.share:.4g} of the keys" if rollout.arms else "")


def who(rollout: Rollout) -> str:
    """What is under way, in words."""
    return f"version {rollout.challenger}" if rollout.challenger else "an experiment"


def _begun(model: str, champion: str, wish: Wish, rollout_id: str, *, by: str, at: datetime) -> Rollout:
    reason = wish.reason or "begun by hand"
    arms = wish.all_arms
    return Rollout(rollout_id, model, champion, wish.challenger, wish.stage, arms, at, at, by, reason, wish.automatic)


def _changed(running: Rollout, wish: Wish, at: datetime) -> Rollout:
    """The same rollout when nothing but the reason differs: said twice is said once."""
    if (wish.stage, wish.all_arms, wish.automatic) == (running.stage, running.arms, running.automatic):
        return running
    reason = wish.reason or "changed by hand"
    after = replace(running, stage=wish.stage, arms=wish.all_arms, automatic=wish.automatic, reason=reason)
    return _from_now(after, running.pairs, at)


def _same(running: Rollout, wish: Wish) -> bool:
    """Whether the wish is about what runs: its challenger, or the very arms of the experiment with other shares."""
    if running.stage is Stage.WATCH or running.challenger != wish.challenger:
        return False
    named = {(arm.name, arm.version) for arm in wish.arms}
    return running.stage is not Stage.EXPERIMENT or named == {(arm.name, arm.version) for arm in running.arms}


def _from_now(rollout: Rollout, pairs: int, at: datetime) -> Rollout:
    pairs = max(rollout.pairs, pairs)
    return replace(rollout, stage_since=at, pairs=pairs, pairs_before=pairs)


def _stage_of(rollout: Rollout, policy: Policy) -> PolicyStage:
    """The policy's stage that this one stands for: the last that gives no more keys, else the first."""
    found = [stage for stage in policy.stages if stage.share <= rollout.share]
    return (found or list(policy.stages) or [PolicyStage(rollout.stage)])[-1 if found else 0]
