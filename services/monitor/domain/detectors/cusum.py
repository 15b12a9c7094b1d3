"""Two-sided CUSUM for standardised streams (Page, Biometrika 1954), a whole bank of them in a few array operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np

from services.monitor.domain.detectors.protocol import Flags, Vector


class CusumBank:
    """Sums what exceeds the allowance in either direction, up to twice the limit so that it can come down again;
    thresholds come from `runlength.threshold`.
    """

    name = "cusum"

    def __init__(self, allowance: Vector, limit: Vector) -> None:
        """`allowance` and `limit`, shape (width,), are in standard deviations of a step."""
        self.allowance = allowance
        self.limit = limit
        self.up = np.zeros(len(limit))
        self.down = np.zeros(len(limit))
        self.fired = np.zeros(len(limit), dtype=np.bool_)

    def update(self, values: Vector) -> None:
        """Take one standardised step of each stream."""
        step = np.where(np.isnan(values), 0.0, values)
        allowance = np.where(np.isnan(values), 0.0, self.allowance)
        np.clip(self.up + step - allowance, 0.0, 2.0 * self.limit, out=self.up)
        np.clip(self.down - step - allowance, 0.0, 2.0 * self.limit, out=self.down)
        np.logical_or(self.fired, self.statistic() >= self.limit, out=self.fired)

    def statistic(self) -> Vector:
        """The larger of both sums."""
        return np.maximum(self.up, self.down)

    def threshold(self) -> Vector:
        """The limits."""
        return self.limit

    def alarmed(self) -> Flags:
        """Streams that have passed their limit."""
        return self.fired

    def reset(self) -> None:
        """Back to zero."""
        self.up[:] = 0.0
        self.down[:] = 0.0
        self.fired[:] = False

    def dump(self) -> dict[str, Any]:
        """Arrays by name."""
        return {k: getattr(self, k) for k in ("allowance", "limit", "up", "down", "fired")}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """From `dump`."""
        bank = cls(state["allowance"], state["limit"])
        bank.up, bank.down, bank.fired = state["up"], state["down"], state["fired"]
        return bank
