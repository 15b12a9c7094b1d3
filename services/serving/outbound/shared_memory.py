"""System shared memory that clients made and registered (POSIX, /dev/shm): tensors are read where they lie.

Every use asks for the segment's present size first, since touching pages beyond the end of a segment that was cut would
end the process (SIGBUS). A client that cuts its own segment between that look and the read can still do so; only a
process that may write this machine's shared memory can.
"""

from __future__ import annotations

import mmap
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.serving.domain.ports import RegionStatus
from services.serving.domain.tensors import Region
from services.serving.errors import BadRequest, RegionTaken, UnknownRegion

FOLDER: Final = Path("/dev/shm")
KEY: Final = re.compile(r"/?[A-Za-z0-9][A-Za-z0-9._-]{0,250}")
MOST_REGIONS: Final = 4096
MOST_BYTES: Final = 64 << 30
"""Of all regions together; it is address space, the memory belongs to the clients."""
LONGEST_NAME: Final = 256


@dataclass(frozen=True, slots=True)
class _Segment:
    """A region that is registered; its mapping lives as long as somebody looks at it."""

    status: RegionStatus
    file: int
    view: memoryview


class SystemRegions:
    """Implements `RegionManager`; safe from any thread. A region that is unregistered while it is read stays mapped."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._segments: dict[str, _Segment] = {}

    def register(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Map `byte_size` bytes from `offset` of the segment `key`. Raises `BadRequest`, `RegionTaken`."""
        if not 0 < len(name) <= LONGEST_NAME:
            raise BadRequest(f"a shared memory region needs a name of 1 to {LONGEST_NAME} characters", field="name")
        with self._lock:
            if name in self._segments:
                raise RegionTaken(f"shared memory region '{name}' already in manager")
            segment = self._mapped(RegionStatus(name, key, offset, byte_size))
            held = sum(one.status.byte_size for one in self._segments.values())
            if len(self._segments) >= MOST_REGIONS or held + byte_size > MOST_BYTES:
                os.close(segment.file)
                raise BadRequest("too many shared memory regions are registered; unregister some", field="name")
            self._segments[name] = segment

    def unregister(self, name: str = "") -> None:
        """Forget the region, all of them for ""; one that is not known is forgotten already."""
        with self._lock:
            names = [name] if name else list(self._segments)
            for one in names:
                segment = self._segments.pop(one, None)
                if segment is not None:
                    os.close(segment.file)

    def status(self, name: str = "") -> Sequence[RegionStatus]:
        """The region, or all. Raises `UnknownRegion`."""
        with self._lock:
            if name and name not in self._segments:
                raise UnknownRegion(
                    f"Unable to find system shared memory region: '{name[:LONGEST_NAME]}'", field="name"
                )
            return [segment.status for one, segment in sorted(self._segments.items()) if name in ("", one)]

    def read(self, region: Region) -> memoryview:
        """The bytes, not copied. Raises `UnknownRegion`, `BadRequest`."""
        return self._view(region).toreadonly()

    def write(self, region: Region, data: bytes | memoryview) -> None:
        """Copy the bytes in. Raises `UnknownRegion`, `BadRequest`."""
        if len(data) > region.byte_size:
            raise BadRequest(
                f"shared memory size specified with the request for the output ({region.byte_size} bytes) should be at "
                f"least {len(data)} bytes to hold the results",
                field="outputs",
            )
        self._view(region)[: len(data)] = data

    def _view(self, region: Region) -> memoryview:
        with self._lock:
            segment = self._segments.get(region.name)
            if segment is None:
                raise UnknownRegion(
                    f"Unable to find shared memory region: '{region.name[:LONGEST_NAME]}'", field="shared_memory_region"
                )
            size, held = segment.status.byte_size, os.fstat(segment.file).st_size
        if not 0 <= region.offset < size:
            raise BadRequest(f"Invalid offset for shared memory region: '{region.name}'", field="shared_memory_offset")
        end = region.offset + region.byte_size
        if region.byte_size <= 0 or end > size or segment.status.offset + end > held:
            raise BadRequest(
                f"Invalid offset + byte size for shared memory region: '{region.name}'", field="shared_memory_byte_size"
            )
        return segment.view[region.offset : end]

    def _mapped(self, status: RegionStatus) -> _Segment:
        if not KEY.fullmatch(status.key):
            raise BadRequest(f"Unable to open shared memory region: '{status.key[:LONGEST_NAME]}'", field="key")
        path = self._folder / status.key.removeprefix("/")
        try:
            file = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BadRequest(
                f"Unable to open shared memory region: '{status.key}' ({error.strerror})", field="key"
            ) from error
        try:
            return _Segment(status, file, _view_of(file, status))
        except BaseException:
            os.close(file)
            raise


def _view_of(file: int, status: RegionStatus) -> memoryview:
    held = os.fstat(file).st_size
    if status.offset < 0 or status.byte_size <= 0 or status.offset + status.byte_size > held:
        raise BadRequest(
            f"Invalid shared memory region: '{status.key}' holds {held} bytes; {status.byte_size} bytes from "
            f"{status.offset} do not lie in it",
            field="byte_size",
        )
    begin = status.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    lead = status.offset - begin
    try:
        mapped = mmap.mmap(file, lead + status.byte_size, offset=begin)
    except (OSError, ValueError) as error:
        raise BadRequest(f"Invalid shared memory region: '{status.key}' ({error})", field="key") from error
    return memoryview(mapped)[lead:]
