"""How much each version predicted and how sure it was, by camera and hour: what labels are a sample of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from services.monitor.domain.inputs import Seen
from services.monitor.domain.quality.book import Cell
from services.monitor.domain.quality.tally import UNIT

HOURS: Final = 400
"""Hours of capture kept, the newest ones."""
_CELLS: Final = 50_000
_SECONDS: Final = 3600.0


@dataclass(slots=True)
class Traffic:
    """Predictions of the newest hours: [number, sum of top scores in 2^-60] by cell; a failed one has score 0.

    At most 50,000 cells: whole hours go, the oldest first, and are not taken again.
    """

    hours: dict[int, dict[Cell, list[int]]] = field(default_factory=dict)
    newest: int = 0
    floor: int = 0
    cells: int = 0
    changes: dict[int, int] = field(default_factory=dict)

    def see(self, item: Seen) -> None:
        """Count a prediction that was not heard before; one of an hour that was let go is not counted."""
        hour = int(item.at // _SECONDS)
        if hour < max(self.floor, self.newest - HOURS + 1):
            return
        cell = Cell(item.model, item.version, item.role, item.camera_id, hour, False)
        self.add(cell, 1, int(_score(item) * UNIT))
        if hour > self.newest or self.cells > _CELLS:
            self.newest = max(self.newest, hour)
            self._let_go()

    def add(self, cell: Cell, number: int, scores: int) -> None:
        """Add to a cell."""
        counts = self.hours.setdefault(cell.hour, {})
        if cell not in counts:
            counts[cell] = [0, 0]
            self.cells += 1
        counts[cell][0] += number
        counts[cell][1] += scores
        self.changes[cell.hour] = self.changes.get(cell.hour, 0) + 1

    def chosen(self, chosen: Callable[[Cell], bool]) -> dict[Cell, tuple[int, int]]:
        """(number, sum of top scores) of the chosen cells."""
        listed = ((cell, counts) for hour in self.hours.values() for cell, counts in hour.items() if chosen(cell))
        return {cell: (counts[0], counts[1]) for cell, counts in listed}

    def _let_go(self) -> None:
        for hour in sorted(self.hours):
            if hour > self.newest - HOURS and (self.cells <= _CELLS or hour == self.newest):
                return
            self.cells -= len(self.hours.pop(hour))
            self.changes.pop(hour, None)
            self.floor = max(self.floor, hour + 1)


def _score(item: Seen) -> float:
    return min(max(item.score, 0.0), 1.0) if isfinite(item.score) and not item.failed else 0.0
