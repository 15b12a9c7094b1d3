"""Puts the records of many partitions into one order, (event time, ce_id), so that a replay gives the same verdicts.

A partition is trusted to be in order up to `lateness`; the slowest one holds the others back until it is `idle`
seconds of
event time behind, and so is a partition that has not been seen yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from services.monitor.domain.events import Input


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
            self.first = min(self.first, item.at) if self.first else item.at
            self.newest = max(self.newest, item.at)
            if holds:
                self.fronts[source] = max(self.fronts.get(source, 0.0), item.at)
            self.late += item.at < self.released
            self.arrivals += 1
            heappush(self.waiting, (item.at, item.ce_id, self.arrivals, item))

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
