"""What trainer answers without changing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import InvalidMessage
from services.trainer.domain.ports import Books
from services.trainer.domain.runs import Run

MOST = 1000


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, newest first; an empty cursor ends the list."""

    runs: Sequence[Run]
    next_cursor: str


async def run(books: Books, run_id: str) -> Run:
    """Raises `UnknownRun`."""
    return await books.read(lambda book: book.run(run_id))


async def runs(books: Books, *, model: str, dataset: str, since: datetime | None, limit: int, cursor: str) -> RunPage:
    """A page of at most `limit` (1-1000; 100 when 0) runs."""
    if not 0 <= limit <= MOST:
        raise InvalidMessage(f"`limit` is 1 to {MOST}, got {limit}", field="limit")
    size = limit or 100
    found = await books.read(
        lambda book: book.runs(model=model, dataset=dataset, since=since, limit=size + 1, before=cursor)
    )
    return RunPage(found[:size], found[size - 1].id if len(found) > size else "")
