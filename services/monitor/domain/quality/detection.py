"""How well detections fit the boxes that people drew: average precision as COCO defines it, and errors of edges.

T.-Y. Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014, with the 101-point interpolation of its
evaluation tools: for recalls 0, .01 ... 1 the highest precision at that recall or beyond, on average. Unlike there,
detections of equal score count together, as their order would be the order in which labels came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import fsum, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.quality.boxes import LEVELS, MATCH, PIXEL, Boxes, loss
from services.monitor.domain.quality.measures import share

RECALLS: Final = 101
_AT_50: Final = 0
_AT_75: Final = 5
_EDGES: Final = 4


class Compared(NamedTuple):
    """A frame on which a detector was compared: what people drew, what it found, and how that matches."""

    drawn: Boxes
    found: Boxes
    matched: bytes
    threshold: float


@dataclass(slots=True)
class Ranking:
    """Boxes of one class: those drawn, and of each detection the score, the levels at which it is right, whether it
    reaches the decision threshold, and its edges' errors.
    """

    labels: int = 0
    scores: list[float] = field(default_factory=list)
    levels: list[int] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    apart: int = 0
    squares: int = 0

    def precisions(self) -> list[float | None]:
        """Average precision at each of `LEVELS`; None where nobody drew a box."""
        scores = np.array(self.scores)
        order = np.argsort(-scores, kind="stable")
        bits = np.array(self.levels, dtype=np.int64)[order]
        last = np.append(np.diff(scores[order]) != 0.0, True) if len(scores) else np.zeros(0, dtype=np.bool_)
        return [average_precision(bits >> bit & 1, last, self.labels) for bit in range(len(LEVELS))]


def average_precision(right: NDArray[np.int64], last: NDArray[np.bool_], labels: int) -> float | None:
    """From detections best first, (n,): whether each is `right`, and whether it is the `last` of those that score the
    same. None where there are no `labels`.
    """
    if not labels:
        return None
    hits, found = np.cumsum(right)[last], np.arange(1, len(right) + 1)[last]
    best = np.maximum.accumulate((hits / found)[::-1])[::-1]
    at = np.searchsorted(hits * (RECALLS - 1), np.arange(RECALLS) * labels)  # Recalls as whole numbers: no rounding.
    return fsum(best[at[at < len(best)]].tolist()) / RECALLS


@dataclass(frozen=True, slots=True)
class BoxMeasure:
    """Of one class, or of all together: boxes drawn, detections that reach the decision threshold, those of them that
    are right at IoU .5; average precision over all detections; errors of right ones' edges in pixels, None without any.
    """

    class_name: str
    labels: int
    predictions: int
    right: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    mae: float | None
    rmse: float | None


@dataclass(frozen=True, slots=True)
class BoxMeasures:
    """All metrics of the boxes of one set of frames; `loss` is the mean one of a frame, 0..1."""

    frames: int
    loss: float
    whole: BoxMeasure
    classes: Sequence[BoxMeasure]


def measure_boxes(frames: Sequence[Compared]) -> BoxMeasures:
    """What the frames say, whatever order they are in."""
    rankings = _rankings(frames)
    classes = [_measure(name, rankings[name]) for name in sorted(rankings)]
    listed = list(rankings.values())
    whole = BoxMeasure(
        "",
        sum(one.labels for one in classes),
        sum(one.predictions for one in classes),
        sum(one.right for one in classes),
        _mean(one.ap for one in classes),
        _mean(one.ap50 for one in classes),
        _mean(one.ap75 for one in classes),
        *_errors(sum(one.right for one in classes), sum(r.apart for r in listed), sum(r.squares for r in listed)),
    )
    lost = fsum(loss(one.drawn, one.found, one.matched, one.threshold) for one in frames)
    return BoxMeasures(len(frames), lost / max(len(frames), 1), whole, classes)


def _rankings(frames: Iterable[Compared]) -> dict[str, Ranking]:
    rankings: dict[str, Ranking] = {}
    for frame in frames:
        for name in frame.drawn.names:
            rankings.setdefault(name, Ranking()).labels += 1
        matched = np.frombuffer(frame.matched, dtype=MATCH).tolist()
        for name, score, told in zip(frame.found.names, frame.found.scores(), matched, strict=True):
            ranking, (levels, apart, squares) = rankings.setdefault(name, Ranking()), told
            sure = score >= frame.threshold
            ranking.scores.append(score)
            ranking.levels.append(levels)
            ranking.sure.append(sure)
            ranking.apart += sure * apart
            ranking.squares += sure * squares
    return rankings


def _measure(name: str, ranking: Ranking) -> BoxMeasure:
    right = sum(levels & 1 for levels, sure in zip(ranking.levels, ranking.sure, strict=True) if sure)
    precisions = ranking.precisions()
    errors = _errors(right, ranking.apart, ranking.squares)
    return BoxMeasure(
        name,
        ranking.labels,
        sum(ranking.sure),
        right,
        _mean(precisions),
        precisions[_AT_50],
        precisions[_AT_75],
        *errors,
    )


def _errors(right: int, apart: int, squares: int) -> tuple[float | None, float | None]:
    """Mean absolute and root mean square error of the edges of the right detections, in pixels."""
    if not right:
        return None, None
    return share(apart, right * _EDGES * PIXEL), sqrt(share(squares, right * _EDGES * PIXEL * PIXEL))


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if known else None
