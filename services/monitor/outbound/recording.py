"""Records of topics for a replay: from Kafka, or from a recording, a gzipped file of JSON lines that anybody can read.

The first line names the format and the offsets that each partition held; every other line is one record, its value in
base64, in the order of the broker's time.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from services.common.bus.api import Record
from services.common.bus.replaying import Stretch, open_replay
from services.common.errors import why_unreadable
from services.common.settings import KafkaSettings
from services.monitor.errors import BrokenRecording

FORMAT: Final = "irisloop-recording"
VERSION: Final = 1
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Records(Protocol):
    """What a source holds of some topics."""

    @property
    def stretches(self) -> Sequence[Stretch]:
        """Which offsets each partition holds."""

    @property
    def total(self) -> int:
        """How many steps `records` takes."""

    def records(self) -> AsyncIterator[tuple[Record, int]]:
        """Each record, merged by the broker's time, with how many steps it is."""


class Source(Protocol):
    """Where records come from; may be opened again."""

    def open(self, names: Sequence[str]) -> AbstractAsyncContextManager[Records]:
        """The records of these topics."""


@dataclass(frozen=True, slots=True)
class KafkaSource:
    """What Kafka holds now."""

    settings: KafkaSettings

    def open(self, names: Sequence[str]) -> AbstractAsyncContextManager[Records]:
        """Raises `Unavailable`."""
        return open_replay(self.settings, "monitor", names)


@dataclass(frozen=True, slots=True)
class FileSource:
    """A recording."""

    path: Path

    @asynccontextmanager
    async def open(self, names: Sequence[str]) -> AsyncIterator[Records]:
        """Raises `BrokenRecording`."""
        yield _Recorded(self.path, [one for one in _head(self.path) if one.topic in names])


@dataclass(frozen=True, slots=True)
class _Recorded:
    path: Path
    stretches: Sequence[Stretch]

    @property
    def total(self) -> int:
        return sum(one.end - one.begin for one in self.stretches)

    async def records(self) -> AsyncIterator[tuple[Record, int]]:
        positions = {(one.topic, one.partition): one.begin for one in self.stretches}
        for number, line in enumerate(_lines(self.path)):
            if number == 0:
                continue
            record = _record(line, number + 1, self.path)
            place = (record.topic, record.partition)
            if place in positions:
                yield record, record.offset + 1 - positions[place]
                positions[place] = record.offset + 1


def _lines(path: Path) -> Iterator[str]:
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from lines
    except (OSError, EOFError, UnicodeDecodeError) as error:
        words = f"{path}: {why_unreadable(error)}; a file that `irisloop monitor export` wrote is needed"
        raise BrokenRecording(words, field="from") from error


def _head(path: Path) -> list[Stretch]:
    try:
        head = json.loads(next(_lines(path), ""))
        if head["format"] != FORMAT or head["version"] != VERSION:
            raise ValueError(f"the first line names {head['format']!r} {head['version']!r}")
        return [Stretch(**one) for one in head["partitions"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenRecording(f"{path} is no recording of version {VERSION}: {error}", field="from") from error


def _record(line: str, number: int, path: Path) -> Record:
    try:
        r = json.loads(line)
        at = _EPOCH + timedelta(milliseconds=r["timestamp"])
        key = None if r["key"] is None else b64decode(r["key"])
        headers = tuple((name, b64decode(value)) for name, value in r["headers"])
        return Record(r["topic"], r["partition"], r["offset"], at, key, b64decode(r["value"]), headers)
    except (ValueError, KeyError, TypeError) as error:
        raise BrokenRecording(f"{path}: line {number} is no record: {error}", field="from") from error


def _line(record: Record) -> dict[str, Any]:
    return {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp": (record.timestamp - _EPOCH) // timedelta(milliseconds=1),
        "key": None if record.key is None else b64encode(record.key).decode(),
        "headers": [[name, b64encode(value).decode()] for name, value in record.headers],
        "value": b64encode(record.value).decode(),
    }


async def export(
    source: Source, names: Sequence[str], path: Path, begun: Callable[[int], None], passed: Callable[[int], None]
) -> int:
    """Write a recording; returns how many records. The same records give the same bytes. The file is whole or not
    there. Raises `BrokenRecording` when it cannot be written there, `Unavailable` without Kafka.
    """
    count, draft = 0, path.with_name(f"{path.name}.part")
    try:
        raw = draft.open("wb")  # before Kafka is asked, whose errors are of the same kind
    except OSError as error:
        raise BrokenRecording(f"{path} cannot be written: {why_unreadable(error)}", field="to") from error
    try:
        async with source.open(names) as held:
            begun(held.total)
            with raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as out:
                head = {"format": FORMAT, "version": VERSION, "partitions": [asdict(one) for one in held.stretches]}
                out.write(f"{json.dumps(head)}\n".encode())
                async for record, steps in held.records():
                    out.write(f"{json.dumps(_line(record), separators=(',', ':'))}\n".encode())
                    count += 1
                    passed(steps)
        draft.replace(path)
    finally:
        raw.close()
        draft.unlink(missing_ok=True)
    return count
