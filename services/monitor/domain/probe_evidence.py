"""How strongly answers that were given again speak for a change, and for none: evidence that may be looked at after
every answer, and exact chances once all are in.

Evidence is a ratio by universal inference (Wasserman, Ramdas & Balakrishnan, PNAS 117, 2020, section 7): the likelihood
of the answers so far, averaged over alternatives by a fixed prior, over the greatest that the null allows. For each law
of the null the first over that law's own likelihood is a nonnegative martingale, so by Ville's inequality the ratio
reaches 1 / a with probability at most a, ever. Chances are those of Fisher's exact test (J. R. Stat. Soc. 98, 1935) and
of the binomial test: more powerful, but of one look.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb, exp, lgamma, log
from typing import Final

MOST: Final = 0.5
"""Classes have moved when most of their old answers are other now, as when two change places."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Of `total` answers given again, `changed` are other than before."""

    changed: int = 0
    total: int = 0

    @classmethod
    def of(cls, changed: Iterable[bool]) -> Changes:
        """Count."""
        listed = list(changed)
        return cls(sum(listed), len(listed))

    @property
    def share(self) -> float:
        """Changed ones, 0..1; 0 without answers."""
        return self.changed / self.total if self.total else 0.0

    def plus(self, other: Changes) -> Changes:
        """Both together."""
        return Changes(self.changed + other.changed, self.total + other.total)


def exceeds(own: Changes, others: Changes, usual: float) -> float:
    """Logarithm of the evidence that `own` answers change more often than `usual` (0..0.5) and than `others` do.

    Alternatives: of the own at least half change, uniformly; of the others few, by Beta(1, 1 / usual - 1), whose mean
    is `usual`.
    """
    return _log_most(own) + _log_few(others, usual) - _log_no_more(own, others, usual)


def deviates(own: Sequence[Changes], others: Sequence[Changes], usual: float) -> float:
    """Logarithm of the evidence that somebody's answers about suspected (first) or other classes (second) change more
    often than `usual` and than the others' answers do. Alternatives, as likely: most of theirs change; only those about
    the suspected classes; or most change, and those of the others about the suspected classes, too.
    """
    about, both = exceeds(own[0], others[0], usual), exceeds(own[1], others[1], usual)
    only = _log_few(own[1], usual) + _log_few(others[1], usual) - _log_no_more(own[1], others[1], usual)
    moved = _log_most(own[0]) + _log_most(others[0]) - _log_no_more(own[0], others[0], usual)
    return log((exp(about + both) + exp(about + only) + exp(moved + both)) / 3.0)


def exceeds_usual(own: Changes, usual: float) -> float:
    """The same where there is nothing to compare them with."""
    return _log_most(own) - _log_likelihood(own, min(own.share, usual))


def stands(about: Changes, usual: float) -> float:
    """Logarithm of the evidence that less than half of the answers change; the alternative is that few do."""
    return _log_few(about, usual) - _log_likelihood(about, max(about.share, MOST))


def chance_of_more(own: Changes, others: Changes, usual: float) -> float:
    """How probable so many changed answers among the own are, at most: were their share `usual`, and were all that
    changed spread over own and others by chance.
    """
    binomial = sum(_binomial(own.total, k, usual) for k in range(own.changed, own.total + 1))
    if not others.total:
        return binomial
    both = own.plus(others)
    ways = range(own.changed, min(own.total, both.changed) + 1)
    fisher = sum(comb(own.total, k) * comb(others.total, both.changed - k) for k in ways)
    return max(binomial, fisher / comb(both.total, both.changed))


def chance_of_less(about: Changes) -> float:
    """How probable so few changed answers are at most, were half or more of them to change."""
    return sum(_binomial(about.total, k, MOST) for k in range(about.changed + 1))


def _log_no_more(own: Changes, others: Changes, usual: float) -> float:
    """The greatest likelihood where the own answers change no more often than `usual`, or than the others do."""
    if own.share <= max(usual, others.share):
        return _log_best(own) + _log_best(others)
    return max(_log_likelihood(own, usual) + _log_best(others), _log_best(own.plus(others)))


def _binomial(n: int, k: int, rate: float) -> float:
    return float(comb(n, k) * rate**k * (1.0 - rate) ** (n - k))


def _log_most(of: Changes) -> float:
    """The likelihood averaged over rates uniform in [1/2, 1]."""
    n, k = of.total, of.changed
    above = sum(comb(n + 1, i) for i in range(k + 1)) / 2 ** (n + 1)  # Beta(k + 1, n - k + 1) above one half
    return log(2.0) + _log_beta(k + 1, n - k + 1) + log(above)


def _log_few(of: Changes, usual: float) -> float:
    """The likelihood averaged over rates by Beta(1, 1 / usual - 1)."""
    rest = 1.0 / usual - 1.0
    return _log_beta(1 + of.changed, rest + of.total - of.changed) - _log_beta(1, rest)


def _log_best(of: Changes) -> float:
    return _log_likelihood(of, of.share)


def _log_likelihood(of: Changes, rate: float) -> float:
    same = of.total - of.changed
    return (of.changed * log(rate) if of.changed else 0.0) + (same * log(1.0 - rate) if same else 0.0)


def _log_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)
