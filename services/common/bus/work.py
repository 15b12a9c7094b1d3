"""What happens to a batch of records, whichever bus they came by: decode, hand over, retry, dead-letter."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.common.bus.api import BatchHandler, Decoder, Delivery, Record
from services.common.bus.cloudevents import REPLAY_FOR
from services.common.errors import IrisloopError, PoisonedDelivery, Transient
from services.common.telemetry import bind_trace, log

FIRST_DELAY_S: Final = 0.1
LONGEST_DELAY_S: Final = 5.0
TRIES: Final = 3

DeadLetter = Callable[[Record, Exception], Awaitable[None]]
"""Keeps a record that will not work; returns when that is durable."""


def backoff(attempt: int) -> float:
    """Seconds before the next try: doubling from 0.1 to 5, with jitter."""
    return float(min(LONGEST_DELAY_S, FIRST_DELAY_S * 2**attempt) * random.uniform(0.7, 1.3))


def is_for(record: Record, service: str, handler: str) -> bool:
    """Whether the handler should see it: a replayed dead letter reaches only the handler that failed."""
    wanted = record.header(REPLAY_FOR)
    return wanted is None or wanted == f"{service}.{handler}".encode()


def decode_all(
    records: Sequence[Record], decode: Decoder[Any]
) -> tuple[list[Delivery[Any]], list[tuple[Record, IrisloopError]]]:
    """The deliveries, and the records that are none with the reason."""
    deliveries, refused = [], []
    for record in records:
        try:
            deliveries.append(decode(record))
        except IrisloopError as error:
            refused.append((record, error))
    return deliveries, refused


@dataclass(slots=True)
class Worker:
    """Carries batches of one handler to their effect. After `work` returns, every record took effect or is kept."""

    service: str
    handler: str
    handle: BatchHandler[Any]
    decode: Decoder[Any]
    dead_letter: DeadLetter
    waiting: str = ""

    async def work(self, records: Sequence[Record]) -> None:
        """Records of one partition, in order."""
        mine = [record for record in records if is_for(record, self.service, self.handler)]
        deliveries, refused = decode_all(mine, self.decode)
        for record, error in refused:
            await self._refuse(record, error)
        await self._effect(deliveries)

    async def _effect(self, deliveries: list[Delivery[Any]]) -> None:
        """Hand over until done; what fails for good is cut out by halves."""
        tries = 0
        while deliveries:
            try:
                await self._hand_over(deliveries)
                return
            except PoisonedDelivery as error:
                await self._refuse(deliveries[error.index].record, error)
                deliveries = deliveries[: error.index] + deliveries[error.index + 1 :]
            except Transient as error:
                await self._wait(error, tries)
                tries += 1
            except Exception as error:
                if len(deliveries) > 1:
                    middle = len(deliveries) // 2
                    await self._effect(deliveries[:middle])
                    deliveries = deliveries[middle:]
                elif isinstance(error, IrisloopError) or tries >= TRIES - 1:
                    await self._refuse(deliveries[0].record, error)
                    return
                else:
                    await self._wait(error, tries)
                    tries += 1

    async def _hand_over(self, deliveries: list[Delivery[Any]]) -> None:
        with bind_trace(deliveries[0].traceparent):
            await self.handle(deliveries)
        self.waiting = ""

    async def _wait(self, error: Exception, tries: int) -> None:
        delay = backoff(tries)
        self.waiting = f"{self.handler}: {error}"
        log.warning("handler_retries", handler=self.handler, error=repr(error), tries=tries + 1, retry_in_s=delay)
        await asyncio.sleep(delay)

    async def _refuse(self, record: Record, error: Exception) -> None:
        log.warning(
            "record_dead_lettered",
            handler=self.handler,
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            error=str(error) or repr(error),
            exc_info=None if isinstance(error, IrisloopError) else error,
        )
        await self.dead_letter(record, error)
