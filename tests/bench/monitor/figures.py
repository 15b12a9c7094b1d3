"""What is said about a measured rate or median: exact intervals, as rare events and few seeds need them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, lgamma, log
from pathlib import Path
from typing import Any, Final

from services.monitor.domain.risk import wilson

FOLDER: Final = Path(".irisloop/bench")


def poisson_upper(count: int, confidence: float = 0.95) -> float:
    """The largest mean under which `count` events or fewer are not rarer than 1 - `confidence` (Garwood, Biometrika
    1936, one-sided).
    """
    low, high = 0.0, 10.0 * (count + 4.0)
    for _ in range(80):
        middle = (low + high) / 2.0
        below = sum(exp(k * log(middle) - middle - lgamma(k + 1)) for k in range(count + 1))
        low, high = (middle, high) if below > 1.0 - confidence else (low, middle)
    return high


def share_interval(hits: int, of: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson, J. Am. Stat. Assoc. 1927)."""
    return wilson(hits, of, 1.96)


@dataclass(frozen=True, slots=True)
class Median:
    """The median of delays with its 95 % interval by order statistics; what never came counts as infinite."""

    value: float | None
    low: float | None
    high: float | None
    runs: int
    missed: int

    @classmethod
    def of(cls, delays: Sequence[float | None]) -> Median:
        """`None` is a change that was not found."""
        found = sorted(d for d in delays if d is not None)
        runs = len(delays)
        reach = 0.98 * runs**0.5

        def at(place: float) -> float | None:
            index = max(min(round(place), runs - 1), 0)
            return found[index] if index < len(found) else None

        return cls(at((runs - 1) / 2), at(runs / 2 - reach), at(runs / 2 + reach), runs, runs - len(found))

    def __str__(self) -> str:
        """As tables show it."""
        if not self.runs:
            return ""
        if self.value is None:
            return f"not found in {self.missed} of {self.runs}"
        high = "?" if self.high is None else f"{self.high:,.0f}"
        missed = f", {self.missed / self.runs:.0%} missed" if self.missed else ""
        return f"{self.value:,.0f} ({self.low:,.0f}-{high}{missed})"


def read(name: str) -> dict[str, Any]:
    """What was measured last, by part; nothing at first."""
    file = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return found


def write(name: str, figures: Mapping[str, Any]) -> None:
    """Figures by part as JSON, to `.irisloop/bench/<name>.json`; parts not measured this time stay."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**read(name), **figures}, indent=2)
    (FOLDER / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, numbers to the right."""
    lines = [f"| {' | '.join(head)} |", f"|---{'|---:' * (len(head) - 1)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)]) + "\n"
