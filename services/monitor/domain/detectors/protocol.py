"""What every detector is to the monitor: something that watches streams of numbers and knows when they have moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


class Detector(Protocol):
    """Watches `width` streams side by side.

    An alarm stays until `reset`; a value of NaN leaves its stream as it was. `dump` gives plain values and arrays from
    which `load` builds a detector that goes on exactly alike.
    """

    name: str

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
