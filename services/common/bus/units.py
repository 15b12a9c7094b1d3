"""A unit of a stream: one partition number, or everything, with one transactional producer.

Starting the producer fences whoever held the unit before and ends what that one left open, so what is committed is
asked for only then. Whatever goes wrong, the unit starts over with a new producer: the end of a transaction is written
a moment after its acknowledgement, and only a new start waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import IllegalStateError, ProducerFenced

from services.common.bus.abreast import Abreast, unread
from services.common.bus.api import Delivery, Outcome, Position, Record, Stream
from services.common.bus.cloudevents import Raw, decode
from services.common.bus.connection import BROKER_ERRORS, close, make_producer, start
from services.common.bus.deadletter import letter_of
from services.common.bus.gaps import starts_or_refusal
from services.common.bus.producing import raw_of, send_all
from services.common.bus.suspects import Progress, Suspects
from services.common.bus.work import Stopped, backoff, happens, in_hand, note_refusal, rest
from services.common.errors import IrisloopError
from services.common.metrics import BUS_RECORDS, BUS_RETRIES, BUS_TRANSACTIONS
from services.common.settings import KafkaSettings
from services.common.telemetry import log

if TYPE_CHECKING:
    from services.common.bus.kafka import KafkaBus

IDLE_S: Final = 1.0
AWAITED_S: Final = 0.1
"""Between two looks while the partitions have more than is here."""
FENCED_S: Final = 3.0
"""Who is fenced waits so long for the group to take the unit away; if it does not, the unit is taken again."""
TRANSACTION_MS: Final = 60_000


class StreamUnit:
    """One unit of one stream, from its assignment until it is revoked."""

    def __init__(
        self,
        *,
        settings: KafkaSettings,
        service: str,
        stream: Stream,
        bus: KafkaBus,
        number: int,
        places: frozenset[TopicPartition],
        suspects: Suspects,
        consumer: AIOKafkaConsumer,
    ) -> None:
        """Begin to take the unit over."""
        self._settings = settings
        self._service = service
        self._stream = stream
        self._bus = bus
        self._number = number
        self._places = places
        self._suspects = suspects
        self._consumer = consumer
        self._topics = {topic.name: topic for topic in stream.topics}
        self.queue = Abreast(places, stream.max_batch)
        self._progress = Progress()
        self._filled = asyncio.Event()
        self._stopping = asyncio.Event()
        self._paused = set(places)
        self._resting = False
        self._deliveries: Sequence[Delivery[Any]] = ()
        self.waiting = f"{stream.handler}: unit {number} to be restored"
        self._task = asyncio.create_task(self._run())

    # ---- what the runner calls ----

    def put(self, place: TopicPartition, found: Iterable[Any]) -> None:
        """Records of one of the unit's partitions, in order."""
        self.queue.put(place, found)
        self._filled.set()
        self._regulate()

    async def look(self) -> None:
        """See which partitions have more."""
        if not self.waiting:
            with suppress(IllegalStateError):
                self.queue.expect(await unread(self._consumer, self._places))
            if len(self.queue):
                self._filled.set()

    def rest(self, resting: bool) -> None:
        """Read nothing while it rests."""
        self._resting = resting
        if not self.waiting:
            self._regulate()

    def check(self) -> None:
        """Raise what the unit's task ended with, if it ended by itself."""
        if self._task.done() and not self._task.cancelled():
            self._task.result()

    async def stop(self, patience_s: float) -> None:
        """Let the step in hand end, then release the unit."""
        self._stopping.set()
        self._filled.set()
        done, _ = await asyncio.wait([self._task], timeout=patience_s)
        if not done:
            log.warning("step_given_up", handler=self._stream.handler, unit=self._number, after_s=patience_s)
            self._task.cancel()
            await asyncio.wait([self._task], timeout=patience_s)

    # ---- the unit's life ----

    async def _run(self) -> None:
        tries = 0
        try:
            while not self._stopping.is_set():
                try:
                    async with self._producer() as producer:
                        await self._restore()
                        tries = 0
                        while not self._stopping.is_set():
                            await self._step(producer)
                except ProducerFenced as error:
                    await self._undone(error, FENCED_S, "fenced")
                except Stopped:
                    break
                except Exception as error:
                    self._suspects.blame(self._deliveries, error)
                    tries += 1
                    await self._undone(error, backoff(tries - 1), "undone")
        except Stopped:
            pass
        finally:
            await self._stream.processor.release(self._number)

    @asynccontextmanager
    async def _producer(self) -> AsyncIterator[AIOKafkaProducer]:
        name = f"{self._service}.{self._stream.handler}.{self._number}"
        producer = make_producer(
            self._settings,
            name,
            transactional_id=name,
            retry_backoff_ms=5,
            transaction_timeout_ms=TRANSACTION_MS,
        )
        try:
            await self._until_stopped(start(producer))
            yield producer
        finally:
            # After an error nothing may be sent on; the next start ends what is open.
            await close(producer)

    async def _until_stopped(self, work: Any) -> None:
        """Await it, unless the unit is to stop. Raises `Stopped`."""
        task = asyncio.ensure_future(work)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise Stopped
            task.result()
        finally:
            for one in (task, stopping):
                one.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)

    async def _restore(self) -> None:
        """Put the partitions where the last committed transaction left them, and the state with them."""
        self.queue.clear()
        self._progress = Progress()
        self._deliveries = ()
        await self._seek({})
        reached = await self._stream.processor.restore(self._number, self._bus)
        if reached:
            await self._seek(reached)
        self.queue.clear()
        self._paused = set(self._places)
        self._regulate()
        self.waiting = ""
        log.info("unit_restored", handler=self._stream.handler, unit=self._number)

    async def _seek(self, reached: Mapping[Position, int]) -> None:
        """Raises `Unavailable` where records are missing that must not be."""
        stream = self._stream
        starts = await starts_or_refusal(self._consumer, stream.handler, self._places, stream.gap_advice, reached)
        for place, offset in starts.items():
            self._consumer.seek(place, offset)

    async def _undone(self, error: Exception, delay: float, outcome: str) -> None:
        """Nothing of the step is visible: stop reading, wait, and start over."""
        with suppress(IllegalStateError):
            self._consumer.pause(*self._places)
        self._paused = set(self._places)
        self.queue.clear()
        self.waiting = f"{self._stream.handler}: {error}"
        BUS_TRANSACTIONS.labels(self._stream.handler, outcome).inc()
        BUS_RETRIES.labels(self._stream.handler).inc()
        log.warning(
            f"step_{outcome}",
            handler=self._stream.handler,
            unit=self._number,
            error=repr(error),
            retry_in_s=delay,
            exc_info=None if isinstance(error, (IrisloopError, *BROKER_ERRORS)) else error,
        )
        await rest(delay, self._stopping)

    def _regulate(self) -> None:
        """Pause each partition while too much of it waits, and all while it rests."""
        wanted = set(self._places) if self._resting else self.queue.full()
        with suppress(IllegalStateError):
            self._consumer.pause(*(wanted - self._paused))
            self._consumer.resume(*(self._paused - wanted))
            self._paused = wanted

    # ---- one step ----

    async def _step(self, producer: AIOKafkaProducer) -> None:
        """A batch, or after a second of silence the processor's own wish, in one transaction."""
        records = await self._next()
        if self._stopping.is_set() and not records:
            return
        if not records:
            outcome = await self._stream.processor.idle(self._number)
            if outcome is not None:
                await self._commit(producer, outcome, [raw_of(event, self._service) for event in outcome.events])
            return
        self._deliveries = ()
        deliveries, refused = self._suspects.sort(records, self._decode, self._service, self._stream.handler)
        self._deliveries = deliveries
        outcome, raws = await self._process(deliveries)
        self._deliveries = ()
        self._progress.note(records)
        for record, error in refused:
            note_refusal(record, self._stream.handler, error)
            raws.append(letter_of(record, self._service, self._stream.handler, error))
        await self._commit(producer, outcome, raws)
        self._suspects.passed(records, refused)
        self.queue.done()
        BUS_RECORDS.labels(self._stream.handler).inc(len(records))

    async def _next(self) -> list[Record]:
        """A batch; empty when the unit is to stop, or nothing has come for a second."""
        while not self._stopping.is_set():
            records = self.queue.take(self._suspects.limit(self._stream.max_batch))
            self._regulate()
            if records:
                return records
            behind = self.queue.is_behind()
            self._filled.clear()
            if not await happens(self._filled, AWAITED_S if behind else IDLE_S) and not behind:
                break
        return []

    def _decode(self, record: Record) -> Delivery[Any]:
        decoder = self._stream.decode.get(record.topic)
        return decoder(record) if decoder is not None else decode(record, self._topics[record.topic])

    async def _process(self, deliveries: Sequence[Delivery[Any]]) -> tuple[Outcome, list[Raw]]:
        """The outcome, and its events as they travel: they inherit the trace of the batch's first delivery."""
        if not deliveries:  # dead letters alone say nothing about what the processor holds back
            return Outcome((), {} if self._progress.held else None), []
        with in_hand(self._service, self._stream.handler, deliveries) as traced:
            outcome = await self._stream.processor.process(self._number, traced)
            return outcome, [raw_of(event, self._service) for event in outcome.events]

    async def _commit(self, producer: AIOKafkaProducer, outcome: Outcome, raws: Sequence[Raw]) -> None:
        """Events, dead letters and offsets become visible together."""
        offsets = self._progress.settle(outcome)
        if not raws and not offsets:
            return
        async with producer.transaction():
            waits = list(await send_all(producer, raws))
            if offsets:
                done = {TopicPartition(*position): offset for position, offset in offsets.items()}
                group = f"irisloop.{self._service}.{self._stream.handler}"
                waits.append(producer.send_offsets_to_transaction(done, group))
            await asyncio.gather(*waits)
        BUS_TRANSACTIONS.labels(self._stream.handler, "committed").inc()
