"""What is normal for one camera under one model version, learnt from its first frames and refined while it stays
quiet.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import names
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.policy import ChannelPolicy, ReferencePolicy
from services.monitor.domain.runlength import correlation_time

# Spread below which a channel counts as constant: of full scale for shares and levels, else of the channel's own mean.
_FLOOR = 0.004
_LEAST = 0.25  # Of the scale: what varies less was clipped away, and is not watched more closely than this.


@dataclass(slots=True)
class Reference:
    """Means and spreads of a camera's channels; arrays have shape (features + classes,).

    A frame is first mapped to `clip((x - centre) / scale)`; `mean` (of the frames it was learnt from; `profile` says
    what is expected later) and `deviation` are of what comes out, so clipping biases nothing. `skew` and `tail`
    (kurtosis) are of the same frames. `kept` holds the numbers of the classes with a channel. `active` marks the
    channels that can be watched, `held` those that an earlier version's reference is an anchor for. `lent` is how many
    independent frames the deviations lean on that are other cameras'.
    """

    names: tuple[str, ...]
    kept: NDArray[np.int64]
    centre: Vector
    scale: Vector
    mean: Vector
    deviation: Vector
    skew: Vector
    tail: Vector
    active: NDArray[np.bool_]
    rho: float
    frames: int
    clip: float
    held: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=np.bool_))
    lent: Vector = field(default_factory=lambda: np.zeros(0))

    def standardise(self, rows: Vector, classes: NDArray[np.int64]) -> Vector:
        """Frames of shape (n, features) and their class numbers as (n, channels); NaN where a feature is absent."""
        values, width = np.empty((len(rows), len(self.centre))), rows.shape[1]
        values[:, :width] = rows
        values[:, width:] = classes[:, None] == self.kept
        values -= self.centre
        values /= self.scale
        np.maximum(values, -self.clip, out=values)
        return np.minimum(values, self.clip, out=values)

    def scales(self) -> Vector:
        """Spread of the features in their own units, shape (features,)."""
        return self.scale[: len(self.scale) - len(self.kept)]

    def effective(self) -> float:
        """How many independent frames the reference is worth."""
        return self.frames / correlation_time(self.rho)

    def grow(self, departures: Vector, spreads: Vector, frames: int) -> None:
        """Take in a block of `frames` quiet frames: how far its means lie from what was expected, and its variances,
        standardised.
        """
        share = frames / (self.frames + frames)
        variance = self.deviation**2
        change = share * (spreads - variance + departures**2 * (1.0 - share))
        variance += np.where(np.isnan(departures), 0.0, change)
        self.deviation = np.maximum(np.sqrt(variance), _LEAST)
        self.frames += frames

    def spread(self) -> Vector:
        """The deviation plus its own standard error: underestimated, it would raise the rate of false alarms."""
        count = self.effective() + self.lent if len(self.lent) else self.effective()
        error: Vector = np.sqrt(np.maximum(self.tail - 1.0, 0.5) / (4.0 * count))
        return self.deviation * (1.0 + error)


def moments(values: Vector, fallback: Vector) -> tuple[Vector, Vector]:
    """Mean and variance of each column, shape (channels,), of what is not NaN; a column of NaN alone has mean NaN.

    The same sums in the same order as `np.nanmean` and `np.nanvar`, which take ten times as long where nothing is NaN.
    """
    missing = np.isnan(values)
    if not missing.any():
        means = np.add.reduce(values, axis=0) / len(values)
        deviations = values - means
        return means, np.add.reduce(deviations * deviations, axis=0) / len(values)
    with np.errstate(all="ignore"):
        absent = missing.all(axis=0)
        values[:, absent] = fallback[absent]
        means, spreads = np.nanmean(values, axis=0), np.nanvar(values, axis=0)
    means[absent] = np.nan
    return means, spreads


def learn(
    rows: Vector,
    numbers: NDArray[np.int64],
    classes: tuple[str, ...],
    policy: ChannelPolicy,
    learning: ReferencePolicy,
    pooled: Vector | None,
) -> Reference | None:
    """A reference from frames of shape (n, features), or None while they are too few for how alike they are.

    `pooled` is the mean spread of the model's other cameras in the channels' own units, shape (features,), or None.
    """
    if len(rows) < learning.frames:
        return None
    reference = _measure(rows, *_common(numbers, classes, policy.class_share_min), classes, policy, learning, pooled)
    enough = reference.effective() >= learning.effective or len(rows) >= learning.frames_max
    return reference if enough else None


def learn_from_few(rows: Vector, policy: ChannelPolicy, learning: ReferencePolicy, pooled: Vector) -> Reference:
    """A reference of the features alone, from frames that would not be enough without what other cameras tell; of a
    class that is seen once in twenty frames too few have come.
    """
    return _measure(rows, [], np.zeros((len(rows), 0)), (), policy, learning, pooled)


def _measure(
    rows: Vector,
    kept: list[int],
    shares: Vector,
    classes: tuple[str, ...],
    policy: ChannelPolicy,
    learning: ReferencePolicy,
    pooled: Vector | None,
) -> Reference:
    """What `rows`, shape (n, features), and the indicators of the classes `kept`, shape (n, classes), are like."""
    with np.errstate(all="ignore"):
        present = np.isfinite(rows).mean(axis=0) > 0.5
        full = np.concatenate([np.where(present[None, :], rows, 0.0), shares], axis=1)
        centre, spread = np.nanmean(full, axis=0), np.nanstd(full, axis=0)
    width, features = rows.shape[1], names(rows.shape[1])
    spread[:width] = _pool(spread[:width], pooled, len(rows), learning.pooled)
    floor = np.where(
        [n.startswith("pixels.") for n in features] + [True] * len(kept), _FLOOR, _FLOOR * np.abs(centre) + 1e-6
    )
    scale = np.maximum(spread, floor)
    values = np.clip((full - centre) / scale, -policy.clip, policy.clip)
    rho = _correlation(values)
    return Reference(
        names=(*features, *(f"class.{classes[i]}" for i in kept)),
        kept=np.array(kept, dtype=np.int64),
        centre=centre,
        scale=scale,
        mean=np.nanmean(values, axis=0),
        deviation=np.maximum(np.nanstd(values, axis=0), _LEAST),
        skew=_moment(values, 3),
        tail=_moment(values, 4),
        active=np.concatenate([present, np.ones(len(kept), dtype=np.bool_)]),
        rho=rho,
        frames=len(rows),
        clip=policy.clip,
    )


def _moment(values: Vector, order: int) -> Vector:
    """Standardised central moment of each column, shape (channels,)."""
    with np.errstate(all="ignore"):
        centred = values - np.nanmean(values, axis=0)
        moment = np.nanmean(centred**order, axis=0) / np.nanstd(values, axis=0) ** order
    return np.where(np.isfinite(moment), moment, 3.0 if order == 4 else 0.0)


def _common(numbers: NDArray[np.int64], classes: tuple[str, ...], least: float) -> tuple[list[int], Vector]:
    """The numbers of the classes frequent enough for a channel, and their indicators, shape (n, classes)."""
    indicator = (numbers[:, None] == np.arange(len(classes))[None, :]).astype(np.float64)
    frequent = [i for i in range(len(classes)) if least <= indicator[:, i].mean() <= 1.0 - least]
    return frequent, indicator[:, frequent]


def _pool(own: Vector, others: Vector | None, frames: int, weight: int) -> Vector:
    if others is None:
        return own
    known = np.isfinite(others) & (others > 0.0)
    mixed = np.sqrt((frames * own**2 + weight * np.where(known, others, 0.0) ** 2) / (frames + weight))
    return np.where(known, mixed, own)


def _correlation(values: Vector) -> float:
    """Lag-1 correlation of consecutive frames, the 75th percentile over channels, corrected for its small-sample
    bias.
    """
    centred = np.nan_to_num(values - np.nanmean(values, axis=0))
    power = (centred**2).sum(axis=0)
    moving = power > 1e-9
    if not moving.any():
        return 0.0
    lag = (centred[1:] * centred[:-1]).sum(axis=0)[moving] / power[moving]
    rho = float(np.percentile(lag, 75))
    return float(np.clip(rho + (1.0 + 3.0 * rho) / len(values), 0.0, 0.98))
