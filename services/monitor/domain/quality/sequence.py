"""An interval for the error that holds at every moment at once, however often one looks and whenever one stops.

Hedged capital with a grid of fixed bets (Waudby-Smith & Ramdas, Estimating means of bounded random variables by
betting, J. R. Stat. Soc. B 86, 2024, sections 4 and 5). Against "the error is m" one half of the capital bets that it
is higher, the other that it is lower; each is a nonnegative martingale if the mean is m, and by Ville's inequality the
set of all m against which it is below 1 / alpha contains the error at all times with probability 1 - alpha. As the bets
are fixed, the capital depends on how often each outcome in 0..1 was seen: not on the order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

BETS: Final = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9])
"""Shares of the largest bet that cannot ruin: small ones for many labels, large ones for few."""
_HALVINGS: Final = 40
_EDGE: Final = 1e-9


def interval(outcomes: Mapping[tuple[int, float], int], steps: int, alpha: float) -> tuple[float, float]:
    """Lowest and highest error not refuted at level `alpha`; (0, 1) without labels.

    `outcomes` counts labels by (weight in 1/`steps`, loss 0..1: 1 for a wrong prediction); a weight, at most 1, shrinks
    the bet and must have been fixed before the label was known. The labels must come from frames drawn at random whose
    error, given all that came before, has the same mean.
    """
    listed = sorted(outcomes.items())
    weights = np.array([step / steps for (step, _), _ in listed])
    losses = np.array([loss for (_, loss), _ in listed], dtype=np.float64)
    counts = np.array([count for _, count in listed], dtype=np.float64)
    limit = log(2.0 / alpha)

    def is_higher(m: float) -> bool:
        return _capital(weights, losses, counts, m) >= limit

    def is_lower(m: float) -> bool:
        return _capital(weights, 1.0 - losses, counts, 1.0 - m) >= limit

    if not listed:
        return 0.0, 1.0
    return _last(is_higher, 0.0, 1.0), _last(is_lower, 1.0, 0.0)


def _capital(
    weights: NDArray[np.float64], outcomes: NDArray[np.float64], counts: NDArray[np.float64], m: float
) -> float:
    """Logarithm of the mean capital of those who bet that the mean outcome is above m; it falls as m grows."""
    m = max(m, _EDGE)
    gain = (outcomes - m) / m * weights
    logs = (counts[None, :] * np.log1p(BETS[:, None] * gain[None, :])).sum(axis=1)
    top = float(logs.max())
    return top + float(np.log(np.exp(logs - top).mean()))


def _last(refuted: Callable[[float], bool], begin: float, end: float) -> float:
    """The edge of what is refuted, walking from `begin`, where it is if anywhere, to `end`: on the refuted side."""
    if not refuted(begin):
        return begin
    for _ in range(_HALVINGS):
        middle = (begin + end) / 2.0
        begin, end = (middle, end) if refuted(middle) else (begin, middle)
    return begin
