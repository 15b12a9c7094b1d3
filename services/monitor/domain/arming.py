"""From the policy's run lengths to the allowances and limits of a camera's channels, by what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp, log
from typing import Final

import numpy as np

from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.policy import ChannelPolicy
from services.monitor.domain.reference import Reference
from services.monitor.domain.runlength import block_deviation, block_inflation, skew_factor, threshold

ALLOWANCES: Final = np.array([[1.0, 1.0], [2.0, 2.0]])
"""Two rules: times the policy's allowance, and how many standard errors of what is expected besides. The second finds a
shift of one deviation of a frame sooner, and one as large as the first rule must take for an error.
"""
_GRID: Final = 50.0  # Steps of 2 %: thresholds are looked up, not computed for each block.


@dataclass(frozen=True, slots=True)
class Bounds:
    """`allowance` and `limit`, both of shape (rules, channels), in deviations of a block mean; `warn` is the share of a
    limit at which it is a WARN.
    """

    allowance: Vector
    limit: Vector
    warn: float


def rounded(error: float) -> float:
    """Up to the next of a few values."""
    return exp(ceil(_GRID * log(max(error, 1e-3))) / _GRID)


def bounds(reference: Reference, block: int, policy: ChannelPolicy, error: float) -> Bounds:
    """For blocks of so many frames; `error` is that of what is expected, in deviations of a block mean."""
    allowances = ALLOWANCES @ [policy.allowance, error]
    limits = np.array([_limit(reference, block, a, error, policy.run_length_alarm) for a in allowances])
    warnings = np.array([_limit(reference, block, a, error, policy.run_length_warn) for a in allowances])
    skew = np.abs(reference.skew) * block_deviation(reference.rho, block)  # of a block mean
    factors = np.array([[skew_factor(a, one) for one in skew] for a in allowances])
    return Bounds(
        np.repeat(allowances[:, None], len(skew), axis=1), limits[:, None] * factors, float((warnings / limits).max())
    )


def _limit(reference: Reference, block: int, allowance: float, error: float, frames: float) -> float:
    """The threshold at which all channels, both ways and by all rules, alarm once in so many frames together."""
    unit = block_inflation(reference.rho, block)  # What blocks add up by, in their own deviations.
    steps = frames * len(ALLOWANCES) * 2.0 * max(int(reference.active.sum()), 1) / block
    return unit * threshold(allowance / unit, error / unit, steps)
