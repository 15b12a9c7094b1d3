"""The writing end of the spool: calls on disk in the order in which they were noted, until the broker has them.

A folder of segments, files that only grow; each can be read by itself. What the reading end has acknowledged goes, a
segment at a time. Beyond the bound the oldest segment is given up, and its events are counted.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.common.errors import Unavailable
from services.common.telemetry import log
from services.serving.outbound.spool_reading import (
    Place,
    Position,
    read_head,
    read_position,
    segment_numbers,
    segment_path,
)
from services.serving.outbound.spool_records import (
    Head,
    Layout,
    Note,
    call_frame,
    head_frame,
    layout_frame,
    numbers_of,
    tensor_of,
)

SEGMENT_BYTES: Final = 8 << 20
"""An eighth of it is written at once, so that memory holds no second copy of a long backlog."""
MOST_LAYOUTS: Final = 10_000
WRITER_LOCK: Final = "writer.lock"


@dataclass(slots=True)
class _Segment:
    """The segment that grows."""

    number: int
    file: int
    first: int
    size: int = 0
    layouts: dict[Hashable, tuple[int, object]] = field(default_factory=dict)
    """By what a call looks like: the number that stands for it here, and the card, whose id is part of the key."""


class Spool:
    """Used by one process, one call at a time. Its numbers are of events."""

    def __init__(
        self, folder: Path, limit_bytes: int, stream: str, *, segment_bytes: int = SEGMENT_BYTES, sync: bool = False
    ) -> None:
        """Opens what a process before left, without its torn end. `limit_bytes`: of all segments, at least two of
        them; `sync`: also survive a power cut.

        Raises `OSError`; `Unavailable` while another process writes here.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = locked(folder / WRITER_LOCK)
        self._folder = folder
        self._stream = stream
        self._segment_bytes = segment_bytes
        self._limit = max(limit_bytes, 2 * segment_bytes)
        self._chunk_bytes = segment_bytes // 8
        self._sync = sync
        self.given_up = 0
        """Events that had to be given up since this was opened."""
        numbers = segment_numbers(folder)
        self.last_stream, self.last_number = _recovered(folder, numbers[-1]) if numbers else ("", 0)
        """The stream and the number behind the last event that the process before brought to disk."""
        self._sizes = {number: segment_path(folder, number).stat().st_size for number in numbers}
        self._heads: dict[int, Head] = {}
        newest = max(numbers[-1] if numbers else 0, read_position(folder).place.segment)
        self._next = newest + 1
        self._segment: _Segment | None = None

    @property
    def size(self) -> int:
        """What lies on disk, bytes."""
        return sum(self._sizes.values())

    def append(self, notes: Sequence[Note], start: int = 0) -> int:
        """Write some of the notes from the start on; returns the place of the first that is left.

        Raises `OSError`; then none of these is on disk.
        """
        if self._segment is not None and self._is_full(self._segment):
            self._end_segment()
        if self._segment is None:
            self._make_room()
        segment = self._segment or self._begin_segment(notes[start].number)
        known = dict(segment.layouts)
        data, end = _packed(segment, notes, start, self._chunk_bytes)
        try:
            self._write(segment, data)
        except OSError:
            segment.layouts = known
            self._undo(segment)
            raise
        return end

    def forget(self, position: Position) -> None:
        """Remove what is acknowledged."""
        open_number = self._segment.number if self._segment else -1
        done = [
            number
            for number, size in self._sizes.items()
            if number != open_number and Place(number, size) <= position.place
        ]
        for number in done:
            self._remove(number)

    def waiting(self, position: Position) -> int:
        """Bytes that are not acknowledged."""
        place = position.place
        return sum(
            size - min(size, place.offset) if number == place.segment else size
            for number, size in self._sizes.items()
            if number >= place.segment
        )

    def close(self) -> None:
        """The files stay."""
        if self._segment is not None:
            self._end_segment()
        os.close(self._lock)

    def _begin_segment(self, first: int) -> _Segment:
        number, head = self._next, Head(self._stream, first)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        file = os.open(segment_path(self._folder, number), flags, 0o644)
        self._next += 1
        self._segment = segment = _Segment(number, file, first)
        self._sizes[number] = 0
        self._heads[number] = head
        return segment

    def _write(self, segment: _Segment, data: bytes) -> None:
        if not segment.size:
            data = head_frame(self._heads[segment.number]) + data
        view = memoryview(data)
        while view:
            written = os.write(segment.file, view)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            view = view[written:]
        if self._sync:
            os.fdatasync(segment.file)
        segment.size += len(data)
        self._sizes[segment.number] = segment.size

    def _undo(self, segment: _Segment) -> None:
        """Take back what was half written; where that fails too, the next call begins another segment."""
        try:
            os.ftruncate(segment.file, segment.size)
        except OSError as error:
            log.error("spool_not_truncated", segment=segment.number, error=str(error))
            self._end_segment()
            return
        if not segment.size:
            self._end_segment()
            self._remove(segment.number)

    def _end_segment(self) -> None:
        assert self._segment is not None
        os.close(self._segment.file)
        self._segment = None

    def _is_full(self, segment: _Segment) -> bool:
        return segment.size + self._chunk_bytes > self._segment_bytes or len(segment.layouts) >= MOST_LAYOUTS

    def _make_room(self) -> None:
        """For one more segment."""
        while self._sizes and self.size + self._segment_bytes > self._limit:
            oldest = min(self._sizes)
            lost = self._unacknowledged(oldest)
            if lost:
                log.error("spool_full", given_up=lost, limit_bytes=self._limit, folder=str(self._folder))
            self.given_up += lost
            self._remove(oldest)

    def _unacknowledged(self, number: int) -> int:
        """Events of a segment that is not the one that grows, of those that the broker does not have."""
        position = read_position(self._folder)
        head = self._head(number)
        if head is None or Place(number, self._sizes[number]) <= position.place:
            return 0
        done = position.number if position.stream == head.stream else 0
        return max(0, self._behind(number, head) - max(head.first, done))

    def _behind(self, number: int, head: Head) -> int:
        """The number behind the segment's last event: where the next begins, for there are no gaps."""
        later = self._head(min((other for other in self._sizes if other > number), default=-1))
        if later is not None and later.stream == head.stream:
            return later.first
        data = segment_path(self._folder, number).read_bytes()
        return max((end for _, end, _ in numbers_of(data)), default=head.first)

    def _head(self, number: int) -> Head | None:
        if number not in self._heads:
            head = read_head(segment_path(self._folder, number))
            if head is None:
                return None
            self._heads[number] = head
        return self._heads[number]

    def _remove(self, number: int) -> None:
        segment_path(self._folder, number).unlink(missing_ok=True)
        self._sizes.pop(number, None)
        self._heads.pop(number, None)


