"""A recorded stream for the judge: predictions, labels, ticks and what registry knew, with a drift that hurts in it.

It is made once, from a seed, and may be written to any number of brokers: keys, values, headers, partitions and
offsets are the same on each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from services.common.bus import partition_of
from services.common.bus.cloudevents import Raw
from services.common.bus.connection import close, make_producer, start
from services.common.bus.memory import CAMERA_PARTITIONS
from services.common.bus.producing import raw_of, send_all
from services.common.settings import KafkaSettings
from services.monitor.domain.engine import Engine
from services.monitor.domain.ticks import Tick, exact
from services.monitor.wire import tick_event
from tests.unit.monitor.records import event
from tests.unit.monitor.worlds import World, policy

CHUNK: Final = 50
TICK: Final = 5
"""Batches of 20 frames, .2 s, between two ticks."""
LATENESS_S: Final = 0.5
"""Less than the labels come out of order by, so that some are late."""


def record(seed: int, frames: int) -> list[Raw]:
    """Five cameras at 20 frames a second; a third of the way in the pictures change and the error rises to .4.

    Labels are drawn as labeling would: more of them while the judge, run aside on the same inputs, sees an incident.
    """
    world = World(seed, frames=frames, onset=frames // 3, shift=1.5, error_after=0.4, uniform=0.1)
    engine, raws, ends, newest = Engine.new(policy()), [], Counter[str](), 0.0
    for number, batch in enumerate(world.inputs()):
        placed = [_placed(raw_of(event(item), "serving")) for _, _, item in batch]
        ends.update(f"{raw.topic}/{raw.partition}" for raw in placed)
        raws += placed
        newest = max([newest, *(item.at for _, _, item in batch)])
        if number % TICK == TICK - 1:
            raws.append(_tick(newest - LATENESS_S, ends))
        world.heard(engine.feed(batch))
    return [*raws, _tick(newest, ends)]


def _tick(watermark: float, ends: Counter[str]) -> Raw:
    return _placed(raw_of(tick_event(Tick(exact(watermark), dict(ends)), "judge-drift"), "monitor"))


def _placed(raw: Raw) -> Raw:
    name = raw.topic
    shared = ".prediction." in name or ".annotation." in name
    partition = partition_of((raw.key or b"").decode(), CAMERA_PARTITIONS) if shared else 0
    return Raw(name, raw.key, raw.value, raw.headers, partition)


class Feed:
    """Writes a recording to a broker, as far as it is told to; each partition in the recording's order."""

    def __init__(self, kafka: KafkaSettings, raws: Sequence[Raw]) -> None:
        """Nothing is written yet."""
        self._kafka, self._raws, self._written = kafka, raws, 0
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Feed:
        self._producer = make_producer(self._kafka, "recording")
        await start(self._producer)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await close(self._producer)

    async def up_to(self, end: int) -> None:
        """Write records before number `end` that are not written yet."""
        assert self._producer is not None
        for chunk in self._chunks(end):
            for future in await send_all(self._producer, chunk):
                await future
            self._written += len(chunk)

    def _chunks(self, end: int) -> Iterator[Sequence[Any]]:
        for first in range(self._written, end, CHUNK):
            yield self._raws[first : min(first + CHUNK, end)]
