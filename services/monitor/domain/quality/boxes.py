"""Boxes that a detector found and that people drew, and which of them belong together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from struct import iter_unpack, pack
from sys import intern
from typing import Final, TypeAlias

import numpy as np

MOST: Final = 1000
"""Boxes on one frame; a frame with more is compared with nothing."""
MOST_FOUND: Final = 100
"""Detections of one frame that are kept, best first, as the contract bounds them."""
LEVELS: Final = tuple((10 + step) / 20 for step in range(10))
"""Intersection over union from which on two boxes are the same: .5, .55 ... .95 (Lin et al., ECCV 2014: COCO)."""
PIXEL: Final = 256
"""Errors of edges are counted in 256ths of a pixel."""
MATCH: Final = np.dtype([("levels", "<u2"), ("apart", "<u4"), ("squares", "<u8")])
"""Of a detection: a bit for each of `LEVELS` at which it is right; where it is right at .5, the sum over its four edges
of the distance to the drawn box's, and of its square, in 256ths of a pixel.
"""
_NUMBERS: Final = "<5f"
_FARTHEST: Final = 1 << 26  # 256ths of a pixel.

Row: TypeAlias = tuple[str, float, float, float, float, float]
"""Class, score, x, y, width, height; in pixels."""


@dataclass(frozen=True, slots=True, order=True)
class Boxes:
    """Boxes in an order that matters: of a detector best first. Packed, as there may be a hundred to each label:
    `numbers` are score, x, y, width and height of each as float32. Boxes that people drew have the score 1.
    """

    names: tuple[str, ...] = ()
    numbers: bytes = b""

    @classmethod
    def of(cls, rows: Iterable[Row]) -> Boxes:
        """From what a message says."""
        listed = list(rows)
        return cls(
            tuple(intern(name) for name, *_ in listed), b"".join(pack(_NUMBERS, *numbers) for _, *numbers in listed)
        )

    def rows(self) -> list[Row]:
        """The inverse of `of`, up to the rounding of float32."""
        return [(name, *numbers) for name, numbers in zip(self.names, iter_unpack(_NUMBERS, self.numbers), strict=True)]

    def scores(self) -> tuple[float, ...]:
        """Of each, in order."""
        return tuple(numbers[0] for numbers in iter_unpack(_NUMBERS, self.numbers))


def match(drawn: Boxes, found: Boxes) -> bytes:
    """For each detection found a `MATCH`: at each level detections choose among the drawn boxes of their class, the
    surest first, each the one that it overlaps most and that nobody has taken; of equal ones the last, as COCO does.
    """
    told = [(0, 0, 0)] * len(found.names)
    drawn_rows, found_rows = drawn.rows(), found.rows()
    for name in dict.fromkeys(found.names):
        mine = [place for place, row in enumerate(found_rows) if row[0] == name]
        truths = [row for row in drawn_rows if row[0] == name]
        for place, one in zip(mine, _matched(truths, [found_rows[place] for place in mine]), strict=True):
            told[place] = one
    return np.array(told, dtype=MATCH).tobytes()


def _matched(truths: list[Row], found: list[Row]) -> list[tuple[int, int, int]]:
    overlaps = [[overlap(one, truth) for truth in truths] for one in found]
    levels, apart = [0] * len(found), [(0, 0)] * len(found)
    for bit, level in enumerate(LEVELS):
        free = set(range(len(truths)))
        for place, row in enumerate(overlaps):
            best = max((t for t in free if row[t] >= level), key=lambda t: (row[t], t), default=None)
            if best is None:
                continue
            free.remove(best)
            levels[place] |= 1 << bit
            if bit == 0:
                apart[place] = _apart(found[place], truths[best])
    return [(bits, *errors) for bits, errors in zip(levels, apart, strict=True)]


def overlap(one: Row, other: Row) -> float:
    """Intersection over union, 0..1."""
    _, _, x0, y0, w0, h0 = one
    _, _, x1, y1, w1, h1 = other
    width = min(x0 + w0, x1 + w1) - max(x0, x1)
    height = min(y0 + h0, y1 + h1) - max(y0, y1)
    if width <= 0.0 or height <= 0.0:
        return 0.0
    both = width * height
    return both / (w0 * h0 + w1 * h1 - both)


def _apart(one: Row, truth: Row) -> tuple[int, int]:
    steps = [min(round(abs(a - b) * PIXEL), _FARTHEST) for a, b in zip(_edges(one), _edges(truth), strict=True)]
    return sum(steps), sum(step * step for step in steps)


def _edges(row: Row) -> tuple[float, float, float, float]:
    _, _, x, y, width, height = row
    return x, y, x + width, y + height


def loss(drawn: Boxes, found: Boxes, matched: bytes, threshold: float) -> float:
    """How wrong a frame is, 0..1: 1 - F1 of the detections that score at least `threshold`, at IoU .5. Nothing found
    where there is nothing is right.
    """
    sure = [score >= threshold for score in found.scores()]
    bits = np.frombuffer(matched, dtype=MATCH)["levels"].tolist()
    right = sum(bit & 1 for bit, is_sure in zip(bits, sure, strict=True) if is_sure)
    boxes = sum(sure) + len(drawn.names)
    return float(Fraction(boxes - 2 * right, boxes)) if boxes else 0.0
