"""A test of a mean that may be looked at after every outcome, and stopped at any time, without losing its error rate.

Whoever bets against the hypothesis cannot be expected to grow rich while it is true: the capital is an e-process, and
by Ville's inequality it ever reaches 1/alpha with a chance of alpha at most. Bets of several sizes are averaged, so
that small and large differences are found (Waudby-Smith and Ramdas, arXiv 2010.09686; of paired scores: Choe and
Ramdas, arXiv 2110.00115; of counts: Lindon and Malek, arXiv 2011.03567).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import exp, log, log1p
from typing import Final

BETS: Final = (0.03, 0.1, 0.25, 0.5, 0.9)
"""Shares of the capital."""
LARGEST: Final = 700.0
"""Of a logarithm whose exponential is a float still."""


@dataclass(slots=True)
class Bet:
    """Against "the mean outcome is at most `limit`" (`side` 1), or "is at least" (`side` -1).

    Outcomes are -1 to 1, and must be picked, and weighted, without a look at their values.
    """

    limit: float
    alpha: float
    side: int = 1
    logs: list[float] = field(default_factory=lambda: [0.0] * len(BETS))
    outcomes: int = 0
    total: float = 0.0
    rejected: bool = False
    """The capital has been 1/alpha once."""

    def take(self, outcome: float, weight: float = 1.0) -> None:
        """One more; `weight` 0 to 1 scales the stake, as its chance of being picked wants it."""
        self.outcomes += 1
        self.total += outcome
        gain = self.side * weight * (outcome - self.limit) / (1.0 + abs(self.limit))
        self.logs = [held + log1p(bet * gain) for held, bet in zip(self.logs, BETS, strict=True)]
        self.rejected = self.rejected or self.capital() >= 1.0 / self.alpha

    def capital(self) -> float:
        """The e-value now."""
        top = max(self.logs)
        return exp(min(top + log(sum(exp(one - top) for one in self.logs) / len(BETS)), LARGEST))

    @property
    def mean(self) -> float:
        """Of the outcomes, unweighted; 0 before the first."""
        return self.total / self.outcomes if self.outcomes else 0.0
