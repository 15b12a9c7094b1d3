"""Records that retention removed before the judge or analytics read them: which, and how to go on without.

The handlers refuse to pass over such a gap by themselves. Who accepts one moves the handler's offset, and says so on
`command given` in the same transaction: the judge notes it where an incident is open, and counts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.bus import KafkaBus, Position
from services.common.bus.gaps import Gap, gap_of
from services.common.bus.handover import place_of, take_over
from services.common.bus.replaying import open_replay
from services.common.errors import InvalidMessage
from services.common.settings import CommonSettings, KafkaSettings
from services.monitor.domain.pieces import judged_until
from services.monitor.domain.retraining import derive
from services.monitor.inbound.analytics import stored
from services.monitor.inbound.stream import HANDLER, INPUTS, place_of_source, read_snapshot
from services.monitor.wire_fleet import command_event
from services.monitor.wire_time import stamp

_AFTER: Final = 1e-6  # Seconds: a time that is judged already would be late.
JUDGE: Mapping[str, Sequence[str]] = {HANDLER: [topic.name for topic in INPUTS]}
ANALYTICS: Mapping[str, Sequence[str]] = {handler: [topic.name] for topic, handler, _, _ in stored()}


async def gaps_of(settings: KafkaSettings, handlers: Mapping[str, Sequence[str]]) -> dict[str, list[Gap]]:
    """What these handlers (each with its topics) refuse to pass over; nothing for those that lack nothing.

    Raises `Unavailable`.
    """
    names = sorted({name for topics in handlers.values() for name in topics})
    async with open_replay(settings, "monitor", names) as held:
        kept = {(one.topic, one.partition): (one.begin, one.end) for one in held.stretches}
    found: dict[str, list[Gap]] = {}
    for handler, topics in handlers.items():
        wanted = await _wanted(settings, handler)
        places = sorted(place for place in wanted if place[0] in topics and place in kept)
        gaps = [gap for place in places if (gap := gap_of(*place, wanted[place], *kept[place])) is not None]
        if gaps:
            found[handler] = gaps
    return found


async def _wanted(settings: KafkaSettings, handler: str) -> dict[Position, int]:
    """The next offsets that its group has committed, or else that its state knows of."""
    _, committed = await place_of(settings, "monitor", handler)
    if handler != HANDLER:
        return committed
    _, ends = await _judged_until(settings)
    return {**{place_of_source(source): end for source, end in ends.items()}, **committed}


async def _judged_until(settings: KafkaSettings) -> tuple[float, dict[str, int]]:
    return judged_until(await read_snapshot(KafkaBus(CommonSettings(kafka=settings), "monitor")))


async def accept(settings: KafkaSettings, found: Mapping[str, Sequence[Gap]], by: str, why: str, at: datetime) -> None:
    """Let each handler go on after its gaps, in one transaction a handler; one that runs does so within seconds.

    Raises `InvalidMessage` without a reason, `Unavailable`.
    """
    if not why.strip():
        raise InvalidMessage("a reason is needed to go on without records: it stands in the history", field="why")
    watermark, _ = await _judged_until(settings) if found else (0.0, {})
    for handler, gaps in found.items():
        value = pb.AcceptGaps(handler=handler, judged_until=stamp(watermark + _AFTER) if watermark else None)
        for gap in gaps:
            value.gaps.add(topic=gap.topic, partition=gap.partition, wanted=gap.wanted, oldest=gap.oldest)
        parts = [f"{gap.topic}/{gap.partition}/{gap.wanted}/{gap.oldest}" for gap in gaps]
        command = pb.CommandGiven(id=derive("gaps", handler, *parts), by=by, why=why, accept_gaps=value)
        command.given_at.FromDatetime(at)
        offsets = {(gap.topic, gap.partition): gap.oldest for gap in gaps}
        await take_over(settings, "monitor", handler, 0, [command_event(command)], offsets)
