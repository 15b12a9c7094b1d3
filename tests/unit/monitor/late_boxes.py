"""Boxes that come late, in any order, are corrected and withdrawn; and what an offline run over all of them says.

The offline run is a plain one on purpose: it keeps everything, looks at it from scratch, and measures with none of the
monitor's code.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from math import fsum, sqrt
from typing import NamedTuple

import numpy as np

from services.monitor.domain.quality.book import HOUR
from services.monitor.domain.quality.boxes import Boxes, Row
from services.monitor.domain.quality.truth import UNKNOWN, Said, Truth

CLASSES = ("bag", "boot", "coat")
START = 1_700_000_000_000_000
LABELS = 400
THRESHOLD = 0.5
LEVELS = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]


def _row(rng: random.Random, name: str, score: float, x: float, y: float, size: float) -> Row:
    return _rounded(name, score, x, y, size, size * rng.choice((0.5, 1.0, 1.5)))


def _rounded(name: str, *numbers: float) -> Row:
    score, x, y, width, height = (float(np.float32(number)) for number in numbers)
    return name, score, x, y, width, height


def drawn_on(rng: random.Random) -> list[Row]:
    """0 to 4 boxes."""
    places = range(rng.choice((0, 1, 1, 2, 2, 4)))
    return [
        _row(rng, rng.choice(CLASSES), 1.0, 60.0 * n + rng.uniform(0, 9), rng.uniform(0, 90), rng.uniform(12, 40))
        for n in places
    ]


def found_on(rng: random.Random, drawn: Iterable[Row]) -> list[Row]:
    """Most of the boxes, moved a little, some of another class or twice; and some where nothing is. Scores repeat."""
    found: list[Row] = []
    for name, _, x, y, width, height in drawn:
        for _ in range(rng.choice((0, 1, 1, 1, 2))):
            moved = [x + rng.gauss(0, 3), y + rng.gauss(0, 3), width + rng.gauss(0, 1), height + rng.gauss(0, 1)]
            said = rng.choice(CLASSES) if rng.random() < 0.1 else name
            found.append(_rounded(said, rng.choice((0.25, 0.5, 0.75, rng.random())), *moved))
    found += [_row(rng, rng.choice(CLASSES), rng.random(), 300, 10, 20) for _ in range(rng.random() < 0.3)]
    return sorted(found, key=lambda row: -row[1])


def events(seed: int) -> list[Truth]:
    """Labels over nine hours: 10 % corrected, 5 % withdrawn, 5 % sent twice, all in random order."""
    rng = random.Random(seed)
    found: list[Truth] = []
    for n in range(LABELS):
        at, drawn = START + rng.randrange(9 * HOUR), drawn_on(rng)
        said = Said.of("m", "1", "champion", "", 0.0, Boxes.of(found_on(rng, drawn)), THRESHOLD)
        propensity = rng.choice((0.0, 0.08, 0.031))
        first = Truth(
            f"asset-{n}", f"camera-{n % 3}", at, at + rng.randrange(1, 48 * HOUR), 1, UNKNOWN, propensity,
            {f"p{n}": said}, Boxes.of(drawn),
        )  # fmt: skip
        found.append(first)
        if rng.random() < 0.1:
            found.append(replace(first, revision=2, boxes=Boxes.of(drawn_on(rng)), propensity=0.0))
        if rng.random() < 0.05:
            found.append(replace(first, revision=3, boxes=None, propensity=0.0, said={}))
    found += [one for one in found if rng.random() < 0.05]
    rng.shuffle(found)
    return found


class Frame(NamedTuple):
    """What an offline run knows of a frame in the end."""

    drawn: list[Row]
    found: list[Row]
    propensity: float
    disputed: bool


def offline(found: Iterable[Truth], camera: str | None = None) -> list[Frame]:
    """The frames that are labelled in the end, also such as no longer tell of boxes, whose `drawn` is [("",...)]."""
    revisions: dict[str, dict[int, Truth]] = {}
    for one in found:
        revisions.setdefault(one.asset_id, {})[one.revision] = one
    frames = []
    for known in revisions.values():
        first, last = known[min(known)], known[max(known)]
        (said,) = first.said.values()
        if last.boxes is not None and said.found is not None and camera in (None, first.camera_id):
            disputed = len({one.boxes for one in known.values()}) > 1
            frames.append(Frame(last.boxes.rows(), said.found.rows(), first.propensity, disputed))
    return frames


def _iou(a: Row, b: Row) -> float:
    inter_w = min(a[2] + a[4], b[2] + b[4]) - max(a[2], b[2])
    inter_h = min(a[3] + a[5], b[3] + b[5]) - max(a[3], b[3])
    inter = max(inter_w, 0.0) * max(inter_h, 0.0)
    return inter / (a[4] * a[5] + b[4] * b[5] - inter)


def pairs(frame: Frame, name: str, level: float) -> list[tuple[Row, Row | None]]:
    """Each detection of a class with the box that it is right about at a level, surest first."""
    left = [row for row in frame.drawn if row[0] == name]
    told = []
    for row in (row for row in frame.found if row[0] == name):
        best = None
        for truth in left:
            if _iou(row, truth) >= level and (best is None or _iou(row, truth) >= _iou(row, best)):
                best = truth
        if best is not None:
            left.remove(best)
        told.append((row, best))
    return told


def average_precision(frames: list[Frame], name: str, level: float) -> float | None:
    """As COCO's tools, with detections of equal score counted together, in exact arithmetic."""
    labels = sum(row[0] == name for frame in frames for row in frame.drawn)
    if not labels:
        return None
    told = [(row[1], truth is not None) for frame in frames for row, truth in pairs(frame, name, level)]
    points = []
    for score in sorted({score for score, _ in told}, reverse=True):
        above = [right for its, right in told if its >= score]
        points.append((Fraction(sum(above), labels), sum(above) / len(above)))
    best = [max((p for r, p in points if r >= Fraction(step, 100)), default=0.0) for step in range(101)]
    return fsum(best) / 101


def errors(frames: list[Frame], names: Iterable[str]) -> tuple[float | None, float | None]:
    """Mean absolute and root mean square error of edges, in pixels, each rounded to 1/256."""
    apart = []
    for name in names:
        for row, truth in (pair for frame in frames for pair in pairs(frame, name, 0.5)):
            if truth is not None and row[1] >= THRESHOLD:
                edges = zip(_edges(row), _edges(truth), strict=True)
                apart += [Fraction(round(abs(a - b) * 256), 256) for a, b in edges]
    if not apart:
        return None, None
    return float(sum(apart) / len(apart)), sqrt(float(sum(a * a for a in apart) / len(apart)))


def _edges(row: Row) -> tuple[float, ...]:
    return row[2], row[3], row[2] + row[4], row[3] + row[5]


def lost(frame: Frame) -> float:
    """1 - F1 at IoU .5 of what reaches the threshold."""
    right = sum(truth is not None and row[1] >= THRESHOLD for name in CLASSES for row, truth in pairs(frame, name, 0.5))
    both = len(frame.drawn) + sum(row[1] >= THRESHOLD for row in frame.found)
    return float(Fraction(both - 2 * right, both)) if both else 0.0
