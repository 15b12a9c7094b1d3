"""`shared` consumption: a group divides the partitions; offsets are committed after the effect.

Each partition has its lane: the lanes work side by side while the loop keeps polling, and a lane that is full pauses
its partition, so that memory stays flat however slow a handler is. One commit carries what all lanes have done since
the last one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from services.common.bus.api import Record, Subscription
from services.common.bus.assignors import CoPartitioned
from services.common.bus.backlog import Waiting, watch
from services.common.bus.cloudevents import decode
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
from services.common.bus.deadletter import letter_of
from services.common.bus.gaps import LOOK_AGAIN_S, NO_RESET, Gap, let_go, pass_over, poll, refusal, starts_of
from services.common.bus.lanes import Lane
from services.common.bus.producing import Publisher
from services.common.bus.rivals import client_id, give_way
from services.common.bus.work import Worker, backoff, is_said
from services.common.errors import Unavailable
from services.common.metrics import BUS_RENEWALS
from services.common.settings import CommonSettings
from services.common.telemetry import log

POLL_MS: Final = 500
SOON_MS: Final = 50
"""While partitions are waited for, and before it is known where they go on."""
STOP_S: Final = 8.0
"""A batch in hand may take so long when the service stops: it drains within 10 s."""
REVOKE_S: Final = 20.0
"""And so long in a rebalance, which the group waits 30 s for."""
COMMIT_S: Final = 2.0


class SharedConsumer(ConsumerRebalanceListener):  # type: ignore[misc]
    """One subscription of one instance; renews its client whenever the broker leaves it broken."""

    def __init__(
        self, settings: CommonSettings, service: str, subscription: Subscription[Any], publisher: Publisher
    ) -> None:
        """Nothing is connected yet; `publisher` takes the dead letters."""
        self._settings = settings
        self._service = service
        self._subscription = subscription
        self._publisher = publisher
        self._group = f"irisloop.{service}.{subscription.handler}"
        self._lanes: dict[TopicPartition, Lane] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._undone = asyncio.Event()
        self._committing = asyncio.Lock()
        self._joined = False
        self._unplaced: set[TopicPartition] = set()
        self._look_at = 0.0
        self._missing = f"Kafka to hand {subscription.handler} its partitions"

    def waiting_for(self) -> str:
        """Empty once the group has given this instance its partitions, and while no batch waits for a next try."""
        return self._missing or next((words for lane in self._lanes.values() if (words := lane.worker.waiting)), "")

    async def run(self) -> None:
        """Consume until cancelled; what is in hand then is finished and committed."""
        tries = 0
        while True:
            try:
                await self._session()
            except (Unavailable, *BROKER_ERRORS) as error:
                tries = 0 if not self._missing else tries + 1
                self._say("Kafka to answer")
                BUS_RENEWALS.labels("shared").inc()
                if is_said(tries):
                    log.warning("consumer_renewed", handler=self._subscription.handler, tries=tries, error=repr(error))
            await asyncio.sleep(backoff(tries))

    def _say(self, words: str) -> None:
        self._missing = f"{self._subscription.handler}: {words}" if words else ""

    async def _session(self) -> None:
        """One client's life. Raises what ended it."""
        consumer = self._make()
        tasks: list[asyncio.Task[None]] = []
        await start(consumer)
        try:
            self._consumer, self._joined = consumer, False
            await wait_for_topics(consumer, [self._subscription.topic.name], self._say)
            self._say("Kafka to hand out the partitions")
            consumer.subscribe([self._subscription.topic.name], listener=self)
            tasks = [
                asyncio.create_task(self._commit_on(consumer)),
                asyncio.create_task(
                    watch(consumer, self._subscription.handler, [self._subscription.topic], self._waiting)
                ),
            ]
            await self._poll(consumer, tasks)
        except asyncio.CancelledError:
            await self._let_go(consumer, STOP_S)
            consumer._coordinator._group_instance_id = None  # a clean end leaves the group; a static member would stay
            raise
        finally:
            for task in tasks:
                task.cancel()
            await self._let_go(consumer, REVOKE_S)
            self._consumer = None
            await close(consumer)

    def _make(self) -> AIOKafkaConsumer:
        return make_consumer(
            self._settings.kafka,
            client_id(self._group, self._settings),
            [self._subscription.topic],
            group_id=self._group,
            group_instance_id=instance_id(self._group, self._settings.replica, [self._subscription.topic]),
            partition_assignment_strategy=(CoPartitioned,),
            **NO_RESET,
            **lingering(self._subscription.linger_ms),
        )

    async def _poll(self, consumer: AIOKafkaConsumer, tasks: Sequence[asyncio.Task[None]]) -> None:
        while True:
            if self._unplaced and time.monotonic() >= self._look_at:
                await self._begin(consumer)
            found = await poll(consumer, POLL_MS if self._look_at else SOON_MS)
            for place, records in found.items():
                lane = self._lanes.get(place)
                if lane is not None and place not in self._unplaced:
                    lane.put(records)
                    self._regulate(place, lane)
            check_alive(consumer)
            for failure in [lane.failure for lane in self._lanes.values() if lane.failure is not None]:
                raise Unavailable(f"a lane broke: {failure!r}") from failure
            for task in tasks:
                if task.done():
                    task.result()

    def _regulate(self, place: TopicPartition, lane: Lane) -> None:
        """Pause a partition whose lane is full, and go on with it when there is room again."""
        if lane.queue.full != lane.paused and self._consumer is not None and self._lanes.get(place) is lane:
            with suppress(IllegalStateError):  # a rebalance is under way
                (self._consumer.pause if lane.queue.full else self._consumer.resume)(place)
                lane.paused = lane.queue.full

    def _waiting(self) -> list[Waiting]:
        return [waiting for lane in self._lanes.values() if (waiting := lane.queue.waiting()) is not None]

    # ---- offsets ----

    async def _commit_on(self, consumer: AIOKafkaConsumer) -> None:
        """One commit after the other; each carries what was done while the one before was under way."""
        while True:
            await self._undone.wait()
            self._undone.clear()
            await self._commit(consumer, self._lanes)

    async def _commit(self, consumer: AIOKafkaConsumer, lanes: dict[TopicPartition, Lane]) -> None:
        """A commit that comes too late for a partition that moved on is no loss: handlers are idempotent."""
        async with self._committing:
            done = {p: lane.done for p, lane in lanes.items() if lane.done is not None and lane.done != lane.committed}
            if not done:
                return
            try:
                await consumer.commit(done)
            except (CommitFailedError, IllegalStateError) as error:
                log.warning("commit_too_late", handler=self._subscription.handler, error=repr(error))
                return
            for place, offset in done.items():
                lanes[place].committed = offset

    # ---- partitions come and go ----

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """The group has decided: a lane for each partition, paused until it is known where it goes on."""
        if self._consumer is None:
            return
        for place in assigned:
            self._consumer.pause(place)
            self._lanes[place] = self._lane(place)
        self._unplaced, self._look_at = set(self._lanes), 0.0
        self._joined = True
        if not self._lanes:
            self._refused(())
        log.info("partitions_taken", handler=self._subscription.handler, count=len(self._lanes))

    async def _begin(self, consumer: AIOKafkaConsumer) -> None:
        """Go on where the group left each partition; one that lacks records is looked at again later."""
        lanes, places = self._lanes, frozenset(self._unplaced)
        starts, gaps = await starts_of(consumer, places, {})
        if self._lanes is not lanes:
            return  # the group has decided anew meanwhile
        refused = self._refused(gaps)
        for place in places - refused:
            consumer.seek(place, starts[place])
            consumer.resume(place)
        self._unplaced, self._look_at = set(refused), time.monotonic() + LOOK_AGAIN_S

    def _refused(self, gaps: Sequence[Gap]) -> set[TopicPartition]:
        """The partitions that are not read on, which is said."""
        handler, advice = self._subscription.handler, self._subscription.gap_advice
        words = refusal(handler, gaps, advice) if advice else ""
        if not advice:
            pass_over(handler, gaps)
        if words and words not in self._missing:
            log.error("gap_refused", handler=handler, why=words)
        self._say(words)
        return {TopicPartition(gap.topic, gap.partition) for gap in gaps} if advice else set()

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Wait for the batches in hand, commit them, let the partitions go."""
        if self._consumer is not None and self._lanes:
            await self._let_go(self._consumer, REVOKE_S)
            log.info("partitions_released", handler=self._subscription.handler, count=len(revoked))
        if self._joined and self._consumer is not None:
            await give_way(self._consumer, self._service, self._settings, self._say)

    async def _let_go(self, consumer: AIOKafkaConsumer, patience_s: float) -> None:
        lanes, self._lanes = self._lanes, {}
        self._unplaced = set()
        let_go(self._subscription.handler)
        if lanes:
            await asyncio.gather(*(lane.stop(patience_s) for lane in lanes.values()))
            with suppress(*BROKER_ERRORS):
                async with asyncio.timeout(COMMIT_S):
                    await self._commit(consumer, lanes)

    def _lane(self, place: TopicPartition) -> Lane:
        subscription, topic = self._subscription, self._subscription.topic
        decoder = subscription.decode or (lambda record: decode(record, topic))
        worker = Worker(self._service, subscription.handler, subscription.handle, decoder, self._dead_letter)

        def progress(lane: Lane) -> None:
            self._regulate(place, lane)
            self._undone.set()

        return Lane(worker, subscription.max_batch, progress)

    async def _dead_letter(self, record: Record, error: Exception) -> None:
        await self._publisher.publish_raw([letter_of(record, self._service, self._subscription.handler, error)])
