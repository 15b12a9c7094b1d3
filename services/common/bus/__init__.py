"""The bus: typed events over Apache Kafka, or in memory for tests, under one contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from services.common.bus.api import (
    BatchHandler,
    Bus,
    Consumer,
    Decoder,
    Delivery,
    Event,
    Follow,
    Outcome,
    Position,
    Record,
    Stream,
    StreamProcessor,
    Subscription,
    Topic,
)
from services.common.bus.cloudevents import decode, derive_id, partition_of

if TYPE_CHECKING:
    from services.common.bus.kafka import KafkaBus
    from services.common.bus.memory import MemoryBroker, MemoryBus

__all__ = [
    "BatchHandler",
    "Bus",
    "Consumer",
    "Decoder",
    "Delivery",
    "Event",
    "Follow",
    "KafkaBus",
    "MemoryBroker",
    "MemoryBus",
    "Outcome",
    "Position",
    "Record",
    "Stream",
    "StreamProcessor",
    "Subscription",
    "Topic",
    "decode",
    "derive_id",
    "partition_of",
]


def __getattr__(name: str) -> Any:
    """The two buses are imported when they are asked for: generated code needs the vocabulary alone."""
    if name == "KafkaBus":
        from services.common.bus import kafka

        return kafka.KafkaBus
    if name in ("MemoryBus", "MemoryBroker"):
        from services.common.bus import memory

        return getattr(memory, name)
    raise AttributeError(name)
