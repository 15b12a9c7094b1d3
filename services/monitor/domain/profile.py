"""What a camera's channels are expected to be at this time of day: the daily cycle, learnt while the camera stays
quiet, with how much is not known of it yet.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Final, Self

import numpy as np

from services.monitor.domain.detectors.protocol import Vector

DAY: Final = 86_400.0
DAYS: Final = 3.0
"""Days of event time over which the profile is refined; afterwards only at hours of which it knows too little."""
HARMONICS: Final = 4
"""Of a day: the shortest wave is six hours long."""
AMPLITUDE: Final = 1.0
"""Of the first harmonic, in a channel's deviations, before anything is seen; the k-th has a k-th of it."""
_TERMS: Final = 1 + 2 * HARMONICS
_LEVEL: Final = 10.0  # How far the level may lie from where learning put it: so wide that only data decide.
_ORDERS: Final = np.arange(1, HARMONICS + 1)


def waves(at: float) -> Vector:
    """1, cosines and sines of the hour (UTC) of event time `at`, shape (9,)."""
    angle = (2.0 * pi / DAY) * (at % DAY) * _ORDERS
    return np.concatenate([[1.0], np.cos(angle), np.sin(angle)])


@dataclass(slots=True)
class Profile:
    """Harmonic regression by recursive least squares (Young, Recursive Estimation, 1984), which is the Bayesian linear
    model with normal priors: `weights`, shape (9, channels), in standardised units, and their covariance `doubt`, shape
    (9, 9), in squared deviations of an independent frame, the same for all channels.

    On the first day the doubt says how far the cycle may have gone since it was last seen; from the second day on,
    every hour is known, and what departs from it is no cycle. Little is learnt after `DAYS`, so that slow creep is seen
    against a fixed anchor.
    """

    weights: Vector
    doubt: Vector
    since: float
    updates: int = 0

    @classmethod
    def begin(cls, level: Vector, at: float, cycle: tuple[Vector, Vector] | None = None) -> Self:
        """Nothing is known but about where the level lies, shape (channels,), and the `cycle` if other cameras share
        one: the waves' weights, shape (8, channels), and their variances, shape (8,).
        """
        weights = np.zeros((_TERMS, len(level)))
        weights[0] = level
        variances = np.tile(AMPLITUDE / _ORDERS, 2) ** 2
        if cycle is not None:
            weights[1:], variances = cycle
        return cls(weights, np.diag(np.concatenate([[_LEVEL**2], variances])), at)

    def expected(self, at: float) -> Vector:
        """The channels' standardised means at that time, shape (channels,)."""
        means: Vector = waves(at) @ self.weights
        return means

    def error(self, at: float) -> float:
        """Standard error of `expected`, in deviations of a frame."""
        terms = waves(at)
        return sqrt(max(float(terms @ self.doubt @ terms), 0.0))

    def learn(self, at: float, means: Vector, worth: float, enough: float) -> None:
        """Take the means (shape (channels,), NaN where absent) of frames worth so many independent ones.

        Once `DAYS` have passed, an hour known as well as from `enough` independent frames is left as it is.
        """
        terms = waves(at)
        part = self.doubt @ terms
        variance = float(terms @ part)
        if at - self.since > DAYS * DAY and variance * enough <= 1.0:
            return
        gain = part / (variance + 1.0 / worth)
        surprise = np.where(np.isnan(means), 0.0, means - terms @ self.weights)
        self.weights += np.outer(gain, surprise)
        self.doubt -= np.outer(gain, part)
        self.updates += 1
