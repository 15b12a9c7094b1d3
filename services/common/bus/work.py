"""What happens to a batch of records, whichever bus they came by: decode, hand over, retry, dead-letter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

from structlog.contextvars import bound_contextvars

from services.common.bus.api import BatchHandler, Decoder, Delivery, Record
from services.common.bus.cloudevents import REPLAY_FOR
from services.common.errors import InvalidMessage, IrisloopError, PoisonedDelivery, Transient
from services.common.metrics import BUS_BATCH_SECONDS, BUS_DEAD_LETTERS, BUS_RECORDS, BUS_RETRIES
from services.common.telemetry import bind_trace, log, message_spans

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
TRIES: Final = 3

DeadLetter = Callable[[Record, Exception], Awaitable[None]]
"""Keeps a record that will not work; returns when that is durable. Raises `Transient` when it cannot just now."""


class Stopped(Exception):
    """The listener ends while a batch waits for its next try: its offsets stay uncommitted."""


def backoff(attempt: int) -> float:
    """Seconds before the next try: doubling from 0.1 to 5, with jitter."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2 ** min(attempt, 10)) * random.uniform(0.7, 1.3))


def is_said(tries: int) -> bool:
    """Whether one more failure is a line in the log: the first, and each tenth after it."""
    return tries < 2 or tries % 10 == 0


def is_for(record: Record, service: str, handler: str) -> bool:
    """Whether the handler should see it: a replayed dead letter reaches only the handler that failed."""
    for name, wanted in record.headers:
        if name == REPLAY_FOR:
            return wanted == f"{service}.{handler}".encode()
    return True


def decode_all(
    records: Sequence[Record], decode: Decoder[Any]
) -> tuple[list[Delivery[Any]], list[tuple[Record, Exception]]]:
    """The deliveries, and the records that are none with the reason; a decoder that breaks is a reason too."""
    deliveries: list[Delivery[Any]] = []
    refused: list[tuple[Record, Exception]] = []
    for record in records:
        try:
            deliveries.append(decode(record))
        except Transient:
            raise
        except Exception as error:
            refused.append((record, error))
    return deliveries, refused


async def rest(seconds: float, stopping: asyncio.Event) -> None:
    """Sleep. Raises `Stopped` as soon as the event is set."""
    if await happens(stopping, seconds):
        raise Stopped


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event is set in time; `wait_for` of Python 3.11 would forget a cancellation that comes with it."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    return True


@contextmanager
def in_hand(service: str, handler: str, deliveries: Sequence[Delivery[Any]]) -> Iterator[list[Delivery[Any]]]:
    """Measure the work on a batch, and let its log lines and spans say which; yields the deliveries in its spans."""
    traces = [delivery.traceparent for delivery in deliveries]
    first = deliveries[0].record
    with (
        BUS_BATCH_SECONDS.labels(handler).time(),
        message_spans(f"{service}.{handler}", traces, **{"messaging.batch.message_count": len(traces)}) as spans,
        bind_trace(spans[0]),
        bound_contextvars(topic=first.topic, partition=first.partition, offset=first.offset),
    ):
        yield (
            list(deliveries)
            if spans is traces
            else [replace(delivery, traceparent=own) for delivery, own in zip(deliveries, spans, strict=True)]
        )


@dataclass(slots=True)
class Worker:
    """Carries batches of one handler to their effect. After `work` returns, every record took effect or is kept."""

    service: str
    handler: str
    handle: BatchHandler[Any]
    decode: Decoder[Any]
    dead_letter: DeadLetter
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Ends the waiting for a next try, never a try."""
    waiting: str = ""
    """What keeps the batch in hand from going on, in words."""

    async def work(self, records: Sequence[Record]) -> None:
        """Take records of one partition, in order. Raises `Stopped`."""
        mine = [record for record in records if is_for(record, self.service, self.handler)]
        deliveries, refused = await self._retried(lambda: self._decoded(mine))
        for record, error in refused:
            await self._refuse(record, error)
        await self._effect(deliveries)
        BUS_RECORDS.labels(self.handler).inc(len(records))

    async def _decoded(self, records: Sequence[Record]) -> tuple[list[Delivery[Any]], list[tuple[Record, Exception]]]:
        return decode_all(records, self.decode)

    async def _effect(self, deliveries: list[Delivery[Any]]) -> None:
        """Hand over until done; what fails for good is cut out by halves."""
        tries = 0
        while deliveries:
            try:
                await self._handled(deliveries)
                return
            except PoisonedDelivery as error:
                if 0 <= error.index < len(deliveries):
                    await self._refuse(deliveries[error.index].record, error)
                    deliveries = deliveries[: error.index] + deliveries[error.index + 1 :]
                else:
                    await self._cut(deliveries, error)
                    return
            except Stopped:
                raise
            except Exception as error:
                tries += 1
                if isinstance(error, IrisloopError) or tries >= TRIES:
                    await self._cut(deliveries, error)
                    return
                await self._pause(error, tries)

    async def _cut(self, deliveries: list[Delivery[Any]], error: Exception) -> None:
        """Halve what failed until the ones at fault are alone; each part is tried anew, in order."""
        if len(deliveries) == 1:
            await self._refuse(deliveries[0].record, error)
            return
        middle = len(deliveries) // 2
        for half in (deliveries[:middle], deliveries[middle:]):
            try:
                await self._handled(half)
            except Stopped:
                raise
            except PoisonedDelivery:
                await self._effect(half)
            except Exception as again:
                await self._cut(half, again)

    async def _retried(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        """What may pass is tried for ever, with back-off. Raises `Stopped`, and any other error of the attempt."""
        tries = 0
        while True:
            try:
                result = await attempt()
            except Transient as error:
                tries += 1
                await self._pause(error, tries)
            else:
                self.waiting = ""
                return result

    async def _handled(self, deliveries: list[Delivery[Any]]) -> None:
        await self._retried(lambda: self._hand_over(deliveries))

    async def _hand_over(self, deliveries: list[Delivery[Any]]) -> None:
        with in_hand(self.service, self.handler, deliveries) as traced:
            await self.handle(traced)

    async def _pause(self, error: Exception, tries: int) -> None:
        delay = backoff(tries - 1)
        self.waiting = f"{self.handler}: {error}"
        BUS_RETRIES.labels(self.handler).inc()
        broken = None if isinstance(error, IrisloopError) else error
        log.warning(
            "handler_retries", handler=self.handler, error=repr(error), tries=tries, retry_in_s=delay, exc_info=broken
        )
        await rest(delay, self.stopping)

    async def _refuse(self, record: Record, error: Exception) -> None:
        note_refusal(record, self.handler, error)
        await self._retried(lambda: self.dead_letter(record, error))


def note_refusal(record: Record, handler: str, error: Exception) -> None:
    """One line and one count for a record that becomes a dead letter."""
    reason = error.reason if isinstance(error, IrisloopError) else "ERROR"
    BUS_DEAD_LETTERS.labels(handler).inc()
    log.warning(
        "record_dead_lettered",
        handler=handler,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        reason=reason,
        error=str(error) or repr(error),
        exc_info=None if isinstance(error, InvalidMessage) else error,
    )
