"""Bytes named by what they are: a content-addressed store in a local folder or in S3, by the same calls.

A local object is written beside its place and renamed into it by our own threads, which is quicker for thousands of
small files than one call each and lets `durability=power` sync the file and its folders first.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeVar
from urllib.parse import urlsplit

from services.common.errors import InvalidMessage, IrisloopError, NotFound, Transient, Unavailable
from services.common.metrics import OBJECT_BYTES
from services.common.settings import Durability

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Remote

T = TypeVar("T")

THREADS: Final = 4
AT_ONCE: Final = 32
"""Requests to a remote store under way at one time."""
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
MANIFEST: Final = "manifest.json"


class CorruptObject(IrisloopError):
    """The stored bytes are not those that their name says; a copy must be put back."""

    default_reason = "OBJECT_CORRUPT"


def object_path(digest: str) -> str:
    """Where the object lies: `sha256/ab/cd/<digest>`. Raises `InvalidMessage` for what is no digest."""
    if not DIGEST.fullmatch(digest):
        raise InvalidMessage(f"{digest[:80]!r} is not a lower-case hex SHA-256.", field="digest", reason="BAD_DIGEST")
    return f"sha256/{digest[:2]}/{digest[2:4]}/{digest}"


class Files(Protocol):
    """Named bytes; writes are whole or absent."""

    async def write(self, items: Sequence[tuple[str, bytes]], *, once: bool) -> None:
        """Write all; with `once`, what is there at full length stays as it is."""

    async def read(self, path: str) -> bytes:
        """Raises `NotFound`."""

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`. Raises `NotFound`."""

    async def exists(self, path: str) -> bool:
        """Whether it is there."""

    async def delete(self, path: str) -> None:
        """What is not there is deleted already."""

    async def close(self) -> None:
        """Let go of threads and connections."""


class ObjectStore:
    """Content-addressed objects, folders of them, and a few named files beside."""

    def __init__(self, url: str, durability: Durability = "process") -> None:
        """`url` is a folder, a file:// URL, or s3://bucket/prefix (credentials and endpoint from AWS_* variables)."""
        scheme = urlsplit(url).scheme
        self._files: Files
        if scheme in ("", "file"):
            self._files = LocalFiles(Path(urlsplit(url).path if scheme else url).absolute(), durability)
        else:
            self._files = RemoteFiles(url)

    async def __aenter__(self) -> Self:
        """Nothing to wait for: the store is looked for when it is used."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Finish what is under way."""
        await self._files.close()

    async def put(self, data: bytes) -> str:
        """Store and return the digest (lower-case hex SHA-256). Storing it again changes nothing."""
        return (await self.put_many([data]))[0]

    async def put_many(self, items: Sequence[bytes]) -> list[str]:
        """Store all, in no order, and return their digests in the order given; durable when it returns."""
        digests = [hashlib.sha256(item).hexdigest() for item in items]
        await self._files.write(
            [(object_path(digest), item) for digest, item in zip(digests, items, strict=True)], once=True
        )
        OBJECT_BYTES.labels("put").inc(sum(map(len, items)))
        return digests

    async def get(self, digest: str) -> bytes:
        """The bytes, checked against the digest. Raises `NotFound`, `CorruptObject`."""
        data = await self._files.read(object_path(digest))
        OBJECT_BYTES.labels("get").inc(len(data))
        return _verified(data, digest, f"object {digest}")

    async def open_range(self, digest: str, start: int, length: int) -> bytes:
        """At most `length` bytes from `start`, unchecked: a part has no digest. Raises `NotFound`."""
        return await self._files.read_range(object_path(digest), start, length)

    async def exists(self, digest: str) -> bool:
        """Whether the object is there."""
        return await self._files.exists(object_path(digest))

    async def delete(self, digest: str) -> None:
        """Remove the object; what is not there is removed already."""
        await self._files.delete(object_path(digest))

    async def put_folder(self, files: Mapping[str, bytes]) -> str:
        """Store files under `folders/<digest>/`, the digest being that of their sorted manifest, written last."""
        for name in files:
            _check_name(name)
        manifest = _manifest(files)
        digest = hashlib.sha256(manifest).hexdigest()
        await self._files.write([(f"folders/{digest}/{name}", data) for name, data in files.items()], once=False)
        await self._files.write([(f"folders/{digest}/{MANIFEST}", manifest)], once=False)
        return digest

    async def get_folder(self, digest: str) -> dict[str, bytes]:
        """The files of a folder, each checked against the manifest, and that against the digest."""
        if not DIGEST.fullmatch(digest):
            raise InvalidMessage(f"{digest[:80]!r} is not a digest.", field="digest", reason="BAD_DIGEST")
        manifest = await self._files.read(f"folders/{digest}/{MANIFEST}")
        _verified(manifest, digest, f"manifest of folder {digest}")
        files: dict[str, bytes] = {}
        for name, expected in json.loads(manifest)["files"].items():
            data = await self._files.read(f"folders/{digest}/{name}")
            files[name] = _verified(data, expected, f"file {name} of folder {digest}")
        return files

    async def put_named(self, path: str, data: bytes) -> None:
        """Store under a name of the caller's, replacing what is there."""
        await self._files.write([(f"named/{_check_name(path)}", data)], once=False)

    async def get_named(self, path: str) -> bytes:
        """What `put_named` stored last, unchecked. Raises `NotFound`."""
        return await self._files.read(f"named/{_check_name(path)}")


