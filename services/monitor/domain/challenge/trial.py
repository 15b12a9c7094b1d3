"""A rollout on trial: its pairs become outcomes, outcomes feed the tests."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from math import isnan

from services.monitor.domain.challenge.betting import BettingTest
from services.monitor.domain.challenge.pairs import Answer, Pair, PairBook, Slots, key_of
from services.monitor.domain.events import Judged
from services.monitor.domain.inputs import DRIFT, UNIFORM, Labelled, RolloutKnown, Seen
from services.monitor.domain.policy import ChallengePolicy

SHADOW = "shadow"
WATCH = "watch"


@dataclass(slots=True)
class Trial:
    """All state about one rollout. Versions are compared, not roles: in the stage `watch` the challenger is champion
    already.
    """

    rollout: RolloutKnown
    tests: dict[str, BettingTest]
    book: PairBook = field(default_factory=PairBook)
    slots: Slots = field(default_factory=Slots)
    offered: int = 0
    compared: int = 0
    pairs: int = 0
    stage_pairs: int = 0
    """Of them made in the stage under way."""
    labelled: int = 0
    revised: int = 0
    not_random: int = 0
    rarest: float = 1.0
    """Smallest probability among the labels before."""
    excused: bool = False
    said: Judged | None = None
    changes: int = 0

    @classmethod
    def begin(cls, rollout: RolloutKnown, policy: ChallengePolicy) -> Trial:
        """With nothing compared yet."""
        alpha = policy.alpha
        tests = (
            BettingTest("worse", 0.0, 1, alpha),
            BettingTest("better", 0.0, -1, alpha),
            BettingTest("not_worse", policy.margin, -1, alpha),
            BettingTest("errors", 0.0, 1, alpha),
            BettingTest("disagreement", policy.disagreement_share, 1, alpha),
            BettingTest("latency", policy.latency_share, 1, alpha),
        )
        return cls(rollout, {test.name: test for test in tests})

    def go_on(self, rollout: RolloutKnown) -> None:
        """The same rollout, perhaps in another stage, of which nothing was compared yet."""
        if rollout.stage_since != self.rollout.stage_since:
            self.stage_pairs = 0
        self.rollout = rollout
        self.changes += 1

    def concerns(self, item: Seen) -> bool:
        """Whether a prediction is one of the rollout's two versions', and not of another rollout."""
        ours = item.version in (self.rollout.champion, self.rollout.challenger)
        return ours and item.rollout_id in ("", self.rollout.id) and bool(key_of(item))

    def see(self, item: Seen, policy: ChallengePolicy) -> None:
        """Take an answer; a repeated one changes nothing."""
        self.changes += 1
        pair = self.book.entries.get(key_of(item))
        if pair is None:
            counted = self.slots.claim(item.camera_id, item.at, policy.slot_seconds)
            pair = self.book.open(key_of(item), item.camera_id, item.at, counted, policy.remembered)
        if item.pair_id and not pair.offered:
            pair.offered = True
            self.offered += 1
        if not self._fill(pair, item.version, Answer.of(item)):
            return
        if pair.whole:
            self._compare(pair, policy)
            self._hold_against_label(pair, policy)
            if not item.asset_id:
                self.book.close(pair)

    def _fill(self, pair: Pair, version: str, answer: Answer) -> bool:
        side = "champion" if version == self.rollout.champion else "challenger"
        if getattr(pair, side) is not None:
            return False
        setattr(pair, side, answer)
        return True

    def _compare(self, pair: Pair, policy: ChallengePolicy) -> None:
        """What two answers tell without a label."""
        champion, challenger = pair.champion, pair.challenger
        if champion is None or challenger is None:
            return
        if not pair.offered:
            pair.offered = True
            self.offered += 1
        self.compared += 1
        if not pair.counted:
            return
        self.pairs += 1
        self.stage_pairs += self.rollout.stage == SHADOW or not challenger.beside
        self.tests["errors"].update(float(challenger.failed) - float(champion.failed))
        if champion.failed or challenger.failed:
            return
        if self.disagreement_counts(policy):
            self.tests["disagreement"].update(float(challenger.class_name != champion.class_name))
        if not challenger.beside and champion.latency_ms > 0.0 and challenger.latency_ms > 0.0:
            slower = challenger.latency_ms > policy.latency_factor * champion.latency_ms
            self.tests["latency"].update(float(slower))

    def disagreement_counts(self, policy: ChallengePolicy) -> bool:
        """Not when labels can tell who is right, nor against the version that answers already, nor while the champion
        is itself under suspicion: a retrained model rightly disagrees with a stale champion.
        """
        enough = self.labelled >= policy.disagreement_labels or self.tests["better"].rejected
        return not (enough or self.excused or self.rollout.stage == WATCH)

    def label(self, item: Labelled, policy: ChallengePolicy) -> None:
        """Take a label. Only one drawn at random with known propensity counts, and of each asset the first alone: the
        guarantee of the tests is for outcomes that do not change afterwards.
        """
        if item.captured_at < self.rollout.started_at and item.asset_id not in self.book.entries:
            return
        self.changes += 1
        if not item.class_name or any(p.loss is not None and isnan(p.loss) for p in item.predictions):
            self.revised += 1
            return
        if item.origin not in (UNIFORM, DRIFT) or item.propensity <= 0.0:
            self.not_random += 1
            return
        pair = self.book.entries.get(item.asset_id)
        if (pair is None and item.revision > 1) or (pair is not None and pair.truth):
            self.revised += 1
            return
        if pair is None:
            pair = self.book.open(item.asset_id, item.camera_id, item.captured_at, False, policy.remembered)
        pair.truth = item.class_name
        pair.weight = min(1.0, max(policy.propensity, self.rarest) / item.propensity)
        self.rarest = min(self.rarest, item.propensity)
        self._fill_from_label(pair, item)
        self._hold_against_label(pair, policy)

    def _fill_from_label(self, pair: Pair, item: Labelled) -> None:
        """A label names the predictions on its asset: so hours may lie between, and the pair be forgotten."""
        for said in item.predictions:
            if said.model == self.rollout.model and said.version in (self.rollout.champion, self.rollout.challenger):
                answer = Answer(said.class_name, lost=said.loss)
                if not self._fill(pair, said.version, answer) and said.loss is not None:
                    self._tell_loss(pair, said.version, said.loss)

    def _tell_loss(self, pair: Pair, version: str, loss: float) -> None:
        """How wrong a detector was, only a label tells."""
        side = "champion" if version == self.rollout.champion else "challenger"
        setattr(pair, side, replace(getattr(pair, side), lost=loss))

    def _hold_against_label(self, pair: Pair, policy: ChallengePolicy) -> None:
        champion, challenger = pair.champion, pair.challenger
        if champion is None or challenger is None or not pair.truth or pair.labelled:
            return
        if (champion.lost is None) is not (challenger.lost is None):
            return  # The label names but one of a detector's two predictions.
        pair.labelled = True
        if not self.slots.claim_label(pair.camera_id, pair.at, policy.slot_seconds):
            return
        self.labelled += 1
        difference = challenger.loss(pair.truth) - champion.loss(pair.truth)
        for name in ("worse", "better", "not_worse"):
            self.tests[name].update(difference, pair.weight)

    def coverage(self) -> float:
        """Share of what should have been compared that was, 1 before there was anything."""
        return self.compared / self.offered if self.offered else 1.0