def locked(path: Path) -> int:
    """Hold the lock until the file is closed or the process ends. Raises `Unavailable` while another one does."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise Unavailable(f"another process uses the spool {path.parent}") from error
    return file


def _recovered(folder: Path, number: int) -> tuple[str, int]:
    """Cut the newest segment's torn end off; the stream, and the number behind its last event."""
    path = segment_path(folder, number)
    data = path.read_bytes()
    calls = [(behind, end) for _, behind, end in numbers_of(data)]
    head = read_head(path)
    whole = calls[-1][1] if calls else 0
    if whole < len(data):
        log.error("spool_cut", segment=number, offset=whole, bytes=len(data) - whole)
        os.truncate(path, whole)
    return (head.stream, calls[-1][0]) if head is not None and calls else ("", 0)


def _packed(segment: _Segment, notes: Sequence[Note], start: int, most_bytes: int) -> tuple[bytes, int]:
    """The frames of a chunk's worth of notes, and the place of the first that is left."""
    frames: list[bytes] = []
    size = 0
    for place in range(start, len(notes)):
        if size >= most_bytes:
            return b"".join(frames), place
        note = notes[place]
        frame = call_frame(_layout(segment, note, frames), note)
        frames.append(frame)
        size += len(frame)
    return b"".join(frames), len(notes)


def _layout(segment: _Segment, note: Note, frames: list[bytes]) -> int:
    """The number of the note's layout in the segment, which a frame of its own describes when it is new there."""
    scores, embedding = note.scores, note.embedding
    key = (note.model, note.version, id(note.card), scores and scores[:2], embedding and embedding[:2])
    known = segment.layouts.get(key)
    if known is not None:
        return known[0]
    number = len(segment.layouts)
    segment.layouts[key] = (number, note.card)
    layout = Layout(note.model, note.version, note.card, tensor_of(scores), tensor_of(embedding))
    frames.append(layout_frame(number, layout))
    return number
