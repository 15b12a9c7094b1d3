"""How much worse the labelled error has become, with its uncertainty."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from services.monitor.domain.events import Harm, Risk
from services.monitor.domain.policy import HarmPolicy

_TWO_SIDED_95 = 1.96
_EXACT = 1e9  # So many labels leave nothing to learn of an error.


def wilson(wrong: float, labels: float, deviations: float) -> tuple[float, float]:
    """Wilson's score interval for a share (J. Am. Stat. Assoc. 1927); (0, 1) without labels."""
    if labels <= 0:
        return 0.0, 1.0
    share, square = wrong / labels, deviations**2
    centre = (share + square / (2 * labels)) / (1 + square / labels)
    half = deviations / (1 + square / labels) * sqrt(share * (1 - share) / labels + square / (4 * labels**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True, slots=True)
class Count:
    """Wrong answers among labels; both may be fractions: reports lend their weight, detectors are wrong in part.

    Bounds for a share hold for such losses in 0..1 too, and are then wider than need be: no spread is larger than that
    of losses of 0 and 1 with the same mean.
    """

    wrong: float = 0.0
    labels: float = 0.0

    @classmethod
    def of(cls, outcomes: Iterable[float]) -> Count:
        """Of losses 0..1; True is wrong."""
        listed = list(outcomes)
        return cls(float(sum(listed)), float(len(listed)))

    def plus(self, other: Count) -> Count:
        """Both together."""
        return Count(self.wrong + other.wrong, self.labels + other.labels)

    @property
    def error(self) -> float:
        """The share of wrong ones, 0 without labels."""
        return self.wrong / self.labels if self.labels else 0.0


def excess(before: Count, after: Count, deviations: float) -> tuple[float, float]:
    """Bounds of the error after minus the error before (Newcombe's hybrid score interval, Stat. Med. 1998, method
    10).
    """
    low0, high0 = wilson(before.wrong, before.labels, deviations)
    low1, high1 = wilson(after.wrong, after.labels, deviations)
    change = after.error - before.error
    down = sqrt((after.error - low1) ** 2 + (high0 - before.error) ** 2)
    up = sqrt((high1 - after.error) ** 2 + (before.error - low0) ** 2)
    return change - down, change + up


def crossed(before: Count, after: Count, policy: HarmPolicy, least: int) -> bool:
    """Whether the error is surely higher by more than the policy lets pass, judged from at least so many labels."""
    if min(after.labels, before.labels) < least:
        return False
    return excess(before, after, policy.deviations)[0] > policy.crossed_above


def harmless(before: Count, after: Count, policy: HarmPolicy) -> bool:
    """Whether the error is surely higher by less than what would matter."""
    if min(after.labels, before.labels) < policy.labels_min:
        return False
    return excess(before, after, policy.none_deviations)[1] < policy.none_below


def undecidable(before: Count, after: Count, policy: HarmPolicy) -> bool:
    """Whether more labels would not tell: of the error after there are as many as of the one before, and were it known
    exactly, neither harm nor its absence would be sure. Without a baseline nothing is, and it stays open.
    """
    if before.labels < policy.labels_min or after.labels < max(before.labels, policy.labels_min):
        return False
    exact = Count(after.error * _EXACT, _EXACT)
    low, high = excess(before, exact, policy.deviations)[0], excess(before, exact, policy.none_deviations)[1]
    return low <= policy.crossed_above and high >= policy.none_below


def evidence(before: Count, after: Count) -> Risk:
    """For people: both errors, and the 95 % interval of the present one."""
    low, high = wilson(after.wrong, after.labels, _TWO_SIDED_95)
    return Risk(before.error, round(before.labels), after.error, low, high, round(after.labels))


def verdict(before: Count, now: Count, settled: Count, policy: HarmPolicy) -> Harm:
    """Harm from the labels since the drift began (`now`), its absence only from those since it is level (`settled`)."""
    if any(crossed(before, labels, policy, policy.labels_min) for labels in (now, settled)):
        return Harm.CROSSED
    return Harm.NONE if harmless(before, settled, policy) else Harm.UNKNOWN
