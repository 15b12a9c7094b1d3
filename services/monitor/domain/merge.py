"""Puts the records of many partitions into one order, (event time, ce_id), so that a replay gives the same verdicts.

A partition is trusted to be in order up to `lateness`; the slowest one holds the others back until it is `idle` seconds
of event time behind, and so is a partition that has not been seen yet. On the bus it only proposes when; `ticks`
decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from services.monitor.domain.inputs import Input


@dataclass(slots=True)
class Merger:
    """Holds inputs back until no earlier one can be expected; what comes later still is let through at once,
    counted.
    """

    lateness: float
    idle: float
    first: float = 0.0
    newest: float = 0.0
    released: float = 0.0
    late: int = 0
    fronts: dict[str, float] = field(default_factory=dict)
    waiting: list[tuple[float, str, int, Input]] = field(default_factory=list)
    arrivals: int = 0

    def add(self, items: Iterable[tuple[str, bool, Input]]) -> None:
        """Take (partition, whether the partition holds others back, input) in the order they were read."""
        for source, holds, item in items:
            self.note(source, holds, item.at)
            self.late += item.at < self.released
            self.arrivals += 1
            heappush(self.waiting, (item.at, item.ce_id, self.arrivals, item))

    def note(self, source: str, holds: bool, at: float) -> None:
        """A partition has been read up to that time."""
        self.first = min(self.first, at) if self.first else at
        if at > self.newest:
            self.newest = at
        if holds and at > self.fronts.get(source, 0.0):
            self.fronts[source] = at

    def watermark(self) -> float:
        """Event time up to which everything is here, as far as one can know."""
        horizon = self.newest - self.idle
        if horizon < self.first:
            return self.first - self.lateness
        active = [front for front in self.fronts.values() if front >= horizon]
        return min(active, default=self.newest) - self.lateness

    def release(self) -> Sequence[Input]:
        """Everything up to the watermark, in order."""
        return self._take(self.watermark())

    def drain(self) -> Sequence[Input]:
        """Everything, in order: nothing more is coming for now."""
        return self._take(self.newest)

    def _take(self, until: float) -> Sequence[Input]:
        taken: list[Input] = []
        while self.waiting and self.waiting[0][0] <= until:
            taken.append(heappop(self.waiting)[3])
        self.released = max(self.released, until)
        return taken

    def __post_init__(self) -> None:
        heapify(self.waiting)
