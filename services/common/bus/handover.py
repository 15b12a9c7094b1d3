"""A stream's place and state, looked at and replaced while nobody holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from services.common.bus.api import Event, Position
from services.common.bus.connection import BROKER_ERRORS, close, common_options, make_producer, start
from services.common.bus.producing import raw_of, send_all
from services.common.errors import Unavailable
from services.common.settings import KafkaSettings


async def place_of(settings: KafkaSettings, service: str, handler: str) -> tuple[int, dict[Position, int]]:
    """How many members a handler's group has now, and the next offset that it will read of each position.

    Raises `Unavailable`.
    """
    group = f"irisloop.{service}.{handler}"
    admin = AIOKafkaAdminClient(**common_options(settings, f"irisloop-{service}-handover"))
    try:
        await admin.start()
        described: Any = await admin.describe_consumer_groups([group])
        members = sum(len(one[5]) for answer in described for one in answer.groups)
        offsets = await admin.list_consumer_group_offsets(group)
        return members, {(p.topic, p.partition): at.offset for p, at in offsets.items() if at.offset >= 0}
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka does not answer at {settings.bootstrap_servers}: {error!r}") from error
    finally:
        await admin.close()


async def take_over(
    settings: KafkaSettings,
    service: str,
    handler: str,
    unit: int,
    events: Sequence[Event[Any]],
    offsets: Mapping[Position, int],
) -> None:
    """Write events and a unit's offsets in one transaction of the stream's own name: whoever holds the unit is fenced,
    and the next one to take it goes on from here. Raises `Unavailable`; then nothing of it is visible.
    """
    name = f"{service}.{handler}.{unit}"
    producer = make_producer(settings, f"{name}.handover", transactional_id=name)
    await start(producer)
    try:
        async with producer.transaction():
            waits = list(await send_all(producer, [raw_of(event, service) for event in events]))
            if offsets:
                done = {TopicPartition(*position): offset for position, offset in offsets.items()}
                waits.append(producer.send_offsets_to_transaction(done, f"irisloop.{service}.{handler}"))
            await asyncio.gather(*waits)
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka did not take the transaction: {error!r}", reason="KAFKA_AWAY") from error
    finally:
        await close(producer)
