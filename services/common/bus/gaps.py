"""Where a listener goes on in each partition, and what retention took of it unread.

The client's own way with such a gap is to begin anew without a word, so it is told to have none: whoever takes a
partition looks here and seeks. A listener that gives advice refuses a gap: it reads nothing of that partition before
somebody has moved the group's offset. The others pass over it, said and counted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import NoOffsetForPartitionError

from services.common.bus.api import Position
from services.common.errors import Unavailable
from services.common.metrics import BUS_LOST, BUS_REFUSED
from services.common.telemetry import log

NO_RESET: Final = {"auto_offset_reset": "none"}
"""Of a group's consumer. An offset that is gone while it runs then ends its session, and the next one looks here."""
LOOK_AGAIN_S: Final = 5.0
"""A refused gap is looked at so often: an offset that somebody has moved ends it."""
_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Gap:
    """Offset `wanted` was to be read next, and the partition holds `oldest` until before `end`."""

    topic: str
    partition: int
    wanted: int
    oldest: int
    end: int

    @property
    def missing(self) -> int:
        """Offsets that are gone, at least 1. Ends of transactions take one too, so records may be fewer."""
        return max(self.oldest - self.wanted, 1)

    def __str__(self) -> str:
        place = f"{self.topic}/{self.partition}: offset {self.wanted} was to be read next"
        if self.wanted > self.end:
            return f"{place}, and it ends at {self.end}: it was made anew, or the broker has lost its end"
        return f"{place}, the oldest there is {self.oldest}: up to {self.missing} records are missing"


def gap_of(topic: str, partition: int, wanted: int | None, oldest: int, end: int) -> Gap | None:
    """The gap between what was to be read next (None: nothing yet) and what there is, if there is one."""
    if wanted is None or oldest <= wanted <= end:
        return None
    return Gap(topic, partition, wanted, oldest, end)


async def starts_of(
    consumer: AIOKafkaConsumer, places: Collection[TopicPartition], reached: Mapping[Position, int]
) -> tuple[dict[TopicPartition, int], list[Gap]]:
    """Where to go on in each partition, and the gaps before it.

    That is at what is committed; at the oldest record where nothing is, or where there is a gap. `reached` are next
    offsets that the listener knows of otherwise: a group that rests for long loses what it has committed.
    """
    begins = await consumer.beginning_offsets(places)
    ends = await consumer.end_offsets(places)
    starts: dict[TopicPartition, int] = {}
    gaps: list[Gap] = []
    for place in sorted(places):
        committed = await consumer.committed(place)
        known = committed if committed is not None else reached.get((place.topic, place.partition))
        gap = gap_of(place.topic, place.partition, known, begins[place], ends[place])
        if gap is not None:
            gaps.append(gap)
        starts[place] = begins[place] if committed is None or gap is not None else committed
    return starts, gaps


def pass_over(handler: str, gaps: Sequence[Gap]) -> None:
    """Say and count what is lost to a handler that goes on all the same."""
    for gap in gaps:
        BUS_LOST.labels(handler).inc(gap.missing)
        log.error(
            "records_lost_to_retention",
            handler=handler,
            topic=gap.topic,
            partition=gap.partition,
            first_offset=gap.wanted,
            offsets=gap.missing,
        )


def refusal(handler: str, gaps: Sequence[Gap], advice: str) -> str:
    """Why a handler does not go on, in words, and what to do; "" without gaps. Shown as a metric, too."""
    BUS_REFUSED.labels(handler).set(sum(gap.missing for gap in gaps))
    if not gaps:
        return ""
    more = f"; and {len(gaps) - _NAMED} partitions more" if len(gaps) > _NAMED else ""
    return f"{'; '.join(str(gap) for gap in gaps[:_NAMED])}{more}. {advice}"


def let_go(handler: str) -> None:
    """The partitions are another instance's now, and what is refused of them is, too."""
    BUS_REFUSED.labels(handler).set(0)


async def starts_or_refusal(
    consumer: AIOKafkaConsumer,
    handler: str,
    places: Collection[TopicPartition],
    advice: str,
    reached: Mapping[Position, int] | None = None,
) -> dict[TopicPartition, int]:
    """Where to go on, for a listener that takes all of its partitions or none.

    Raises `Unavailable` when there is a gap and advice what to do about it.
    """
    starts, gaps = await starts_of(consumer, places, reached or {})
    if not advice:
        pass_over(handler, gaps)
    elif words := refusal(handler, gaps, advice):
        raise Unavailable(words, reason="RECORDS_EXPIRED")
    return starts


async def poll(consumer: AIOKafkaConsumer, timeout_ms: int) -> Mapping[TopicPartition, Sequence[Any]]:
    """The next records. A partition without an offset is one that nobody has sought in yet: it has none."""
    try:
        found: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(timeout_ms=timeout_ms)
    except NoOffsetForPartitionError:
        return {}
    return found
