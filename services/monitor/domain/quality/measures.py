"""Metrics from counts. Every share is a quotient of two integers, rounded once: equal counts give equal numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from services.monitor.domain.quality.sequence import interval
from services.monitor.domain.quality.tally import BINS, STEPS, UNIT, Tally


def share(part: int, whole: int) -> float:
    """A quotient, correctly rounded; 0 without a whole."""
    return float(Fraction(part, whole)) if whole else 0.0


@dataclass(frozen=True, slots=True)
class ClassMeasure:
    """Labels and predictions that name a class, and those that agree on it."""

    class_name: str
    labels: int
    predictions: int
    right: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall: 2 TP / (2 TP + FP + FN)."""
        return share(2 * self.right, self.labels + self.predictions)


@dataclass(frozen=True, slots=True)
class BinMeasure:
    """Predictions whose top score lies in [low, high), the last bin's in [low, high]."""

    low: float
    high: float
    predictions: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class RiskMeasure:
    """The error of uniformly drawn labels: as counted, weighted, and the bounds of its confidence sequence, 0..1."""

    labels: int
    raw: float
    weighted: float
    low: float
    high: float
    corrected: int
    clipped: int


@dataclass(frozen=True, slots=True)
class Measures:
    """All metrics of one set of labelled predictions."""

    labels: int
    right: int
    accuracy: float
    macro_f1: float
    calibration_error: float
    classes: Sequence[ClassMeasure]
    confusion: Sequence[tuple[str, str, int]]
    bins: Sequence[BinMeasure]


def measure(tally: Tally) -> Measures:
    """What the counts say about answers and scores."""
    classes = _classes(tally)
    right = sum(one.right for one in classes) + tally.frames_right
    return Measures(
        labels=tally.labels,
        right=right,
        accuracy=share(right, tally.labels),
        macro_f1=_macro_f1(classes),
        calibration_error=_calibration_error(tally),
        classes=classes,
        confusion=[(truth, said, count) for (truth, said), count in sorted(tally.confusion.items())],
        bins=[_bin(tally, place) for place in sorted(tally.bin_sizes)],
    )


def _classes(tally: Tally) -> list[ClassMeasure]:
    labels: dict[str, int] = {}
    said: dict[str, int] = {}
    for (truth, predicted), count in tally.confusion.items():
        labels[truth] = labels.get(truth, 0) + count
        said[predicted] = said.get(predicted, 0) + count
    names = sorted(name for name in {*labels, *said} if name)  # No answer is no class.
    return [
        ClassMeasure(name, labels.get(name, 0), said.get(name, 0), tally.confusion.get((name, name), 0))
        for name in names
    ]


def _macro_f1(classes: Sequence[ClassMeasure]) -> float:
    named = [Fraction(2 * one.right, one.labels + one.predictions) for one in classes]
    return float(sum(named, Fraction()) / len(named)) if named else 0.0


def _calibration_error(tally: Tally) -> float:
    """Mean distance of accuracy and confidence over predictions, by bin (Guo et al., ICML 2017)."""
    apart = sum(abs(tally.bin_scores.get(place, 0) - tally.bin_right.get(place, 0) * UNIT) for place in tally.bin_sizes)
    return share(apart, sum(tally.bin_sizes.values()) * UNIT)


def _bin(tally: Tally, place: int) -> BinMeasure:
    size = tally.bin_sizes[place]
    confidence = share(tally.bin_scores.get(place, 0), size * UNIT)
    return BinMeasure(place / BINS, (place + 1) / BINS, size, confidence, share(tally.bin_right.get(place, 0), size))


def risk(tally: Tally, alpha: float) -> RiskMeasure:
    """The error from uniform draws, weighted by one over their probability (Hajek 1971), with its interval."""
    labels = sum(tally.outcomes.values())
    lost = sum(count * int(loss * UNIT) for (_, loss), count in tally.outcomes.items())
    low, high = interval(tally.outcomes, STEPS, alpha)
    return RiskMeasure(
        labels=labels,
        raw=share(lost, labels * UNIT),
        weighted=share(tally.wrong_weight, tally.weight * UNIT),
        low=low,
        high=high,
        corrected=tally.disputed,
        clipped=tally.clipped,
    )
