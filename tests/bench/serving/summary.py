"""Medians over the rounds, and paired ratios: one server's figure over another's of the same round."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tests.bench.serving.images import ImageSample
from tests.bench.serving.rounds import Case, Sample


@dataclass(frozen=True, slots=True)
class Spread:
    """The median, and the quartiles beside it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of one value or more."""
        found = sorted(values)
        if len(found) == 1:
            return cls(found[0], found[0], found[0])
        low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass(frozen=True, slots=True)
class Figures:
    """All samples of a run."""

    samples: Sequence[Sample]
    images: Sequence[ImageSample]

    def cases(self) -> list[Case]:
        """In the order measured."""
        return list(dict.fromkeys(one.case for one in self.samples))

    def servers(self, case: Case) -> list[str]:
        """Who is in it, sorted by name."""
        return sorted({one.server for one in self.samples if one.case == case})

    def spread(self, server: str, case: Case, read: Callable[[Sample], float]) -> Spread | None:
        """Of one figure; None when it was not measured."""
        values = [read(one) for one in self.samples if (one.server, one.case) == (server, case)]
        return Spread.of(values) if values else None

    def ratio(self, server: str, other: str, case: Case) -> Spread | None:
        """Rates, paired by round; None when there is no common round."""
        rates = {(one.server, one.turn): one.rate for one in self.samples if one.case == case}
        turns = {turn for _, turn in rates}
        pairs = [(rates.get((server, turn)), rates.get((other, turn))) for turn in turns]
        values = [ours / theirs for ours, theirs in pairs if ours and theirs]
        return Spread.of(values) if values else None

    def image(self, server: str, model: str, road: str) -> Spread | None:
        """Milliseconds of a call, p50 of each round."""
        values = [one.p50_ms for one in self.images if (one.server, one.model, one.road) == (server, model, road)]
        return Spread.of(values) if values else None

    def image_ratio(self, server: str, other: str, model: str, road: str) -> Spread | None:
        """Times, paired by round."""
        found = {(one.server, one.turn): one.p50_ms for one in self.images if (one.model, one.road) == (model, road)}
        turns = {turn for _, turn in found}
        pairs = [(found.get((server, turn)), found.get((other, turn))) for turn in turns]
        values = [ours / theirs for ours, theirs in pairs if ours and theirs]
        return Spread.of(values) if values else None
