"""What is counted of a set of labelled predictions: integers only, which add and subtract without a rest, so that no
order of labels, corrections and withdrawals can leave a trace.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from math import isfinite
from typing import Final, TypeVar

from services.monitor.domain.policy import QualityPolicy
from services.monitor.domain.quality.boxes import Boxes, loss
from services.monitor.domain.quality.truth import UNKNOWN, Entry, Said

K = TypeVar("K", bound=Hashable)

BINS: Final = 15
"""Equal bins of 0..1 for the calibration error (Guo et al., ICML 2017)."""
UNIT: Final = 1 << 60
"""Scores and weights are counted in 2^-60; a float32 above 1e-11 is a whole number of them."""
STEPS: Final = 64
"""Weights of the confidence sequence are rounded down to 64ths: with so few of them, counts say all."""


def bump(counts: dict[K, int], key: K, by: int) -> None:
    """Add to a count; one that is 0 is not kept."""
    count = counts.get(key, 0) + by
    if count:
        counts[key] = count
    else:
        counts.pop(key, None)


@dataclass(slots=True)
class Tally:
    """Counts of one cell or of several together. Sums are in 2^-60.

    `confusion` by (truth, predicted); `bin_sizes`, `bin_right`, `bin_scores` by number of the bin; of uniform draws:
    `outcomes` by (weight of the confidence sequence in 64ths, loss: 1 for a wrong answer, of a detector 0..1 a frame),
    `weight`, and `wrong_weight` in 2^-120. `frames_right` are a detector's frames without any error.
    """

    labels: int = 0
    confusion: dict[tuple[str, str], int] = field(default_factory=dict)
    bin_sizes: dict[int, int] = field(default_factory=dict)
    bin_right: dict[int, int] = field(default_factory=dict)
    bin_scores: dict[int, int] = field(default_factory=dict)
    outcomes: dict[tuple[int, float], int] = field(default_factory=dict)
    weight: int = 0
    wrong_weight: int = 0
    disputed: int = 0
    clipped: int = 0
    frames_right: int = 0

    def count(self, entry: Entry, said: Said, policy: QualityPolicy, sign: int, matched: bytes | None = None) -> None:
        """Count a prediction on a labelled asset in (`sign` 1) or out again (-1); `matched`: a detector's, if known."""
        if entry.propensity > 0.0:
            self.disputed += sign * entry.disputed
        if said.found is not None:
            self._count_frame(entry, said, said.found, matched, policy, sign)
        elif entry.class_name != UNKNOWN:
            self._count_class(entry, said, policy, sign)

    def _count_frame(
        self, entry: Entry, said: Said, found: Boxes, matched: bytes | None, policy: QualityPolicy, sign: int
    ) -> None:
        if entry.boxes is None or matched is None:
            return
        lost = loss(entry.boxes, found, matched, said.threshold)
        self.labels += sign
        self.frames_right += sign * (lost == 0.0)
        if entry.propensity > 0.0:
            self._weigh(entry.propensity, lost, policy, sign)

    def _count_class(self, entry: Entry, said: Said, policy: QualityPolicy, sign: int) -> None:
        self.labels += sign
        bump(self.confusion, (entry.class_name, said.class_name), sign)
        if said.class_name and isfinite(said.score):
            self._calibrate(said, entry.class_name == said.class_name, sign)
        if entry.propensity > 0.0:
            self._weigh(entry.propensity, float(entry.class_name != said.class_name), policy, sign)

    def _calibrate(self, said: Said, right: bool, sign: int) -> None:
        score = min(max(said.score, 0.0), 1.0)
        place = min(int(score * BINS), BINS - 1)
        bump(self.bin_sizes, place, sign)
        bump(self.bin_right, place, sign * right)
        bump(self.bin_scores, place, sign * int(score * UNIT))

    def _weigh(self, propensity: float, lost: float, policy: QualityPolicy, sign: int) -> None:
        weight = int(min(1.0 / propensity, policy.weight_max) * UNIT)
        self.weight += sign * weight
        self.wrong_weight += sign * weight * int(lost * UNIT)
        self.clipped += sign * (1.0 / propensity > policy.weight_max)
        step = max(int(STEPS * min(1.0, policy.propensity / propensity)), 1)
        bump(self.outcomes, (step, lost), sign)

    def add(self, other: Tally) -> None:
        """Take in the counts of another one."""
        self.labels += other.labels
        self.weight += other.weight
        self.wrong_weight += other.wrong_weight
        self.disputed += other.disputed
        self.clipped += other.clipped
        self.frames_right += other.frames_right
        for mine, others in (
            (self.bin_sizes, other.bin_sizes),
            (self.bin_right, other.bin_right),
            (self.bin_scores, other.bin_scores),
        ):
            for place, by in others.items():
                bump(mine, place, by)
        for pair, by in other.confusion.items():
            bump(self.confusion, pair, by)
        for outcome, by in other.outcomes.items():
            bump(self.outcomes, outcome, by)

    def empty(self) -> bool:
        """Whether there is nothing in it."""
        return not (self.labels or self.disputed)
