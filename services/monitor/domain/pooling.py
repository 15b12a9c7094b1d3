"""What the cameras of a model have in common under one version, so that a further camera need not begin from nothing:
a mean over cameras, and how much one camera departs from it (a random effects model: Laird & Ware, Biometrics 1982).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

import numpy as np

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.policy import ReferencePolicy
from services.monitor.domain.profile import AMPLITUDE, DAY, HARMONICS, Profile
from services.monitor.domain.reference import Reference
from services.monitor.domain.runlength import correlation_time

LEAST: Final = 3
"""Cameras that have to be known before a further one leans on them: of fewer, nobody knows how much they differ."""
_MOST: Final = 32  # Cameras that are looked at, those known longest.
_ORDERS: Final = np.tile(np.arange(1, HARMONICS + 1), 2)


@dataclass(frozen=True, slots=True)
class Known:
    """One camera of the model: its reference, what it expects by the hour, and for how many seconds it has."""

    reference: Reference
    profile: Profile | None
    age: float


@dataclass(frozen=True, slots=True)
class Cycle:
    """The daily cycle that cameras share: `weights` of the waves, shape (8, features), in the channels' own units, and
    the variance of one camera about them, shape (8, features), in the same units squared. `classes`, shape (8,), is
    the mean square of the waves of class channels, in squared deviations: they are not shared by name.
    """

    weights: Vector
    variance: Vector
    classes: Vector

    def of(self, reference: Reference) -> tuple[Vector, Vector]:
        """For a camera with this reference: the waves' weights, shape (8, channels), standardised, and their variances,
        shape (8,), in squared deviations: those of the channel in which cameras differ most, and at most what is
        believed from nothing.
        """
        scale, active = reference.scale[:WIDTH], reference.active[:WIDTH]
        weights = np.zeros((len(_ORDERS), len(reference.scale)))
        weights[:, :WIDTH] = np.where(active, self.weights / scale, 0.0)
        unit = (scale * reference.deviation[:WIDTH]) ** 2
        widest = np.where(active, self.variance / unit, 0.0).max(axis=1)
        return weights, np.minimum(np.maximum(widest, self.classes), (AMPLITUDE / _ORDERS) ** 2)


@dataclass(frozen=True, slots=True)
class Pool:
    """`cameras` are so many. Of each feature, shape (features,): `scale`, the mean spread in its own units by which
    frames are scaled; `deviation`, the mean standard deviation in its own units (geometric), and `worth`, how many
    independent frames that is worth for one more camera; `skew` and `tail` of the mean camera. `rho` is the median.
    """

    cameras: int
    scale: Vector
    deviation: Vector
    worth: Vector
    skew: Vector
    tail: Vector
    rho: float
    cycle: Cycle | None = None

    @classmethod
    def of(cls, cameras: Iterable[Known]) -> Self | None:
        """Of the cameras that are known; None when there is none."""
        known = list(cameras)
        if not known:
            return None
        scale: Vector = np.sqrt(np.mean(np.square([one.reference.scales() for one in known]), axis=0))
        known = list(islice(known, _MOST))
        references = [one.reference for one in known]
        spreads = np.log([r.scale[:WIDTH] * r.deviation[:WIDTH] for r in references])
        skew, tail = (np.mean([getattr(r, name)[:WIDTH] for r in references], axis=0) for name in ("skew", "tail"))
        apart = spreads.var(axis=0, ddof=1) * (1.0 + 1.0 / len(known)) if len(known) > 1 else np.full(WIDTH, np.inf)
        worth = np.maximum(tail - 1.0, 0.5) / (4.0 * np.maximum(apart, 1e-9))
        rho = float(np.median([r.rho for r in references]))
        return cls(len(known), scale, np.exp(spreads.mean(axis=0)), worth, skew, tail, rho, _cycle(known))

    def helps(self, frames: int, learning: ReferencePolicy) -> bool:
        """Whether so many frames of a further camera may be enough, with what the others tell."""
        needed = learning.effective_pooled * correlation_time(self.rho)
        return self.cameras >= LEAST and frames >= max(learning.frames_pooled, needed)

    def lend(self, own: Reference, most: float) -> Reference:
        """`own`, learnt from few frames, with spread, skewness and likeness leaning on the other cameras: as if they
        were `worth` frames of its own, at most `most`. Its means stay its own, as cameras look at different things.
        """
        own.rho = max(own.rho, self.rho)
        count = own.effective()
        weight = np.minimum(self.worth, most)
        unit = own.scale[:WIDTH]
        variance = (count * own.deviation[:WIDTH] ** 2 + weight * (self.deviation / unit) ** 2) / (count + weight)
        own.deviation[:WIDTH] = np.sqrt(variance)
        for mine, theirs in ((own.skew, self.skew), (own.tail, self.tail)):
            mine[:WIDTH] = (count * mine[:WIDTH] + weight * theirs) / (count + weight)
        own.lent = np.concatenate([weight, np.zeros(len(own.scale) - WIDTH)])
        return own


def _cycle(known: list[Known]) -> Cycle | None:
    """What cameras that have seen a whole day share of it."""
    days = [(one.reference, one.profile) for one in known if one.profile is not None and one.age >= DAY]
    if len(days) < LEAST:
        return None
    waves = np.array([profile.weights[1:, :WIDTH] * reference.scale[:WIDTH] for reference, profile in days])
    classes = [
        np.square(profile.weights[1:, WIDTH:] / reference.deviation[WIDTH:]).mean(axis=1)
        for reference, profile in days
        if len(reference.scale) > WIDTH
    ]
    square: Vector = np.mean(classes, axis=0) if classes else np.zeros(len(_ORDERS))
    return Cycle(waves.mean(axis=0), waves.var(axis=0, ddof=1) * (1.0 + 1.0 / len(days)), square)
