"""Transactional read-process-write: a group hands out the partitions, each unit works for itself.

Partitions are paused from their assignment until their unit is restored, so nothing is read before older owners are
fenced. What a unit does between is in `units`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from services.common.bus.api import Stream
from services.common.bus.assignors import CoPartitioned, OneOwner
from services.common.bus.backlog import Waiting, watch
from services.common.bus.connection import (
    BROKER_ERRORS,
    check_alive,
    close,
    instance_id,
    lingering,
    make_consumer,
    start,
    wait_for_topics,
)
from services.common.bus.gaps import NO_RESET, let_go, poll
from services.common.bus.rivals import client_id, give_way
from services.common.bus.shared import POLL_MS, REVOKE_S, STOP_S
from services.common.bus.suspects import Suspects
from services.common.bus.units import StreamUnit
from services.common.bus.work import backoff, is_said
from services.common.errors import Unavailable
from services.common.metrics import BUS_RENEWALS
from services.common.settings import CommonSettings
from services.common.telemetry import log

if TYPE_CHECKING:
    from services.common.bus.kafka import KafkaBus

FETCH_WAIT_MS: Final = 20
"""The end of a transaction does not wake a fetch that waits for committed records: this is how late it is seen."""

SILENT_S: Final = 5.0
"""A stream without records for so long looks for them seldom: fifty looks a second cost 4 % of a core."""
REST_S: Final = 0.1
"""Between two looks; the first record after a silence is seen so much later."""
LOOK_MS: Final = 50
"""Of one such look: a fetch or two."""


class StreamRunner(ConsumerRebalanceListener):  # type: ignore[misc]
    """One stream of one instance."""

    def __init__(self, settings: CommonSettings, service: str, stream: Stream, bus: KafkaBus) -> None:
        """Nothing is connected yet; `bus` is what a processor restores itself from."""
        self._settings = settings
        self._service = service
        self._stream = stream
        self._bus = bus
        self._group = f"irisloop.{service}.{stream.handler}"
        self._units: dict[int, StreamUnit] = {}
        self._suspects: dict[int, Suspects] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._joined = False
        self._missing = f"Kafka to hand {stream.handler} its partitions"

    def waiting_for(self) -> str:
        """Empty once the units that the group gave to this instance are restored."""
        return self._missing or next((words for unit in self._units.values() if (words := unit.waiting)), "")

    def _say(self, words: str) -> None:
        self._missing = f"{self._stream.handler}: {words}" if words else ""

    async def run(self) -> None:
        """Process until cancelled; the step in hand then is finished."""
        tries = 0
        while True:
            try:
                await self._session()
            except (Unavailable, *BROKER_ERRORS) as error:
                tries = 0 if not self._missing else tries + 1
                self._say("Kafka to answer")
                BUS_RENEWALS.labels("stream").inc()
                if is_said(tries):
                    log.warning("consumer_renewed", handler=self._stream.handler, tries=tries, error=repr(error))
            await asyncio.sleep(backoff(tries))

    async def _session(self) -> None:
        """One client's life. Raises what ended it."""
        names = [topic.name for topic in self._stream.topics]
        consumer = self._make()
        await start(consumer)
        try:
            self._consumer, self._joined = consumer, False
            await wait_for_topics(consumer, names, self._say)
            self._say("Kafka to hand out the partitions")
            consumer.subscribe(names, listener=self)
            watching = asyncio.create_task(watch(consumer, self._stream.handler, self._stream.topics, self._waiting))
            try:
                await self._poll(consumer)
            finally:
                watching.cancel()
        except asyncio.CancelledError:
            await self._let_go(STOP_S)
            consumer._coordinator._group_instance_id = None  # a clean end leaves the group; a static member would stay
            raise
        finally:
            await self._let_go(REVOKE_S)
            self._consumer = None
            await close(consumer)

    def _make(self) -> AIOKafkaConsumer:
        return make_consumer(
            self._settings.kafka,
            client_id(self._group, self._settings),
            self._stream.topics,
            group_id=self._group,
            group_instance_id=instance_id(self._group, self._settings.replica, self._stream.topics),
            partition_assignment_strategy=(CoPartitioned if self._stream.scope == "partition" else OneOwner,),
            **NO_RESET,
            **(lingering(self._stream.linger_ms) or {"fetch_max_wait_ms": FETCH_WAIT_MS}),
        )

    async def _poll(self, consumer: AIOKafkaConsumer) -> None:
        heard = time.monotonic()
        while True:
            silent = time.monotonic() - heard > SILENT_S
            if silent:
                await self._rest()
            found = await poll(consumer, LOOK_MS if silent else POLL_MS)
            if found:
                heard = time.monotonic()
            for place, records in found.items():
                unit = self._units.get(self._number(place))
                if unit is not None:
                    unit.put(place, records)
            check_alive(consumer)
            for unit in list(self._units.values()):
                unit.check()
                await unit.look()

    async def _rest(self) -> None:
        for unit in self._units.values():
            unit.rest(True)
        await asyncio.sleep(REST_S)
        for unit in self._units.values():
            unit.rest(False)

    def _waiting(self) -> list[Waiting]:
        return [waiting for unit in self._units.values() if (waiting := unit.queue.waiting()) is not None]

    def _number(self, place: TopicPartition) -> int:
        return int(place.partition) if self._stream.scope == "partition" else 0

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The group has decided: a unit for each number, which restores itself before anything is read."""
        consumer = self._consumer
        if consumer is None:
            return
        places: dict[int, set[TopicPartition]] = {}
        for place in assigned:
            consumer.pause(place)
            places.setdefault(self._number(place), set()).add(place)
        for number, mine in places.items():
            suspects = self._suspects.setdefault(number, Suspects())
            self._units[number] = self._unit(number, mine, suspects, consumer)
        self._joined = True
        self._say("")
        log.info("units_taken", handler=self._stream.handler, units=sorted(self._units))

    def _unit(
        self, number: int, places: Collection[TopicPartition], suspects: Suspects, consumer: AIOKafkaConsumer
    ) -> StreamUnit:
        return StreamUnit(
            settings=self._settings.kafka,
            service=self._service,
            stream=self._stream,
            bus=self._bus,
            number=number,
            places=frozenset(places),
            suspects=suspects,
            consumer=consumer,
        )

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the steps in hand; the units are given up before the group goes on."""
        if self._units:
            await self._let_go(REVOKE_S)
            log.info("units_released", handler=self._stream.handler, count=len(revoked))
        if self._joined and self._consumer is not None:
            await give_way(self._consumer, self._service, self._settings, self._say)

    async def _let_go(self, patience_s: float) -> None:
        units: dict[int, Any]
        units, self._units = self._units, {}
        if units:
            await asyncio.gather(*(unit.stop(patience_s) for unit in units.values()))
            let_go(self._stream.handler)
