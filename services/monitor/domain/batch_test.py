"""Is the change still there in frames that did not raise the alarm? A two-sample test by permutation of whole stretches
of frames, as single frames of a camera are alike and would make any test reject.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb
from typing import Final

import numpy as np

from services.monitor.domain.detectors.protocol import Vector

LEVEL: Final = 0.05
BLOCKS: Final = 8
"""Blocks in a stretch: with blocks of at least 10 frames and 2 correlation times, 80 frames and 16 such times."""
FRESH: Final = 2
"""Stretches after the alarm that are tested."""
_MOST: Final = 24  # Stretches before the alarm that are looked at, the newest.


def least(fresh: int) -> int:
    """How many stretches before the alarm there must be for a p-value below `LEVEL` to be possible at all."""
    count = 1
    while comb(count + fresh, fresh) * LEVEL < 1.0:
        count += 1
    return count


def stretches(means: Vector, frames: Sequence[int], size: int) -> Vector:
    """Means of consecutive blocks, shape (blocks, channels), put together to stretches of exactly `size` frames, shape
    (stretches, channels), counted from the newest backwards; what is left over at the beginning is dropped, and so is
    all before a block that does not fit.
    """
    found: list[Vector] = []
    total, filled = np.zeros(means.shape[1]), 0
    for mean, count in zip(means[::-1], list(frames)[::-1], strict=True):
        total, filled = total + mean * count, filled + count
        if filled > size:
            break
        if filled == size:
            found.append(total / size)
            total, filled = np.zeros(means.shape[1]), 0
    return np.array(found[::-1]).reshape(len(found), means.shape[1])


def p_value(before: Vector, fresh: Vector) -> float:
    """Of the hypothesis that both are of one kind, by the squared maximum mean discrepancy with a Gaussian kernel as
    wide as the median distance (Gretton et al., JMLR 2012), over all ways to choose the fresh ones: exact if stretches
    are exchangeable, and the same each time.

    `before` and `fresh` have shapes (n, channels) and (m, channels); of `before` the last 24 count. 1 where there are
    too few to say anything.
    """
    before = before[-_MOST:]
    if len(fresh) < 1 or len(before) < least(len(fresh)):
        return 1.0
    kernel = _kernel(np.concatenate([before, fresh]))
    count, m = len(kernel), len(fresh)
    chosen = np.array(list(combinations(range(count - 1, -1, -1), m)))  # The first choice is the fresh ones.
    inside = np.zeros((len(chosen), count))
    inside[np.arange(len(chosen))[:, None], chosen] = 1.0
    weights = inside / m - (1.0 - inside) / (count - m)
    discrepancy = np.einsum("ci,ij,cj->c", weights, kernel, weights, optimize=True)
    return float((discrepancy >= discrepancy[0] - 1e-12).mean())


def _kernel(points: Vector) -> Vector:
    square = ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2)
    width = float(np.median(square[np.triu_indices(len(points), 1)]))
    kernel: Vector = np.exp(-square / max(width, 1e-12))
    return kernel
