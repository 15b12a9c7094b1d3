"""What every detector is to the monitor: something that watches streams of numbers and knows when they have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


def chosen(name: str, defaults: Mapping[str, float], options: Mapping[str, float]) -> dict[str, float]:
    """`defaults` with `options` in their place. Raises ValueError for an option that has no default."""
    if unknown := sorted(set(options) - set(defaults)):
        raise ValueError(f"detector {name!r} has no option {unknown[0]!r}; it has {', '.join(sorted(defaults))}")
    return {**defaults, **options}


class Detector(Protocol):
    """Watches `width` streams side by side.

    An alarm stays until `reset`; a value of NaN leaves its stream as it was. `dump` gives plain values and arrays from
    which `load` builds a detector that goes on exactly alike.
    """

    name: str

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
