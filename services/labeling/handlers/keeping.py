"""Keeps the pool of predictions bounded, probes within their time, and the queue's size visible."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from services.common.errors import Transient
from services.common.metrics import LABELING_REQUESTS, LABELING_TASKS
from services.common.telemetry import log
from services.labeling.domain.model import Micros, State
from services.labeling.domain.ports import Clock, Ledger, Ledgers
from services.labeling.handlers.probes import ProbeHandlers

EVERY_S = 15.0
PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Keeper:
    """Drops predictions and assets older than `kept` and beyond `most`, and ends probes that are over."""

    ledgers: Ledgers
    clock: Clock
    most: int
    kept: Micros
    probes: ProbeHandlers

    async def run(self) -> None:
        """Keep until cancelled."""
        while True:
            try:
                await self.keep()
            except Transient as error:
                log.warning("keeping_waits", reason=error.reason, error=str(error))
            await asyncio.sleep(EVERY_S)

    async def keep(self) -> int:
        """Prune in small transactions, so that nobody waits long; returns how many rows went."""
        await self.probes.end_those_over()
        pruned = 0
        before = self.clock() - self.kept
        while True:
            count = await self.ledgers.transact(lambda ledger: ledger.pool.prune(before, self.most))
            pruned += count
            if count == 0:
                break
            await asyncio.sleep(PAUSE_S)
        await self.ledgers.read(_measure)
        return pruned


def _measure(ledger: Ledger) -> None:
    counts = ledger.tasks.counts()
    for state in State:
        LABELING_TASKS.labels(state.name.lower()).set(counts.get(state, 0))
    LABELING_REQUESTS.set(len(ledger.datasets.open_requests()))
