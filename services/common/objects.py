"""Bytes named by what they are: a content-addressed store in a local folder or in S3, by the same calls."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from services.common.errors import InvalidMessage, IrisloopError
from services.common.metrics import OBJECT_BYTES
from services.common.object_files import Files, LocalFiles, RemoteFiles
from services.common.settings import Durability

LARGE_BYTES: Final = 1 << 20
"""From here on a digest is taken in a thread: it would hold the event loop for a millisecond."""
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
MANIFEST: Final = "manifest.json"


class CorruptObject(IrisloopError):
    """The stored bytes are not those that their name says; a copy must be put back."""

    default_reason = "OBJECT_CORRUPT"


def object_path(digest: str) -> str:
    """Where the object lies: `sha256/ab/<digest>`: a second level of folders would cost as much as the
    files, until all 65,536 of them are made. Raises `InvalidMessage` for what is no digest.
    """
    if not DIGEST.fullmatch(digest):
        raise InvalidMessage(f"{digest[:80]!r} is not a lower-case hex SHA-256.", field="digest", reason="BAD_DIGEST")
    return f"sha256/{digest[:2]}/{digest}"


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
        digests = await _digests(items)
        await self._files.write(
            [(object_path(digest), item) for digest, item in zip(digests, items, strict=True)], once=True
        )
        OBJECT_BYTES.labels("put").inc(sum(map(len, items)))
        return digests

    async def get(self, digest: str) -> bytes:
        """The bytes, checked against the digest. Raises `NotFound`, `CorruptObject`."""
        return (await self.get_many([digest]))[0]

    async def get_many(self, digests: Sequence[str]) -> list[bytes]:
        """The bytes of all, in the order given, each checked. Raises `NotFound`, `CorruptObject`."""
        items = await self._files.read([object_path(digest) for digest in digests])
        OBJECT_BYTES.labels("get").inc(sum(map(len, items)))
        for digest, found in zip(digests, await _digests(items), strict=True):
            _check(found, digest, f"object {digest}")
        return items

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
        manifest = await _manifest(files)
        digest = hashlib.sha256(manifest).hexdigest()
        await self._files.write([(f"folders/{digest}/{name}", data) for name, data in files.items()], once=False)
        await self._files.write([(f"folders/{digest}/{MANIFEST}", manifest)], once=False)
        return digest

    async def get_folder(self, digest: str) -> dict[str, bytes]:
        """The files of a folder, each checked against the manifest, and that against the digest."""
        if not DIGEST.fullmatch(digest):
            raise InvalidMessage(f"{digest[:80]!r} is not a digest.", field="digest", reason="BAD_DIGEST")
        (manifest,) = await self._files.read([f"folders/{digest}/{MANIFEST}"])
        _check(hashlib.sha256(manifest).hexdigest(), digest, f"manifest of folder {digest}")
        expected: dict[str, str] = json.loads(manifest)["files"]
        items = await self._files.read([f"folders/{digest}/{name}" for name in expected])
        for name, found in zip(expected, await _digests(items), strict=True):
            _check(found, expected[name], f"file {name} of folder {digest}")
        return dict(zip(expected, items, strict=True))

    async def put_named(self, path: str, data: bytes) -> None:
        """Store under a name of the caller's, replacing what is there."""
        await self._files.write([(f"named/{_check_name(path)}", data)], once=False)

    async def get_named(self, path: str) -> bytes:
        """What `put_named` stored last, unchecked. Raises `NotFound`."""
        return (await self._files.read([f"named/{_check_name(path)}"]))[0]


async def _digests(items: Sequence[bytes]) -> list[str]:
    def work() -> list[str]:
        return [hashlib.sha256(item).hexdigest() for item in items]

    return await asyncio.to_thread(work) if sum(map(len, items)) >= LARGE_BYTES else work()


async def _manifest(files: Mapping[str, bytes]) -> bytes:
    names = sorted(files)
    digests = await _digests([files[name] for name in names])
    listed = {"files": dict(zip(names, digests, strict=True))}
    return json.dumps(listed, sort_keys=True, separators=(",", ":")).encode()


def _check(found: str, expected: str, what: str) -> None:
    if found != expected:
        raise CorruptObject(f"The {what} does not hold the bytes that its digest names: put a good copy back.")


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name) or name == MANIFEST:
        raise InvalidMessage(f"{name[:80]!r} is not a relative path of letters, digits, '.', '_', '-'.", field="path")
    return name
