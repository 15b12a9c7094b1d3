"""From a wanted run length to a threshold: how rarely may a CUSUM alarm when nothing has changed?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import exp, log, sqrt

# Nodes and weights of Gauss-Hermite quadrature (probabilists', 5 points): the error of an estimated mean is normal.
_NODES = (-2.8569700, -1.3556262, 0.0, 1.3556262, 2.8569700)
_WEIGHTS = (0.0112574, 0.2220759, 0.5333333, 0.2220759, 0.0112574)
_HIGHEST = 400.0
_NEAR = 1e-10  # By so much a threshold is missed at most where the rate is met to 1e-12.
_OVERSHOOT = 1.166  # Siegmund's correction for the excess over the boundary of a normal walk.


def run_length(drift: float, threshold: float) -> float:
    """Mean number of steps until a one-sided CUSUM of N(drift, 1) steps passes `threshold` (Siegmund 1985, eq.
    2.57).
    """
    height = threshold + _OVERSHOOT
    if abs(drift) < 1e-6:
        return height * height
    power = min(-2.0 * drift * height, 600.0)
    return (exp(power) - power - 1.0) / (2.0 * drift * drift)


@lru_cache(maxsize=16_384)
def threshold(allowance: float, uncertainty: float, steps: float) -> float:
    """The threshold at which a one-sided CUSUM with this allowance alarms once in `steps` steps on average.

    `uncertainty` is the standard error of the reference mean in units of a step's standard deviation: the rate is
    averaged over it, so that a short reference raises the threshold instead of the number of false alarms.
    """
    terms = [(w, x * uncertainty - allowance) for w, x in zip(_WEIGHTS, _NODES, strict=True)]
    above, below = _bracket(terms, 1.0 / steps)
    low, high = 0.0, _HIGHEST
    for _ in range(60):
        middle = (low + high) / 2.0
        often = middle <= above or (middle < below and _rate(terms, middle) > 1.0 / steps)
        low, high = (middle, high) if often else (low, middle)
    return high


def _rate(terms: Sequence[tuple[float, float]], threshold: float) -> float:
    """How often a step alarms, over drifts with their weights: `run_length`, written out."""
    height = threshold + _OVERSHOOT
    total = 0.0
    for weight, drift in terms:
        if abs(drift) < 1e-6:
            total += weight / (height * height)
        else:
            power = min(-2.0 * drift * height, 600.0)
            total += weight / ((exp(power) - power - 1.0) / (2.0 * drift * drift))
    return total


def _bracket(terms: Sequence[tuple[float, float]], rate: float) -> tuple[float, float]:
    """Two thresholds close to each other: at the first the rate is above `rate`, at the second it is not.

    By regula falsi (Illinois) on the rate's logarithm, which is nearly a line; without it, halving would have to try
    all 60 thresholds, of which these two decide all but a few.
    """
    low, high = 0.0, _HIGHEST
    while high - low > 4.0:  # Where it is a curve.
        middle = (low + high) / 2.0
        low, high = (middle, high) if _rate(terms, middle) > rate else (low, middle)
    at_low, at_high = log(_rate(terms, low) / rate), log(_rate(terms, high) / rate)
    if at_low <= 0.0 or at_high > 0.0:
        return (low, low) if at_low <= 0.0 else (high, high)
    last = 0.0
    for _ in range(40):
        middle = low + (high - low) * at_low / (at_low - at_high)
        at = log(_rate(terms, middle) / rate)
        if at > 0.0:
            low, at_low, at_high = middle, at, at_high / (2.0 if last > 0.0 else 1.0)
        else:
            high, at_high, at_low = middle, at, at_low / (2.0 if last < 0.0 else 1.0)
        if abs(at) < 1e-12:
            break
        last = at
    for near in (middle - _NEAR, middle + _NEAR):
        if low < near < high:
            low, high = (near, high) if _rate(terms, near) > rate else (low, near)
    return low, high


def skew_factor(allowance: float, skew: float) -> float:
    """How much higher a threshold must be for steps of this skewness towards it (0 or less: no higher).

    The rate of false alarms falls as exp(-r h), where r is the root of the cumulant generating function of step minus
    allowance (Cramer-Lundberg): r = 2 allowance for a normal step, less for a skewed one; three cumulants are used.
    """
    if skew <= 1e-6:
        return 1.0
    return 2.0 * allowance / ((sqrt(0.25 + 2.0 * skew * allowance / 3.0) - 0.5) * 3.0 / skew)


def block_deviation(rho: float, size: int) -> float:
    """Standard deviation of the mean of `size` steps of an AR(1) series of unit variance and lag-1 correlation
    `rho`.
    """
    if rho <= 0.0:
        return 1.0 / sqrt(size)
    spread = (1.0 + rho) / (1.0 - rho) - 2.0 * rho * (1.0 - rho**size) / (size * (1.0 - rho) ** 2)
    return sqrt(spread / size)


def block_inflation(rho: float, size: int) -> float:
    """How much larger the deviation of a sum of many block means is than it would be were blocks independent.

    Neighbouring blocks of an AR(1) series resemble each other a little, and a CUSUM adds them up: what its rate of
    false alarms follows is the long-run deviation (Johnson & Bagshaw, Technometrics 1974), which is this times
    `block_deviation`.
    """
    return sqrt(correlation_time(rho) / size) / block_deviation(rho, size)


def correlation_time(rho: float) -> float:
    """How many steps of an AR(1) series are worth one independent step."""
    return (1.0 + rho) / (1.0 - rho) if rho > 0.0 else 1.0
