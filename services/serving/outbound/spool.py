"""A queue on disk between two processes: what one appends the other reads in the same order, also after a kill of
either, until it is acknowledged.

Segments are files of records, each behind its length and CRC-32; a torn or damaged tail ends its segment. When the
bound is reached the oldest segment is given up, and what was in it is counted.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.common.telemetry import log

HEADER: Final = struct.Struct("<II")
COUNT: Final = struct.Struct("<Q")
TALLY: Final = struct.Struct("<QQ")
SEGMENT_BYTES: Final = 8 << 20
POSITION: Final = "position"
SUFFIX: Final = ".notes"
"""Of segments; other files of the folder are left alone."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Between two records; `done` counts what was acknowledged before it since the folder was new, `lost` what could
    not be handled.
    """

    segment: int
    offset: int
    done: int = 0
    lost: int = 0


class SpoolWriter:
    """Used by one process, one call at a time."""

    def __init__(
        self, folder: Path, limit_bytes: int, weight: Callable[[bytes], int], segment_bytes: int = SEGMENT_BYTES
    ) -> None:
        """Opens what a process before left. `limit_bytes`: of all segments, at least two of them; `weight`: what a
        record counts for when it is given up.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._weight = weight
        self._segment_bytes = segment_bytes
        self._limit = max(limit_bytes, 2 * segment_bytes)
        self._current = max(numbers(folder), default=position(folder).segment) + 1
        self._written = 0
        self.given_up = 0
        """What was given up since this was opened."""

    @property
    def limit(self) -> int:
        """Bytes."""
        return self._limit

    def size(self) -> int:
        """Bytes on disk that are not acknowledged."""
        place = position(self._folder)
        sizes = self._sizes()
        read = min(place.offset, sizes.get(place.segment, 0))
        return sum(size for number, size in sizes.items() if number >= place.segment) - read

    def append(self, records: Sequence[bytes]) -> None:
        """Write them to the system. Raises `OSError`; then some of them may be written, and none is half there."""
        for start in range(0, len(records), 256):
            self._write(records[start : start + 256])

    def _write(self, records: Sequence[bytes]) -> None:
        data = b"".join(HEADER.pack(len(record), zlib.crc32(record)) + record for record in records)
        if self._written and self._written + len(data) > self._segment_bytes:
            self._current, self._written = self._current + 1, 0
        if not self._written:  # for a whole segment: each look at the folder costs the flush a few turns at the lock
            self._make_room(max(len(data), self._segment_bytes))
        with path_of(self._folder, self._current).open("ab", buffering=0) as file:
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, "the disk took a part of it")
            except OSError:
                file.truncate(self._written)
                raise
        self._written += len(data)

    def _make_room(self, size: int) -> None:
        sizes = self._sizes()
        while sum(sizes.values()) + size > self._limit and len(sizes) > 1:
            oldest = min(sizes)
            del sizes[oldest]
            self._give_up(oldest)

    def _give_up(self, number: int) -> None:
        """What the reader has in hand of it is published and counted here as well."""
        place = position(self._folder)
        start = place.offset if number == place.segment else 0
        path = path_of(self._folder, number)
        lost = sum(self._weight(record) for record, _ in records_of(path, start)) if number >= place.segment else 0
        path.unlink(missing_ok=True)
        self.given_up += lost
        log.error("spool_full", given_up=lost, limit_bytes=self._limit, folder=str(self._folder))

    def _sizes(self) -> dict[int, int]:
        found: dict[int, int] = {}
        for number in numbers(self._folder):
            try:
                found[number] = path_of(self._folder, number).stat().st_size
            except FileNotFoundError:  # the reader was done with it just now
                continue
        return found


class SpoolReader:
    """Used by one process, one call at a time; it need not be the writer's."""

    def __init__(self, folder: Path) -> None:
        """Begins behind what was acknowledged."""
        self._folder = folder
        self._at = position(folder)
        self._ready: Iterator[tuple[bytes, int]] = iter(())

    def read(self, most: int) -> tuple[list[bytes], Place]:
        """The next records, as they follow those read before, and the place behind them."""
        found: list[bytes] = []
        while len(found) < most:
            record = next(self._ready, None)
            if record is not None:
                found.append(record[0])
                self._at = replace(self._at, offset=record[1])
            elif not self._more():
                break
        return found, self._at

    def back(self) -> None:
        """Read again what was not acknowledged."""
        self._at, self._ready = position(self._folder), iter(())

    def acknowledge(self, place: Place, done: int, lost: int = 0) -> None:
        """What lies before the place is done with, and counts for so many; whole segments before it go."""
        self._at = replace(self._at, done=self._at.done + done, lost=self._at.lost + lost)
        part = self._folder / f"{POSITION}.part"
        part.write_text(f"{place.segment} {place.offset} {self._at.done} {self._at.lost}")
        part.replace(self._folder / POSITION)
        for number in numbers(self._folder):
            if number < place.segment:
                path_of(self._folder, number).unlink(missing_ok=True)

    def _more(self) -> bool:
        """Whether there are records after the present place, in this segment or a later one."""
        at = self._at
        present = [number for number in numbers(self._folder) if number >= at.segment]
        for number in sorted(present):
            start = at.offset if number == at.segment else 0
            records = list(records_of(path_of(self._folder, number), start))
            if records:
                self._at = replace(at, segment=number, offset=start)
                self._ready = iter(records)
                return True
            if number != max(present):
                self._warn_of_rest(number, start)
        return False

    def _warn_of_rest(self, number: int, start: int) -> None:
        """A later segment exists: what is left here is the torn or damaged end."""
        try:
            rest = path_of(self._folder, number).stat().st_size - start
        except FileNotFoundError:
            return
        if rest:
            log.error("spool_damaged", segment=number, offset=start, bytes=rest)


def records_of(path: Path, start: int) -> Iterator[tuple[bytes, int]]:
    """Records and where each ends, up to the first that is not whole."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read()
    except FileNotFoundError:
        return
    place = 0
    while place + HEADER.size <= len(data):
        size, check = HEADER.unpack_from(data, place)
        record = data[place + HEADER.size : place + HEADER.size + size]
        if len(record) != size or zlib.crc32(record) != check:
            return
        place += HEADER.size + size
        yield record, start + place


def path_of(folder: Path, number: int) -> Path:
    """A segment's file."""
    return folder / f"{number:012d}{SUFFIX}"


def numbers(folder: Path) -> list[int]:
    """Of the segments that are there."""
    return [int(path.stem) for path in folder.glob(f"*{SUFFIX}") if path.stem.isdigit()]


def position(folder: Path) -> Place:
    """Up to where everything is acknowledged."""
    try:
        segment, offset, done, lost = map(int, (folder / POSITION).read_text().split())
    except (OSError, ValueError):
        return Place(min(numbers(folder), default=0), 0)
    return Place(segment, offset, done, lost)


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
