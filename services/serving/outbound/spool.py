"""A queue on disk: what is appended comes out in the same order, also after a kill, until it is acknowledged.

Segments are files of records, each behind its length and CRC-32; a torn or damaged tail ends its segment. When the
bound is reached the oldest segment is given up, and what was in it is counted.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.common.telemetry import log

HEADER: Final = struct.Struct("<II")
COUNT: Final = struct.Struct("<Q")
TALLY: Final = struct.Struct("<QQ")
SEGMENT_BYTES: Final = 8 << 20
POSITION: Final = "position"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Between two records."""

    segment: int
    offset: int


class Spool:
    """Used by one process, one call at a time."""

    def __init__(self, folder: Path, limit_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        """Opens what a process before left. `limit_bytes`: of all segments, at least two of them."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._limit = max(limit_bytes, 2 * segment_bytes)
        self._sizes = {number: self._path(number).stat().st_size for number in self._numbers()}
        self._read_to = self._stored_position()
        self._current = max(self._sizes, default=self._read_to.segment) + 1
        self.given_up = 0
        """Records that were given up since this was opened."""

    @property
    def size(self) -> int:
        """What lies on disk."""
        return sum(self._sizes.values())

    def append(self, records: Sequence[bytes]) -> None:
        """Write them to the system. Raises `OSError`; then some of them may be written, and none is half there."""
        for start in range(0, len(records), 256):
            self._write(records[start : start + 256])

    def read(self, most: int) -> tuple[list[bytes], Place]:
        """The oldest records that are not acknowledged, and the place behind them."""
        found: list[bytes] = []
        place = self._read_to
        for number in sorted(self._sizes):
            if number < place.segment:
                continue
            start = place.offset if number == place.segment else 0
            for record, end in self._records(number, start):
                found.append(record)
                place = Place(number, end)
                if len(found) == most:
                    return found, place
        return found, place

    def acknowledge(self, place: Place) -> None:
        """What lies before the place is done; whole segments before it go."""
        self._read_to = place
        part = self._folder / f"{POSITION}.part"
        part.write_text(f"{place.segment} {place.offset}")
        part.replace(self._folder / POSITION)
        for number in [number for number in self._sizes if number < place.segment]:
            self._remove(number)

    def _write(self, records: Sequence[bytes]) -> None:
        data = b"".join(HEADER.pack(len(record), zlib.crc32(record)) + record for record in records)
        if self._sizes.get(self._current, 0) + len(data) > self._segment_bytes:
            self._current += 1
        self._make_room(len(data))
        before = self._sizes.get(self._current, 0)
        with self._path(self._current).open("ab", buffering=0) as file:
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, "the disk took a part of it")
            except OSError:
                file.truncate(before)
                raise
        self._sizes[self._current] = before + len(data)

    def _make_room(self, size: int) -> None:
        while self.size + size > self._limit and len(self._sizes) > 1:
            oldest = min(self._sizes)
            start = self._read_to.offset if oldest == self._read_to.segment else 0
            lost = sum(1 for _ in self._records(oldest, start)) if oldest >= self._read_to.segment else 0
            self.given_up += lost
            log.error("spool_full", given_up=lost, limit_bytes=self._limit, folder=str(self._folder))
            self._remove(oldest)
            if self._read_to.segment <= oldest:
                self.acknowledge(Place(oldest + 1, 0))

    def _records(self, number: int, start: int) -> Iterator[tuple[bytes, int]]:
        data = self._path(number).read_bytes()
        place = start
        while place + HEADER.size <= len(data):
            size, check = HEADER.unpack_from(data, place)
            record = data[place + HEADER.size : place + HEADER.size + size]
            if len(record) != size or zlib.crc32(record) != check:
                log.error("spool_damaged", segment=number, offset=place, bytes=len(data) - place)
                return
            place += HEADER.size + size
            yield record, place

    def _remove(self, number: int) -> None:
        self._path(number).unlink(missing_ok=True)
        self._sizes.pop(number, None)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:012d}.log"

    def _numbers(self) -> list[int]:
        return [int(path.stem) for path in self._folder.glob("*.log") if path.stem.isdigit()]

    def _stored_position(self) -> Place:
        try:
            segment, offset = map(int, (self._folder / POSITION).read_text().split())
        except (OSError, ValueError):
            return Place(min(self._sizes, default=0), 0)
        return Place(segment, offset)


class Tally:
    """How many calls were noted and how many reached the disk, in memory that survives a kill of the process."""

    def __init__(self, path: Path) -> None:
        """Opens what a process before left, and begins anew."""
        with path.open("a+b") as file:
            file.truncate(TALLY.size)
            self._memory = mmap.mmap(file.fileno(), TALLY.size)
        noted, kept = TALLY.unpack_from(self._memory)
        self.lost: Final = max(0, noted - kept)
        """Calls that the process before noted and had no time to write."""
        self._noted = itertools.count(1)
        TALLY.pack_into(self._memory, 0, 0, 0)

    def note(self) -> None:
        """One more; from any thread."""
        COUNT.pack_into(self._memory, 0, next(self._noted))

    def kept(self, count: int) -> None:
        """So many more are on disk, or were dropped and counted."""
        (before,) = COUNT.unpack_from(self._memory, COUNT.size)
        COUNT.pack_into(self._memory, COUNT.size, before + count)

    def close(self) -> None:
        """The file stays."""
        self._memory.close()
