"""Looks for predictions in their topic: they are events, and no service keeps them as rows to be asked for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from irisloop.serving.v1 import serving_pb2
from irisloop.topics import PREDICTION_MADE

from services.common.errors import Unavailable
from services.common.settings import CommonSettings

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from irisloop.ingest.v1 import ingest_pb2

POLL_MS: Final = 1_000
TIMEOUT_S: Final = 60.0
SLACK_MS: Final = 5_000
"""Clocks differ: a record may bear an earlier time than the storing of its asset."""
NEWEST: Final = 2_000
"""How many of the newest records of each partition stand for a model's recent work."""

Prediction = serving_pb2.Prediction


class PredictionTopic:
    """The topic on the broker that the settings name."""

    def __init__(self, settings: CommonSettings) -> None:
        """Connects at each question."""
        self._settings = settings

    async def of_asset(self, asset: ingest_pb2.Asset) -> list[Prediction]:
        """All predictions on an asset, from its own partition and from its storing on, oldest first."""
        from services.common.bus import partition_of

        async with _reading(self._settings) as (consumer, places):
            place = places[partition_of(asset.camera_id, len(places))]
            found = await consumer.offsets_for_times({place: max(0, asset.stored_at.ToMilliseconds() - SLACK_MS)})
            begins = {place: found[place].offset} if found[place] is not None else {}
            return await _scan(consumer, begins, asset.id, lambda one: one.asset_id == asset.id)

    async def by_id(self, prediction_id: str) -> Prediction | None:
        """The prediction of that id, if its topic still holds it."""
        async with _reading(self._settings) as (consumer, places):
            begins = await consumer.beginning_offsets(places)
            found = await _scan(consumer, begins, prediction_id, lambda one: one.id == prediction_id)
            return found[0] if found else None

    async def newest(self, model: str, version: str) -> list[Prediction]:
        """What a version predicted lately, oldest first."""
        async with _reading(self._settings) as (consumer, places):
            begins, ends = await consumer.beginning_offsets(places), await consumer.end_offsets(places)
            recent = {place: max(begins[place], ends[place] - NEWEST) for place in places}
            return await _scan(consumer, recent, model, lambda one: one.model == model and one.version == version)


@asynccontextmanager
async def _reading(settings: CommonSettings) -> AsyncIterator[tuple[AIOKafkaConsumer, list[TopicPartition]]]:
    """A consumer of the topic and all its partitions by number. Raises `Unavailable`."""
    from services.common.bus.connection import close, make_consumer, start
    from services.common.bus.followed import assign_all

    consumer = make_consumer(settings.kafka, "irisloop-lineage", [PREDICTION_MADE])
    await start(consumer)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield consumer, await assign_all(consumer, PREDICTION_MADE.name)
    except TimeoutError as error:
        raise Unavailable(f"{PREDICTION_MADE.name} could not be read in {TIMEOUT_S:.0f} s.") from error
    finally:
        await close(consumer)


async def _scan(
    consumer: AIOKafkaConsumer,
    begins: Mapping[TopicPartition, int],
    needle: str,
    matches: Callable[[Prediction], bool],
) -> list[Prediction]:
    """Read from the given offsets to the present end; only records that hold the needle are parsed."""
    found: list[Prediction] = []
    if not begins:
        return found
    ends, text = await consumer.end_offsets(list(begins)), needle.encode()
    consumer.assign(list(begins))
    for place, begin in begins.items():
        consumer.seek(place, begin)
    waiting = [place for place, begin in begins.items() if begin < ends[place]]
    while waiting:
        for records in (await consumer.getmany(*waiting, timeout_ms=POLL_MS)).values():
            held = [record.value for record in records if record.value and text in record.value]
            made = [serving_pb2.PredictionMade.FromString(value).prediction for value in held]
            found += [prediction for prediction in made if matches(prediction)]
        waiting = [place for place in waiting if await consumer.position(place) < ends[place]]
    return sorted(found, key=lambda one: one.predicted_at.ToNanoseconds())
