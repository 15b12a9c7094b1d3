"""What every detector is to the monitor: something that watches streams of numbers and knows when they have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final, Protocol, Self, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]

CHANNELS: Final = "channels"
"""Standardised block means of a camera's channels, side by side: about 0 with deviation 1 while nothing changes."""
LABELS: Final = "labels"
"""One stream of 0 and 1: is the label another one than the prediction?"""


def chosen(name: str, defaults: Mapping[str, float], options: Mapping[str, float]) -> dict[str, float]:
    """`defaults` with `options` in their place. Raises ValueError for an option that has no default."""
    if unknown := sorted(set(options) - set(defaults)):
        raise ValueError(f"detector {name!r} has no option {unknown[0]!r}; it has {', '.join(sorted(defaults))}")
    return {**defaults, **options}


class Detector(Protocol):
    """Watches `width` streams side by side.

    An alarm stays until `reset`; a value of NaN leaves its stream as it was. `dump` gives plain values and arrays from
    which `load` builds a detector that goes on exactly alike.

    `name` is what a policy calls it and its entry point is called. `fits` are the sections of a policy that can name
    it, `CHANNELS`, `LABELS` or both. `told` are the options that the monitor fills in where the policy does not:
    `run_length` (steps between two false alarms of all streams together) and, of labels, `baseline` (how often 1 is
    expected, in 0..1). A detector that is told the baseline alarms for a rate above it alone; others may alarm for
    any change, which then counts where the labels got worse.
    """

    name: str
    fits: ClassVar[tuple[str, ...]]
    told: ClassVar[tuple[str, ...]]

    @classmethod
    def make(cls, width: int, options: Mapping[str, float]) -> Self:
        """A new one for so many streams. Raises ValueError for an option that it does not have."""

    def update(self, values: Vector) -> None:
        """Take the next value of each stream, shape (width,)."""

    def statistic(self) -> Vector:
        """How far each stream has come, shape (width,); only comparable with `threshold`."""

    def threshold(self) -> Vector:
        """Where each stream alarms, shape (width,)."""

    def alarmed(self) -> Flags:
        """Which streams have alarmed since the last reset, shape (width,)."""

    def reset(self) -> None:
        """Begin anew."""

    def dump(self) -> dict[str, Any]:
        """The state as plain values."""

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """The inverse of `dump`."""


@runtime_checkable
class Arming(Protocol):
    """A detector of channels whose thresholds the monitor derives, from what is known of the reference by now."""

    def arm(self, allowance: Vector, limit: Vector) -> None:
        """Other allowances and limits from now on, both of shape (rules, width), in deviations of a step."""


@runtime_checkable
class Basing(Protocol):
    """A detector of labels that learns when the expected rate is known better."""

    def rebase(self, baseline: float) -> None:
        """Go on from this rate of 1, in 0..1; what was gathered is kept."""
