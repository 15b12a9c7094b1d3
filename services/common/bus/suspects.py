"""Which records of a stream's unit are to blame: named by the processor, or found by handing them in one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from services.common.bus.api import Decoder, Delivery, Outcome, Position, Record
from services.common.bus.work import TRIES, is_for
from services.common.errors import IrisloopError, PoisonedDelivery, Transient

Place = tuple[str, int, int]
REMEMBERED: Final = 10_000


def place_of(record: Record) -> Place:
    """What identifies a record."""
    return record.topic, record.partition, record.offset


@dataclass(slots=True)
class Suspects:
    """The memory of one unit's bad luck; it outlives the unit's restorations."""

    poisoned: dict[Place, Exception] = field(default_factory=dict)
    _kept: set[Place] = field(default_factory=set)
    _careful: dict[Position, int] = field(default_factory=dict)
    _tries: int = 0

    def limit(self, most: int) -> int:
        """How many records to hand in together: one, as long as somebody among them is suspected."""
        return 1 if self._careful else most

    def sort(
        self, records: Sequence[Record], decode: Decoder[Any], service: str, handler: str
    ) -> tuple[list[Delivery[Any]], list[tuple[Record, Exception]]]:
        """The deliveries to hand in, and the records to keep as dead letters (each once)."""
        deliveries: list[Delivery[Any]] = []
        refused: list[tuple[Record, Exception]] = []
        for record in records:
            if not is_for(record, service, handler) or place_of(record) in self._kept:
                continue
            poison = self.poisoned.get(place_of(record))
            try:
                if poison is not None:
                    refused.append((record, poison))
                else:
                    deliveries.append(decode(record))
            except Transient:
                raise
            except Exception as error:
                refused.append((record, error))
        return deliveries, refused

    def blame(self, deliveries: Sequence[Delivery[Any]], error: Exception) -> None:
        """Note what a failed step says about its deliveries."""
        if isinstance(error, Transient) or not deliveries:
            return
        if isinstance(error, PoisonedDelivery) and 0 <= error.index < len(deliveries):
            self.poisoned[place_of(deliveries[error.index].record)] = error
            return
        self._tries += 1
        if not isinstance(error, IrisloopError) and self._tries < TRIES:
            return
        self._tries = 0
        if len(deliveries) == 1:
            self.poisoned[place_of(deliveries[0].record)] = error
            return
        for delivery in deliveries:
            position = (delivery.record.topic, delivery.record.partition)
            self._careful[position] = max(self._careful.get(position, 0), delivery.record.offset + 1)

    def passed(self, records: Sequence[Record], refused: Sequence[tuple[Record, Exception]]) -> None:
        """These took effect, or were kept."""
        self._tries = 0
        for record, _ in refused:
            self.poisoned.pop(place_of(record), None)
            self._kept.add(place_of(record))
        if len(self._kept) > REMEMBERED:
            self._kept.clear()
        for record in records if self._careful else ():
            position = (record.topic, record.partition)
            if self._careful.get(position, 0) <= record.offset + 1:
                self._careful.pop(position, None)


@dataclass(slots=True)
class Progress:
    """What was handed in since the unit was restored, and what of it is done."""

    read: dict[Position, int] = field(default_factory=dict)
    held: bool = False
    """The processor holds records back: their offsets wait for its word."""

    def note(self, records: Sequence[Record]) -> None:
        """They were handed in."""
        for record in records:
            self.read[record.topic, record.partition] = record.offset + 1

    def settle(self, outcome: Outcome) -> Mapping[Position, int]:
        """The offsets to commit with an outcome: its own, or everything handed in so far."""
        self.held = outcome.offsets is not None
        if outcome.offsets is not None:
            return outcome.offsets
        done, self.read = self.read, {}
        return done
