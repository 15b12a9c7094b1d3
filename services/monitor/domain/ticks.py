"""What is judged when is decided by ticks, and ticks travel in a topic: so a replay judges the same again, to the bit.

A tick names how far each partition had been read, and a watermark of event time. It releases the records before those
ends whose time is not after the watermark, in the order (event time, `ce_id`, partition, offset). That is a function of
the records and the ticks alone, whatever order partitions were read in and however often a reader died.

What waits is no part of the state: its offsets are not committed, and it is read again. What was released already is
recognised by the last tick: it lies before its ends and not after its watermark.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Final, NamedTuple

from services.monitor.domain.inputs import Input
from services.monitor.domain.quality.truth import Truth

_ORDER: Final = itemgetter(0, 1, 2, 3)


class Arrival(NamedTuple):
    """A record as it was read; `source` is topic/partition. `item` or `truth` is None where it says nothing to it;
    `holds` where its source holds others back when it is slow.
    """

    at: float
    ce_id: str
    source: str
    offset: int
    item: Input | None
    truth: Truth | None = None
    holds: bool = True


def exact(at: float) -> float:
    """A time to the microsecond, as it is after it has travelled in a message."""
    micros = round(at * 1e6)
    return micros // 1_000_000 + micros % 1_000_000 / 1e6


@dataclass(frozen=True, slots=True)
class Tick:
    """All records before `ends` (the next offset of each source) up to `watermark` (seconds since 1970) are judged."""

    watermark: float
    ends: Mapping[str, int]


@dataclass(slots=True)
class Gate:
    """Holds records back until a tick releases them.

    The last tick is the state; `read`, what waits, and ticks that wait for records are not.
    """

    watermark: float = 0.0
    ends: dict[str, int] = field(default_factory=dict)
    late: int = 0
    read: dict[str, int] = field(default_factory=dict)
    waiting: list[Arrival] = field(default_factory=list)
    pending: deque[tuple[int, Tick]] = field(default_factory=deque)

    def add(self, arrivals: Iterable[Arrival]) -> None:
        """Take records, each source's in order; what was judged before is dropped."""
        read, ends, watermark, waiting = self.read, self.ends, self.watermark, self.waiting
        for arrival in arrivals:
            read[arrival.source] = arrival.offset + 1
            if arrival.at > watermark or arrival.offset >= ends.get(arrival.source, 0):
                waiting.append(arrival)

    def tick(self, offset: int, tick: Tick) -> None:
        """Take a tick, which stands at that offset of its topic; it takes effect when all that it counts on is read."""
        self.pending.append((offset, tick))

    def release(self) -> Iterator[Sequence[Arrival]]:
        """What each tick that can take effect lets through."""
        while self.pending and self._is_read(self.pending[0][1]):
            _, tick = self.pending.popleft()
            if not self._is_old(tick):
                yield self._apply(tick)

    def _is_read(self, tick: Tick) -> bool:
        return all(self.read.get(s, 0) >= end or self.ends.get(s, 0) >= end for s, end in tick.ends.items())

    def _is_old(self, tick: Tick) -> bool:
        """Its own ticks come back to who says them."""
        return tick.watermark <= self.watermark and all(end <= self.ends.get(s, 0) for s, end in tick.ends.items())

    def _apply(self, tick: Tick) -> Sequence[Arrival]:
        before = self.watermark
        self.watermark = max(before, tick.watermark)
        for source, end in tick.ends.items():
            self.ends[source] = max(self.ends.get(source, 0), end)
        ends, until = self.ends, self.watermark
        released: list[Arrival] = []
        rest: list[Arrival] = []
        for arrival in self.waiting:
            let = arrival.at <= until and arrival.offset < ends.get(arrival.source, 0)
            (released if let else rest).append(arrival)
        self.waiting = rest
        released.sort(key=_ORDER)
        self.late += sum(arrival.at <= before for arrival in released)
        return released

    def unread(self) -> dict[str, int]:
        """The next offset of each source to go on from after a restart: the first that waits, or that was not read."""
        offsets = dict(self.read)
        for arrival in self.waiting:
            if arrival.offset < offsets[arrival.source]:
                offsets[arrival.source] = arrival.offset
        return offsets

    def moved(self) -> dict[str, int]:
        """The ends of a tick at what is read now: of sources that have been read further than at the last tick."""
        return {s: end for s, end in self.read.items() if end > self.ends.get(s, 0)}
