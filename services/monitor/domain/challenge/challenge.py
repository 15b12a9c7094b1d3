"""One rollout under judgement.

One outcome a camera and time slot enters each test: neighbouring frames say the same again, and would be taken for
evidence. Labels enter when they were drawn with a known chance, at random from everything or from a drifted segment;
the stake on each is weighted by the inverse of that chance (Horvitz and Thompson 1952), bounded by the smallest seen so
far.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import floor
from typing import Final

from services.monitor.domain.challenge.betting import Bet
from services.monitor.domain.challenge.pairs import Pair, Pairs
from services.monitor.domain.events import DRIFT, UNIFORM, Judged, Labelled, RolloutKnown, Seen, SequentialTest
from services.monitor.domain.policy import ChallengerPolicy
from services.monitor.domain.retraining import derive

WORSE: Final = "worse"
BETTER: Final = "better"
EQUAL: Final = "equal"
UNDECIDED: Final = "undecided"
NOT_WORSE: Final = "not_worse"
ERRORS: Final = "errors"
DISAGREEMENT: Final = "disagreement"
LATENCY: Final = "latency"
GUARDS: Final = (WORSE, ERRORS, DISAGREEMENT, LATENCY)
"""Any of them that rejects is a verdict of `worse`."""
WATCH: Final = "watch"


@dataclass(slots=True)
class Challenge:
    """The state of one rollout; times are seconds of event time."""

    rollout: RolloutKnown
    pairs: Pairs
    bets: dict[str, Bet]
    slots: dict[str, int] = field(default_factory=dict)
    label_slots: dict[str, int] = field(default_factory=dict)
    compared: int = 0
    labelled: int = 0
    smallest: float = 1.0
    """Chance of a label among those seen so far."""
    taken: int = 0
    said: str = ""
    said_pairs: int = 0

    @classmethod
    def new(cls, rollout: RolloutKnown, policy: ChallengerPolicy) -> Challenge:
        """Knowing nothing yet."""
        alpha = policy.alpha
        bets = {
            WORSE: Bet(0.0, alpha),
            BETTER: Bet(0.0, policy.alpha_pass, side=-1),
            NOT_WORSE: Bet(policy.margin, policy.alpha_pass, side=-1),
            ERRORS: Bet(policy.errors, alpha),
            DISAGREEMENT: Bet(policy.disagreement, alpha),
            LATENCY: Bet(policy.latency_share, alpha),
        }
        return cls(rollout, Pairs(policy.remembered), bets)

    def see(self, item: Seen, policy: ChallengerPolicy) -> Iterator[Judged]:
        """Take an answer of either version; others do not concern it."""
        if item.rollout_id != self.rollout.id or item.version not in (self.rollout.champion, self.rollout.challenger):
            return
        self.taken += 1
        pair = self.pairs.see(item, challenger=item.version == self.rollout.challenger)
        if pair is None:
            return
        self.compared += 1
        if self._fresh(self.slots, pair, policy):
            self._compare(pair, policy)
        self._judge(item.pair_id or item.asset_id, policy)
        yield from self._say(item.at, item.traceparent, policy)

    def label(self, item: Labelled, policy: ChallengerPolicy) -> Iterator[Judged]:
        """Take a label: one that was picked for another reason than chance says nothing about the whole."""
        if item.origin not in (UNIFORM, DRIFT) or not 0.0 < item.propensity <= 1.0:
            return
        self.taken += 1
        self.pairs.label(item)
        self._judge(item.asset_id, policy)
        yield from self._say(item.at, item.traceparent, policy)

    def verdict(self) -> str:
        """What the tests say together."""
        if any(self.bets[name].rejected for name in GUARDS):
            return WORSE
        if self.bets[BETTER].rejected:
            return BETTER
        return EQUAL if self.bets[NOT_WORSE].rejected else UNDECIDED

    def _fresh(self, slots: dict[str, int], pair: Pair, policy: ChallengerPolicy) -> bool:
        """Whether the camera's time slot has had no outcome yet; a client's call is a slot of its own."""
        if not pair.camera_id:
            return True
        slot = floor(pair.at / policy.slot_seconds)
        if slot <= slots.get(pair.camera_id, slot - 1):
            return False
        slots[pair.camera_id] = slot
        return True

    def _compare(self, pair: Pair, policy: ChallengerPolicy) -> None:
        """What needs no label."""
        ours, theirs = pair.challenger, pair.champion
        assert ours is not None and theirs is not None
        self.bets[ERRORS].take(float(ours.failed) - float(theirs.failed))
        if ours.failed or theirs.failed:
            return
        if self.rollout.stage != WATCH and self.labelled < policy.disagreement_labels:
            self.bets[DISAGREEMENT].take(float(ours.class_name != theirs.class_name))
        if ours.latency_ms and theirs.latency_ms:
            self.bets[LATENCY].take(float(ours.latency_ms > policy.latency_factor * theirs.latency_ms))

    def _judge(self, asset_id: str, policy: ChallengerPolicy) -> None:
        """What a label says, when it and both answers are there."""
        found = self.pairs.judged(asset_id)
        if found is None or not self._fresh(self.label_slots, found[0], policy):
            return
        pair, truth = found
        ours, theirs = pair.challenger, pair.champion
        assert ours is not None and theirs is not None
        self.smallest = min(self.smallest, truth.propensity)
        self.labelled += 1
        loss = float(ours.class_name != truth.class_name) - float(theirs.class_name != truth.class_name)
        for name in (WORSE, BETTER, NOT_WORSE):
            self.bets[name].take(loss, self.smallest / truth.propensity)

    def _say(self, at: float, traceparent: str, policy: ChallengerPolicy) -> Iterator[Judged]:
        """When the verdict is another one, and every so many pairs: registry goes by their number."""
        verdict = self.verdict()
        if verdict == (self.said or UNDECIDED) and self.compared < self.said_pairs + policy.say_every:
            return
        self.said, self.said_pairs = verdict, self.compared
        yield self._judged(at, traceparent, verdict)

    def _judged(self, at: float, traceparent: str, verdict: str) -> Judged:
        tests = tuple(
            SequentialTest(name, bet.capital(), bet.alpha, bet.limit, bet.mean, bet.outcomes, bet.rejected)
            for name, bet in self.bets.items()
        )
        rollout = self.rollout
        return Judged(
            at,
            traceparent,
            derive("challenger", rollout.id, verdict, str(self.compared), str(self.labelled)),
            rollout.model,
            rollout.champion,
            rollout.challenger,
            rollout.id,
            verdict,
            self.compared,
            self.labelled,
            self.bets[WORSE].mean,
            tests,
            self.compared / self.pairs.opened if self.pairs.opened else 0.0,
            reason_of(verdict, tests, self.labelled),
        )


def reason_of(verdict: str, tests: tuple[SequentialTest, ...], labelled: int) -> str:
    """The verdict in words, with the numbers that it stands on."""
    names = {WORSE: GUARDS, BETTER: (BETTER,), EQUAL: (NOT_WORSE,)}.get(verdict, ())
    said = [
        f"{one.name}: mean {one.mean:+.3f} over {one.outcomes} outcomes, against {one.limit:g} (e {one.e_value:.3g})"
        for one in tests
        if one.name in names and one.rejected
    ]
    return "; ".join(said) or f"no test has decided yet; {labelled} labelled pairs"
