"""An anytime-valid test of a bounded mean by betting: it may be looked at after every outcome, stopped at any time.

Against H0 "the mean is at most m", wealth prod(1 + bet * (d - m) / (1 + |m|)) is a nonnegative supermartingale for
every bet in (0, 1), and so is the average over several bets; by Ville's inequality it reaches 1 / alpha with
probability at most alpha, ever. Waudby-Smith & Ramdas (arXiv 2010.09686) for bounded means, Choe & Ramdas (2110.00115)
for paired differences of losses, Lindon & Malek (2011.03567) for experiments that are watched.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, log1p
from typing import Final

BETS: Final = (0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7, 0.9)
_LARGEST: Final = 700.0  # exp of more is not a float.


@dataclass(slots=True)
class BettingTest:
    """One test; `sign` 1 holds against H0 "mean <= limit", -1 against "mean >= limit". Once it has rejected, it has."""

    name: str
    limit: float
    sign: int
    alpha: float
    wealth: tuple[float, ...] = (0.0,) * len(BETS)  # logarithms, one a bet
    total: float = 0.0
    weight: float = 0.0
    outcomes: int = 0
    rejected: bool = False

    def update(self, outcome: float, weight: float = 1.0) -> None:
        """Take an outcome in [-1, 1]; a weight in [0, 1] that was known before the outcome shrinks the bet."""
        gain = self.sign * weight * (outcome - self.limit) / (1.0 + abs(self.limit))
        self.wealth = tuple(w + log1p(bet * gain) for w, bet in zip(self.wealth, BETS, strict=True))
        self.total += weight * outcome
        self.weight += weight
        self.outcomes += 1
        threshold = -log(self.alpha) if self.alpha > 0.0 else inf
        self.rejected = self.rejected or self.log_e() >= threshold

    def log_e(self) -> float:
        """Logarithm of the e-value: of the average wealth over the bets."""
        top = max(self.wealth)
        return top + log(sum(exp(w - top) for w in self.wealth) / len(self.wealth))

    def e_value(self) -> float:
        """The e-value, at most exp(700)."""
        return exp(min(self.log_e(), _LARGEST))

    def mean(self) -> float:
        """Weighted mean outcome so far, 0 without one."""
        return self.total / self.weight if self.weight else 0.0
