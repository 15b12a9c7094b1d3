"""Labels and traffic as pieces of the snapshot: of labels the entries, in 512 buckets by asset, from which all counts
follow; of traffic an hour to a piece.

Both are plain JSON rows behind a format number, written at C speed: there may be tens of thousands.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from sys import intern
from typing import Any, Final

from services.monitor.domain.quality.book import BUCKETS, Account, Cell, TruthBook
from services.monitor.domain.quality.boxes import Boxes
from services.monitor.domain.quality.traffic import HOURS, Traffic
from services.monitor.domain.quality.truth import Entry, Said

KEY: Final = "@truth"
TRAFFIC: Final = "@traffic"
FORMAT: Final = 2
"""1 knew no boxes, and is still read: its rows are shorter."""
_READ: Final = (1, 2)
_PLAIN: Final = 9


def cut(book: TruthBook, traffic: Traffic) -> Iterator[tuple[str, Any, Callable[[], Any]]]:
    """(key, stamp that changes with the content, content for `snapshot.dump`)."""
    a = book.account
    head = (a.heard, a.repeated, a.unjoined, a.ahead, a.too_late, a.expired)
    yield KEY, head, lambda: [FORMAT, list(head), book.newest, book.floor, list(book.lost)]
    for number, changes in enumerate(book.changes):
        if changes:
            yield f"{KEY}/{number}", changes, partial(_shelf, book.shelves[number])
    hours = sorted(traffic.hours)
    yield TRAFFIC, (traffic.newest, traffic.floor, hours), lambda: [FORMAT, traffic.newest, traffic.floor, hours]
    for hour in hours:
        yield f"{TRAFFIC}/{hour % HOURS}", (hour, traffic.changes[hour]), partial(_hour, traffic, hour)


def _shelf(entries: Mapping[str, Entry]) -> bytes:
    """By asset, so that the same labels make the same bytes whatever order they came in."""
    return json.dumps([_row(entry) for _, entry in sorted(entries.items())], separators=(",", ":")).encode()


def _hour(traffic: Traffic, hour: int) -> bytes:
    rows = [[*cell[:4], *counts] for cell, counts in traffic.hours[hour].items()]
    return json.dumps([hour, rows], separators=(",", ":")).encode()


def holds(key: str) -> bool:
    """Whether a piece of the snapshot is one of these."""
    return key.partition("/")[0] in (KEY, TRAFFIC)


def join(pieces: Mapping[str, Any], book: TruthBook) -> None:
    """Fill an empty book from what `load` made of its pieces; one of another format stays empty, and learns anew."""
    head = pieces.get(KEY)
    if head is None or head[0] not in _READ:
        return
    _, account, book.newest, book.floor, lost = head
    book.account, book.lost = Account(*account), dict.fromkeys(lost)
    for number in range(BUCKETS):
        for row in json.loads(pieces.get(f"{KEY}/{number}", b"[]")):
            book.put(_entry(row))


def join_traffic(pieces: Mapping[str, Any], traffic: Traffic) -> None:
    """The same for traffic; an hour whose place in the ring another one has taken is left out."""
    head = pieces.get(TRAFFIC)
    if head is None or head[0] not in _READ:
        return
    _, traffic.newest, traffic.floor, hours = head
    for hour in hours:
        number, rows = json.loads(pieces[f"{TRAFFIC}/{hour % HOURS}"])
        for model, version, role, camera_id, count, scores in rows if number == hour else ():
            traffic.add(Cell(model, version, role, camera_id, hour, False), count, scores)


def _row(e: Entry) -> list[Any]:
    said = [[key, *_said_row(s, e.matched.get(key))] for key, s in e.said.items()]
    row = [
        e.asset_id, e.camera_id, e.captured_at, e.revision, e.class_name, e.disputed, e.drawn_in, e.propensity, said,
    ]  # fmt: skip
    return row if e.boxes is None else [*row, _boxes_row(e.boxes)]


def _said_row(s: Said, matched: bytes | None) -> list[Any]:
    row = [s.model, s.version, s.role, s.class_name, s.score]
    if s.found is None:
        return row
    return [*row, _boxes_row(s.found), s.threshold, None if matched is None else _text(matched)]


def _boxes_row(boxes: Boxes) -> list[Any]:
    return [boxes.names, _text(boxes.numbers)]


def _text(data: bytes) -> str:
    return b64encode(data).decode("ascii")


def _entry(row: list[Any]) -> Entry:
    *known, predictions = row[:_PLAIN]
    entry = Entry(*known)
    entry.boxes = _boxes(row[_PLAIN]) if len(row) > _PLAIN else None
    for key, model, version, role, class_name, score, *detector in predictions:
        found, threshold, matched = detector or (None, 0.0, None)
        boxes = None if found is None else _boxes(found)
        entry.said[key] = Said.of(model, version, role, class_name, score, boxes, threshold)
        if matched is not None:
            entry.matched[key] = b64decode(matched)
    return entry


def _boxes(row: list[Any]) -> Boxes:
    names, numbers = row
    return Boxes(tuple(map(intern, names)), b64decode(numbers))
