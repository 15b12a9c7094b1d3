"""What registry answers without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import InvalidMessage
from services.registry.domain.model import Model, Move, Version
from services.registry.domain.ports import Ledger, Ledgers

MOST = 1000
DIGITS = 18
"""A longer cursor is not one of ours."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Moves, newest first; an empty cursor ends the list."""

    moves: Sequence[Move]
    next_cursor: str


async def model(ledgers: Ledgers, name: str) -> Model:
    """Raises `UnknownModel`."""
    return await ledgers.read(lambda ledger: ledger.model(name))


async def models(ledgers: Ledgers) -> Sequence[Model]:
    """All of them, by name."""
    return await ledgers.read(lambda ledger: ledger.models())


async def version(ledgers: Ledgers, model: str, version: str) -> Version:
    """By number or alias; raises `UnknownModel`, `UnknownVersion`."""
    return await ledgers.read(lambda ledger: ledger.version(model, version))


async def versions(ledgers: Ledgers, model: str, *, since: datetime | None, run_id: str) -> Sequence[Version]:
    """By model and number; an empty model means all models."""
    return await ledgers.read(lambda ledger: ledger.versions(model, since=since, run_id=run_id))


async def history(ledgers: Ledgers, model: str, *, limit: int, cursor: str, since: datetime | None) -> HistoryPage:
    """A page of at most `limit` (1-1000; 100 when 0) moves of a known model."""
    if cursor and not (cursor.isdecimal() and len(cursor) <= DIGITS):
        raise InvalidMessage("`cursor` is not one that this list gave out", field="cursor")
    if not 0 <= limit <= MOST:
        raise InvalidMessage(f"`limit` is 1 to {MOST}, got {limit}", field="limit")
    size, before = limit or 100, int(cursor) if cursor else None

    def work(ledger: Ledger) -> Sequence[tuple[int, Move]]:
        ledger.model(model)
        return ledger.history(model, limit=size + 1, before=before, since=since)

    rows = await ledgers.read(work)
    page = rows[:size]
    return HistoryPage([move for _, move in page], str(page[-1][0]) if len(rows) > size else "")
