"""Where the object store keeps its bytes: a local folder, or S3 and alike.

A local file is written beside its place and renamed into it by our own threads: that is as quick as obstore for
thousands of small files, and `durability=power` can sync the file and its folders first, which obstore does not.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from services.common.errors import NotFound, Transient, Unavailable
from services.common.settings import Durability

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Remote

T = TypeVar("T")

READERS: Final = 2
SYNCING_WRITERS: Final = 4
"""Without syncing one writer is quickest: the threads would only wait for the interpreter's lock."""
AT_ONCE: Final = 32
"""Requests to a remote store under way at one time."""
_BESIDE: Final = count()
"""Numbers the unfinished files of this process: two stores on one folder must not share a name."""


class Files(Protocol):
    """Named bytes; writes are whole or absent."""

    async def write(self, items: Sequence[tuple[str, bytes]], *, once: bool) -> None:
        """Write all; with `once`, what is there at full length stays as it is."""

    async def read(self, paths: Sequence[str]) -> list[bytes]:
        """In the order given. Raises `NotFound`."""

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`. Raises `NotFound`."""

    async def exists(self, path: str) -> bool:
        """Whether it is there."""

    async def delete(self, path: str) -> None:
        """What is not there is deleted already."""

    async def close(self) -> None:
        """Let go of threads and connections."""


class LocalFiles:
    """A folder; a batch is one piece of work for a thread."""

    def __init__(self, root: Path, durability: Durability) -> None:
        """The folder is made when it is first written to."""
        self._root = str(root)
        self._sync = durability == "power"
        writers = SYNCING_WRITERS if self._sync else 1
        self._writers = ThreadPoolExecutor(writers, thread_name_prefix="objects-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="objects-reader")
        self._share = 16 if self._sync else 500

    async def write(self, items: Sequence[tuple[str, bytes]], *, once: bool) -> None:
        """Beside its place, then renamed into it."""
        parts = [items[start : start + self._share] for start in range(0, len(items), self._share)]
        await asyncio.gather(*(self._run(self._writers, partial(self._write_part, part, once)) for part in parts))

    async def read(self, paths: Sequence[str]) -> list[bytes]:
        """The whole files."""
        return await self._run(self._readers, lambda: [self._place(path).read_bytes() for path in paths])

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """A part of the file."""

        def work() -> bytes:
            with self._place(path).open("rb") as file:
                file.seek(start)
                return file.read(length)

        return await self._run(self._readers, work)

    async def exists(self, path: str) -> bool:
        """Whether there is a file."""
        return await self._run(self._readers, self._place(path).is_file)

    async def delete(self, path: str) -> None:
        """Unlink it."""
        await self._run(self._writers, partial(self._place(path).unlink, missing_ok=True))

    async def close(self) -> None:
        """Wait for the threads."""
        for pool in (self._writers, self._readers):
            await asyncio.to_thread(pool.shutdown)

    def _place(self, path: str) -> Path:
        return Path(self._root, path)

    async def _run(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except FileNotFoundError as error:
            raise NotFound(
                f"The object store has no {str(error.filename).removeprefix(self._root).lstrip('/')}."
            ) from error
        except OSError as error:
            raise Transient(f"The object store at {self._root} failed: {error}.", reason="OBJECTS_UNUSABLE") from error

    def _write_part(self, items: Sequence[tuple[str, bytes]], once: bool) -> None:
        folders = set()
        for path, data in items:
            place = f"{self._root}/{path}"
            if not (once and _size(place) == len(data)):
                folders.add(self._write_one(place, data))
        if self._sync:
            for folder in folders:
                _sync_folder(folder)

    def _write_one(self, place: str, data: bytes) -> str:
        folder = place.rpartition("/")[0]
        beside = f"{folder}/.{os.getpid()}-{next(_BESIDE)}"
        try:
            descriptor = self._create(folder, beside)
            try:
                _write_all(descriptor, data)
                if self._sync:
                    os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.rename(beside, place)  # noqa: PTH104 - a third of the time is Path's otherwise
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise
        return folder

    def _create(self, folder: str, path: str) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            self._make_folder(folder)
            return os.open(path, flags, 0o644)

    def _make_folder(self, folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        if self._sync:
            for parent in Path(folder).parents:
                _sync_folder(str(parent))
                if str(parent) == self._root:
                    break


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - see rename
    except FileNotFoundError:
        return -1


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class RemoteFiles:
    """S3 and alike, through obstore; a put there is whole and durable when it is answered."""

    def __init__(self, url: str) -> None:
        """Nothing is asked of the store yet."""
        self._url = url
        self._remote: Remote | None = None
        self._slots = asyncio.Semaphore(AT_ONCE)

    def _store(self) -> Remote:
        if self._remote is None:
            from obstore.store import from_url

            self._remote = from_url(self._url)
        return self._remote

    async def write(self, items: Sequence[tuple[str, bytes]], *, once: bool) -> None:
        """A bounded number at a time; the same bytes under the same name are put again."""
        await asyncio.gather(*(self._call(path, partial(self._put, path, data)) for path, data in items))

    async def _put(self, path: str, data: bytes) -> None:
        await self._store().put_async(path, data)

    async def read(self, paths: Sequence[str]) -> list[bytes]:
        """The whole objects."""
        return list(await asyncio.gather(*(self._call(path, partial(self._get, path)) for path in paths)))

    async def _get(self, path: str) -> bytes:
        answer = await self._store().get_async(path)
        return bytes(await answer.bytes_async())

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """A part of the object."""

        async def work() -> bytes:
            return bytes(await self._store().get_range_async(path, start=start, length=length))

        return await self._call(path, work)

    async def exists(self, path: str) -> bool:
        """Asks for its head."""

        async def work() -> bool:
            await self._store().head_async(path)
            return True

        try:
            return await self._call(path, work)
        except NotFound:
            return False

    async def delete(self, path: str) -> None:
        """Remove it."""

        async def work() -> None:
            await self._store().delete_async(path)

        try:
            await self._call(path, work)
        except NotFound:
            return

    async def close(self) -> None:
        """Connections close with the store."""
        self._remote = None

    async def _call(self, path: str, work: Callable[[], Awaitable[T]]) -> T:
        async with self._slots:
            try:
                return await work()
            except FileNotFoundError as error:
                raise NotFound(f"The object store has no {path}.") from error
            except Exception as error:
                raise Unavailable(f"The object store {self._url} does not answer: {error}") from error
