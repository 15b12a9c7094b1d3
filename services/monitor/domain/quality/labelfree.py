"""Accuracy where nobody has labelled yet: mean confidence, corrected by how far it was off where people have.

Average confidence (Hendrycks & Gimpel, ICLR 2017; Guillory et al., Predicting with confidence on unseen distributions,
ICCV 2021) with an offset and an interval from labelled cells: conformal, leave one out (Barber et al., Predictive
inference with the jackknife+, Ann. Stat. 2021). Outside the range of confidence that labels have covered, nobody has
seen how far accuracy moves with it: it is taken to move as far, and the interval reaches from not at all to twice as
far (Guillory et al. regress the one on the other and find slopes about 1 that differ from shift to shift). Where a
camera's fault makes a model wrong and sure (`doubt`), a prediction may be right or wrong, whatever its confidence. With
an interval wider than half of the scale, and with too few labelled cells, accuracy is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, fsum, sqrt
from types import MappingProxyType
from typing import Final

from services.monitor.domain.quality.measures import share
from services.monitor.domain.quality.tally import UNIT, Tally

LEVEL: Final = 0.9
CELLS_MIN: Final = 20
"""Labelled cells before an interval can be stated."""
LABELS_MIN: Final = 30
"""Labels of uniform draws in a cell before it counts."""
WIDEST: Final = 0.5
"""Of an interval that still says something."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What labelled cells say: the offset of accuracy from mean confidence, how far a cell may lie from it at `LEVEL`,
    and the lowest and highest mean confidence among them.
    """

    cells: int
    offset: float = 0.0
    radius: float = 1.0
    lowest: float = 1.0
    highest: float = 0.0

    def beyond(self, confidence: float) -> float:
        """How far a mean confidence lies outside of what labels have covered."""
        return max(self.lowest - confidence, confidence - self.highest, 0.0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """Accuracy without labels and its 90 % interval, 0..1; `unknown` says why there is none, else it is empty."""

    predictions: int
    confidence: float
    accuracy: float
    low: float
    high: float
    cells: int
    unknown: str


def calibrate(cells: Iterable[Tally]) -> Calibration:
    """From the uniform draws of cells: one camera and hour each, all of one version and role."""
    known = [sums for sums in map(_sums, cells) if sums[0] >= LABELS_MIN]
    if len(known) < CELLS_MIN:
        return Calibration(len(known))
    sure = [share(scores, n * UNIT) for n, _, scores in known]
    gaps = [share(right, n) - own for (n, right, _), own in zip(known, sure, strict=True)]
    count, total = len(gaps), fsum(gaps)
    misses = sorted(abs(gap - (total - gap) / (count - 1)) for gap in gaps)
    place = min(ceil(LEVEL * (count + 1)), count)
    return Calibration(count, total / count, misses[place - 1], min(sure), max(sure))


def _sums(tally: Tally) -> tuple[int, int, int]:
    """Predictions, right ones, sum of scores in 2^-60."""
    return sum(tally.bin_sizes.values()), sum(tally.bin_right.values()), sum(tally.bin_scores.values())


def estimate(
    traffic: Sequence[tuple[int, int]],
    calibration: Calibration,
    doubtful: Mapping[str, tuple[int, int]] = MappingProxyType({}),
) -> Estimate:
    """Of all predictions in some cells, (number, sum of scores in 2^-60) each; of the `doubtful` ones, by the reason,
    confidence says nothing.
    """
    everything = [*traffic, *doubtful.values()]
    number = sum(n for n, _ in everything)
    confidence = share(sum(scores for _, scores in everything), number * UNIT)
    beyond = fsum(n * calibration.beyond(share(scores, n * UNIT)) for n, scores in traffic) / max(number, 1)
    dark = sum(n for n, _ in doubtful.values()) / max(number, 1)
    reach = calibration.radius + beyond + dark
    unknown = _unknown(number, reach, calibration)
    if unknown and dark and 2.0 * (reach - dark) <= WIDEST:
        unknown = f"confidence says nothing of accuracy where a camera is broken: {', '.join(sorted(doubtful))}"
    if unknown:
        return Estimate(number, confidence, 0.0, 0.0, 1.0, calibration.cells, unknown)
    middle = confidence + calibration.offset
    low, high = (min(max(middle + side * reach, 0.0), 1.0) for side in (-1, 1))
    return Estimate(number, confidence, min(max(middle, 0.0), 1.0), low, high, calibration.cells, "")


def _unknown(number: int, reach: float, calibration: Calibration) -> str:
    if not number:
        return "no predictions"
    if calibration.cells < CELLS_MIN:
        return f"{calibration.cells} of {CELLS_MIN} cameras' hours with at least {LABELS_MIN} labels drawn at random"
    if 2.0 * reach > WIDEST:
        seen = f"{calibration.lowest:.3f}-{calibration.highest:.3f}"
        return f"mean confidence too far outside {seen}, where labels calibrated it"
    return ""


def answered(drawn: Tally, predictions: int) -> tuple[float, float]:
    """Share of the predictions that the answered uniform draws stand for, and its standard error: about 1 once all that
    was drawn is answered (Horvitz & Thompson 1952; the error is that of draws with one common probability).
    """
    labels = sum(drawn.outcomes.values())
    if not (labels and predictions):
        return 0.0, 0.0
    mean = share(drawn.weight, labels * UNIT)
    return share(drawn.weight, predictions * UNIT), sqrt(labels * mean * max(mean - 1.0, 0.0)) / predictions
