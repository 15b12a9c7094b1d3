"""The book as pieces of the snapshot: its head, and the entries in 512 buckets by asset; counts follow from entries.

Entries are plain JSON rows behind a format number, written at C speed: there may be tens of thousands.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from services.monitor.domain.quality.book import BUCKETS, Account, TruthBook
from services.monitor.domain.quality.truth import Entry, Said

KEY: Final = "@truth"
FORMAT: Final = 1


def cut(book: TruthBook) -> Iterator[tuple[str, Any, Callable[[], Any]]]:
    """(key, stamp that changes with the content, content for `snapshot.dump`)."""
    a = book.account
    head = (a.heard, a.repeated, a.unjoined, a.ahead, a.too_late, a.expired)
    yield KEY, head, lambda: [FORMAT, list(head), book.newest, book.floor, list(book.lost)]
    for number, changes in enumerate(book.changes):
        if changes:
            yield f"{KEY}/{number}", changes, partial(_shelf, book.shelves[number])


def _shelf(entries: Mapping[str, Entry]) -> bytes:
    return json.dumps([_row(entry) for entry in entries.values()], separators=(",", ":")).encode()


def holds(key: str) -> bool:
    """Whether a piece of the snapshot is one of the book's."""
    return key == KEY or key.startswith(f"{KEY}/")


def join(pieces: Mapping[str, Any], book: TruthBook) -> None:
    """Fill an empty book from what `load` made of its pieces; one of another format stays empty, and learns anew."""
    head = pieces.get(KEY)
    if head is None or head[0] != FORMAT:
        return
    _, account, book.newest, book.floor, lost = head
    book.account, book.lost = Account(*account), dict.fromkeys(lost)
    for number in range(BUCKETS):
        for row in json.loads(pieces.get(f"{KEY}/{number}", b"[]")):
            book.put(_entry(row))


def _row(e: Entry) -> list[Any]:
    said = [[key, s.model, s.version, s.role, s.class_name, s.score] for key, s in e.said.items()]
    return [
        e.asset_id, e.camera_id, e.captured_at, e.revision, e.class_name, e.disputed, e.drawn_in, e.propensity, said,
    ]  # fmt: skip


def _entry(row: list[Any]) -> Entry:
    *known, predictions = row
    entry = Entry(*known)
    entry.said = {key: Said.of(*said) for key, *said in predictions}
    return entry
