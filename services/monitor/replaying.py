"""Recorded inputs through an engine as the judge took them: by the recorded ticks, by its own where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Final

from irisloop.topics import CLOCK_TICKED

from services.common.bus import Delivery
from services.common.bus.replaying import Stretch
from services.common.errors import InvalidMessage
from services.monitor import wire
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Finding
from services.monitor.domain.inputs import Input
from services.monitor.domain.ticks import Arrival
from services.monitor.inbound.stream import HANDLER, INPUTS, arrival_of

INPUT_NAMES: Final = frozenset(topic.name for topic in INPUTS)
_ASSUMED: Final = "assumed/0"
_AFTER: Final = 1e-6  # Seconds by which an assumed input comes after what is judged already.


@dataclass(slots=True)
class Replay:
    """An engine that hears records again. What waits at the end had not been judged; `finish` judges it only where no
    recorded tick says when.
    """

    engine: Engine
    ticking: bool
    """Whether ticks were recorded."""
    ticks_until: float = inf
    """The first offset of a tick that somebody else said and the judge had not heard."""
    until: float = inf
    """Inputs from this event time on are left out, in seconds since 1970."""
    begin: float = 0.0
    end: float = 0.0
    inputs: int = 0
    broken: int = 0

    @classmethod
    def of(cls, engine: Engine, stretches: Iterable[Stretch], until: float = inf) -> Replay:
        """By the ticks that these partitions hold, if they do."""
        ticking = any(one.topic == CLOCK_TICKED.name and one.end > one.begin for one in stretches)
        return cls(engine, ticking, until=until)

    @property
    def late(self) -> int:
        """Inputs that came when their time had been judged."""
        return self.engine.merger.late + self.engine.gate.late

    def hear(self, batch: Sequence[Delivery[Any]]) -> list[Finding]:
        """Take records of `INPUTS`, each partition's in order; records of other topics are passed over."""
        arrivals: list[Arrival] = []
        for delivery in batch:
            if delivery.record.topic not in INPUT_NAMES:
                continue
            self.inputs += 1
            try:
                if delivery.record.topic == CLOCK_TICKED.name:
                    self._tick(delivery)
                else:
                    arrivals.append(self._within(arrival_of(delivery)))
            except InvalidMessage:  # a dead letter then, and says nothing now
                self.broken += 1
        self.engine.hear(arrivals)
        return self._judged(everything=False)

    def finish(self) -> list[Finding]:
        """Nothing more was recorded."""
        return self._judged(everything=True)

    def assume(self, items: Iterable[Input]) -> None:
        """Take inputs that nobody recorded; each is judged in its time, or at once where that has passed."""
        watermark = self.engine.gate.watermark + _AFTER
        self.engine.gate.add(Arrival(max(item.at, watermark), item.ce_id, _ASSUMED, -1, item) for item in items)

    def _tick(self, delivery: Delivery[Any]) -> None:
        """The judge's own ticks had taken effect when they were written."""
        offset = delivery.record.offset
        if delivery.value.clock == HANDLER or offset < self.ticks_until:
            self.engine.gate.tick(offset, wire.tick_of(delivery.value))

    def _within(self, arrival: Arrival) -> Arrival:
        if arrival.at >= self.until:
            return arrival._replace(item=None, truth=None)
        if arrival.item is not None:
            self.begin = min(self.begin or arrival.at, arrival.at)
            self.end = max(self.end, arrival.at)
        return arrival

    def _judged(self, everything: bool) -> list[Finding]:
        found = list(self.engine.advance() or ())
        while not self.ticking and (tick := self.engine.propose(everything)) is not None:
            self.engine.gate.tick(-1, tick)
            found += self.engine.advance() or ()
        return found
