"""Shares with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z95 = 1.959964


@dataclass(frozen=True, slots=True)
class Share:
    """`right` of `count`; `low` and `high` are the 95 % Wilson interval (Wilson 1927)."""

    right: int
    count: int

    @property
    def value(self) -> float:
        """The share, 0 when nothing was counted."""
        return self.right / self.count if self.count else 0.0

    @property
    def low(self) -> float:
        """Lower bound."""
        return self._bound(-1.0)

    @property
    def high(self) -> float:
        """Upper bound."""
        return self._bound(1.0)

    def _bound(self, sign: float) -> float:
        if not self.count:
            return 0.0
        n, p, z = self.count, self.value, Z95
        spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (p + z * z / (2 * n) + sign * spread) / (1 + z * z / n)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}] on {self.count}"
