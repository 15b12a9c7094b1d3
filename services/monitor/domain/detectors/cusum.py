"""Two-sided CUSUM for standardised streams (Page, Biometrika 1954), a whole bank of them in a few array operations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np

from services.monitor.domain.detectors.protocol import CHANNELS, Flags, Vector, chosen
from services.monitor.domain.runlength import threshold


class CusumBank:
    """Sums what exceeds the allowance in either direction, up to twice the limit so that it can come down again;
    thresholds come from `runlength.threshold`.

    Each stream may be watched by several rules side by side, a small allowance for small shifts and a large one for
    large shifts (Lorden, Ann. Math. Stat. 1971); it alarms when one of them does, so each must be given its part of the
    rate of false alarms.
    """

    name = "cusum"
    fits: ClassVar[tuple[str, ...]] = (CHANNELS,)
    told: ClassVar[tuple[str, ...]] = ("run_length",)

    def __init__(self, allowance: Vector, limit: Vector) -> None:
        """`allowance` and `limit`, shape (width,) or (rules, width), are in standard deviations of a step."""
        self.up: Vector = np.zeros(np.atleast_2d(limit).shape)
        self.down: Vector = np.zeros(np.atleast_2d(limit).shape)
        self.fired = np.zeros(np.shape(limit)[-1], dtype=np.bool_)
        self.arm(allowance, limit)

    @classmethod
    def make(cls, width: int, options: Mapping[str, float]) -> Self:
        """Options: `run_length`, steps between two false alarms of all streams together (default 100,000), and
        `allowance` (default 0.5). Raises ValueError for others.
        """
        given = chosen(cls.name, {"run_length": 1e5, "allowance": 0.5}, options)
        limit = threshold(given["allowance"], 0.0, 2.0 * width * given["run_length"])
        return cls(np.full(width, given["allowance"]), np.full(width, limit))

    def arm(self, allowance: Vector, limit: Vector) -> None:
        """Other allowances and limits from now on; a rule that is new begins with the first one's sums."""
        self.allowance: Vector = np.atleast_2d(allowance)
        self.limit: Vector = np.atleast_2d(limit)
        if self.up.shape != self.limit.shape:
            self.up = np.repeat(self.up[:1], len(self.limit), axis=0)
            self.down = np.repeat(self.down[:1], len(self.limit), axis=0)

    def update(self, values: Vector) -> None:
        """Take one standardised step of each stream."""
        absent = np.isnan(values)
        step = np.where(absent, 0.0, values)
        allowance = np.where(absent, 0.0, self.allowance)
        np.clip(self.up + step - allowance, 0.0, 2.0 * self.limit, out=self.up)
        np.clip(self.down - step - allowance, 0.0, 2.0 * self.limit, out=self.down)
        np.logical_or(self.fired, self.reach() >= 1.0, out=self.fired)

    def reach(self) -> Vector:
        """The largest sum of each stream as a share of its limit, shape (width,)."""
        share: Vector = (np.maximum(self.up, self.down) / self.limit).max(axis=0)
        return share

    def statistic(self) -> Vector:
        """The largest sum, in units of the first rule."""
        sums: Vector = self.reach() * self.limit[0]
        return sums

    def threshold(self) -> Vector:
        """The first rule's limits."""
        limits: Vector = self.limit[0]
        return limits

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
        bank.up, bank.down, bank.fired = np.atleast_2d(state["up"]), np.atleast_2d(state["down"]), state["fired"]
        return bank