def _manifest(files: Mapping[str, bytes]) -> bytes:
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    return json.dumps({"files": digests}, sort_keys=True, separators=(",", ":")).encode()


def _verified(data: bytes, digest: str, what: str) -> bytes:
    if hashlib.sha256(data).hexdigest() != digest:
        raise CorruptObject(f"The {what} does not hold the bytes that its digest names: put a good copy back.")
    return data


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name) or name == MANIFEST:
        raise InvalidMessage(f"{name[:80]!r} is not a relative path of letters, digits, '.', '_', '-'.", field="path")
    return name


class LocalFiles:
    """A folder; many small files are written by a few threads, a share of the batch each."""

    def __init__(self, root: Path, durability: Durability) -> None:
        """The folder is made when it is first written to."""
        self._root = str(root)
        self._sync = durability == "power"
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="objects")
        self._numbers = count()
        self._known_folders: set[str] = set()
        self._prefix = f".{os.getpid()}-{threading.get_ident()}-"

    async def write(self, items: Sequence[tuple[str, bytes]], *, once: bool) -> None:
        """Beside its place, then renamed into it."""
        share = max(16, -(-len(items) // THREADS))
        parts = [items[start : start + share] for start in range(0, len(items), share)]
        await asyncio.gather(*(self._run(lambda part=part: self._write_part(part, once)) for part in parts))

    async def read(self, path: str) -> bytes:
        """The whole file."""

        def work() -> bytes:
            with open(os.path.join(self._root, path), "rb") as file:
                return file.read()

        return await self._run(work)

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """A part of the file."""

        def work() -> bytes:
            with open(os.path.join(self._root, path), "rb") as file:
                file.seek(start)
                return file.read(length)

        return await self._run(work)

    async def exists(self, path: str) -> bool:
        """Whether there is a file."""
        return await self._run(lambda: os.path.isfile(os.path.join(self._root, path)))

    async def delete(self, path: str) -> None:
        """Unlink it."""
        try:
            await self._run(lambda: os.unlink(os.path.join(self._root, path)))
        except NotFound:
            return

    async def close(self) -> None:
        """Wait for the threads."""
        await asyncio.to_thread(self._pool.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        except FileNotFoundError as error:
            raise NotFound(f"The object store has no {os.path.relpath(error.filename, self._root)}.") from error
        except OSError as error:
            raise Transient(f"The object store at {self._root} failed: {error}.", reason="OBJECTS_UNUSABLE") from error

    def _write_part(self, items: Sequence[tuple[str, bytes]], once: bool) -> None:
        folders = set()
        for path, data in items:
            place = os.path.join(self._root, path)
            if once and _size(place) == len(data):
                continue
            folders.add(self._write_one(place, data))
        if self._sync:
            for folder in folders:
                _sync_folder(folder)

    def _write_one(self, place: str, data: bytes) -> str:
        folder = os.path.dirname(place)
        if folder not in self._known_folders:
            self._make_folder(folder)
        beside = os.path.join(folder, f"{self._prefix}{next(self._numbers)}")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                _write_all(file, data)
                if self._sync:
                    os.fsync(file.fileno())
            os.rename(beside, place)
        except BaseException:
            os.unlink(beside)
            raise
        return folder

    def _make_folder(self, folder: str) -> None:
        os.makedirs(folder, exist_ok=True)
        if self._sync:
            parent = folder
            while parent != self._root and len(parent) > 1:
                parent = os.path.dirname(parent)
                _sync_folder(parent)
        self._known_folders.add(folder)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return -1


def _write_all(file: Any, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


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
        async with asyncio.TaskGroup() as group:
            for path, data in items:
                group.create_task(self._put(path, data))

    async def _put(self, path: str, data: bytes) -> None:
        await self._call(path, lambda: self._store().put_async(path, data))

    async def read(self, path: str) -> bytes:
        """The whole object."""

        async def work() -> bytes:
            return bytes(await (await self._store().get_async(path)).bytes_async())

        return await self._call(path, work)

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """A part of the object."""

        async def work() -> bytes:
            return bytes(await self._store().get_range_async(path, start=start, length=length))

        return await self._call(path, work)

    async def exists(self, path: str) -> bool:
        """Asks for its head."""
        try:
            await self._call(path, lambda: self._store().head_async(path))
        except NotFound:
            return False
        return True

    async def delete(self, path: str) -> None:
        """Remove it."""
        try:
            await self._call(path, lambda: self._store().delete_async(path))
        except NotFound:
            return

    async def close(self) -> None:
        """Connections close with the store."""
        self._remote = None

    async def _call(self, path: str, work: Callable[[], Any]) -> Any:
        async with self._slots:
            try:
                return await work()
            except FileNotFoundError as error:
                raise NotFound(f"The object store has no {path}.") from error
            except Exception as error:
                raise Unavailable(f"The object store {self._url} does not answer: {error}") from error
