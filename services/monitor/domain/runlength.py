"""From a wanted run length to a threshold: how rarely may a CUSUM alarm when nothing has changed?"""

from __future__ import annotations

from functools import lru_cache
from math import exp, sqrt

# Nodes and weights of Gauss-Hermite quadrature (probabilists', 5 points): the error of an estimated mean is normal.
_NODES = (-2.8569700, -1.3556262, 0.0, 1.3556262, 2.8569700)
_WEIGHTS = (0.0112574, 0.2220759, 0.5333333, 0.2220759, 0.0112574)
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
    low, high = 0.0, 400.0
    for _ in range(60):
        middle = (low + high) / 2.0
        rate = sum(w / run_length(x * uncertainty - allowance, middle) for x, w in zip(_NODES, _WEIGHTS, strict=True))
        low, high = (middle, high) if rate > 1.0 / steps else (low, middle)
    return high


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
