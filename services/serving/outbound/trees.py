"""Where a model repository lies: a folder of this machine, or S3 and alike through obstore.

Paths are relative, `/`-separated, "" for the root, and have passed `checked`; a link out of the root is refused.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, ParamSpec, Protocol, TypeVar

from services.common.errors import IrisloopError, NotFound, Unavailable
from services.serving.errors import BadPackage

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Remote

T = TypeVar("T")
P = ParamSpec("P")
SEGMENT: Final = re.compile(r"[^\x00-\x1f\x7f/\\\ud800-\udfff]{1,255}")
MOST_FILES: Final = 20_000
"""Of one model; more is a sign that the folder is no model."""
MOST_DEPTH: Final = 8
AT_ONCE: Final = 8
CHUNK: Final = 8 << 20
COMPLETE: Final = ".complete"


def is_inside(path: str) -> bool:
    """Whether a path stays below where it begins: relative, without "..", "\\" and what cannot be printed."""
    parts = path.split("/")
    return len(path) <= 1024 and all(SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts)


def checked(path: str, what: str) -> str:
    """The path, once it is sure that it stays below where it begins. Raises `BadPackage`; `what` names the field."""
    if not is_inside(path):
        raise BadPackage(
            f"{what} {path[:80]!r} must be a relative path inside of the model repository, without '..' and '\\'.",
            field=what,
        )
    return path


def joined(*parts: str) -> str:
    """The parts as one path; empty ones are left out."""
    return "/".join(part for part in parts if part)


class Tree(Protocol):
    """Folders and files below a root; reading only."""

    async def folders(self, path: str) -> list[str]:
        """Names of the folders directly in a folder, sorted, without hidden ones and those that no call can name."""

    async def walk(self, path: str) -> dict[str, str]:
        """{path relative to `path`: what changes when the file does} of all files below; {} when there is none.

        Hidden folders are left out: `.git`, `.ipynb_checkpoints`, the `..data` of a Kubernetes volume.
        """

    async def read(self, path: str, most: int) -> bytes:
        """A file of at most `most` bytes. Raises `NotFound`, `BadPackage`, `Unavailable`."""

    async def local(self, path: str, stamps: Mapping[str, str]) -> Path:
        """The folder `path`, with the files that `walk` found, as a folder of this machine."""

    async def drop(self, path: str) -> None:
        """Forget copies that `local` made of this folder."""


def too_large(path: str, size: int, most: int) -> BadPackage:
    """The sentence about a file that is larger than its kind may be."""
    return BadPackage(f"{path} has {size} bytes; at most {most} are read.", field=path)


class LocalTree:
    """A folder of this machine."""

    def __init__(self, root: Path) -> None:
        """Raises `BadPackage` when there is no such folder."""
        if not root.is_dir():
            raise BadPackage(f"The model repository {root} is no folder.", field="model_repository")
        self._root: Final = root.resolve()

    async def folders(self, path: str) -> list[str]:
        """Links to folders count as folders."""
        return await asyncio.to_thread(_answered, path, self._folders, path)

    def _folders(self, path: str) -> list[str]:
        try:
            with os.scandir(self._place(path)) as entries:
                return sorted(entry.name for entry in entries if _kind(entry) == "folder" and _is_shown(entry.name))
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"The model repository has no folder {path!r}.", field=path) from error

    async def walk(self, path: str) -> dict[str, str]:
        """A stamp is size, time of change and inode: a file that was replaced with its old time kept is seen too."""
        return await asyncio.to_thread(_answered, path, self._walk, path)

    def _walk(self, path: str) -> dict[str, str]:
        found: dict[str, str] = {}
        pending = [(self._place(path), "", 0)]
        while pending:
            folder, prefix, depth = pending.pop()
            for entry in _entries(folder):
                kind = _kind(entry)
                if kind == "folder":
                    if depth < MOST_DEPTH and not entry.name.startswith("."):
                        pending.append((Path(entry.path), f"{prefix}{entry.name}/", depth + 1))
                elif kind != "other":
                    found[f"{prefix}{entry.name}"] = _stamp(entry)
                if len(found) > MOST_FILES:
                    raise BadPackage(f"{path!r} holds more than {MOST_FILES} files: that is no model.", field=path)
        return found

    async def read(self, path: str, most: int) -> bytes:
        """In a thread."""
        return await asyncio.to_thread(_answered, path, self._read, path, most)

    def _read(self, path: str, most: int) -> bytes:
        place = self._place(path)
        if not place.is_file():
            raise NotFound(f"The model repository has no file {path!r}.", field=path)
        with place.open("rb") as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise too_large(path, place.stat().st_size, most)
        return data

    async def local(self, path: str, stamps: Mapping[str, str]) -> Path:
        """The folder itself, once every file in it was seen to lie inside of the root."""
        return await asyncio.to_thread(_answered, path, self._local, path, list(stamps))

    def _local(self, path: str, names: Sequence[str]) -> Path:
        for name in names:
            self._place(joined(path, name))
        return self._place(path)

    async def drop(self, path: str) -> None:
        """There are no copies."""

    def _place(self, path: str) -> Path:
        place = (self._root / path).resolve()
        if not place.is_relative_to(self._root):
            raise BadPackage(
                f"{path!r} leads out of the model repository by a link: put a copy there, or serve what it leads to.",
                field=path,
            )
        return place


def _answered(path: str, work: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What the system refuses, said about the path: a folder without permission, a link that leads to itself."""
    try:
        return work(*given, **named)
    except (OSError, RuntimeError) as error:  # RuntimeError: pathlib's word for a link to itself before Python 3.13
        why = getattr(error, "strerror", None) or error
        raise BadPackage(f"{path or 'The model repository'} cannot be read: {why}.", field=path) from error


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and SEGMENT.fullmatch(name) is not None


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []  # it went away while we looked: the next look sees the rest


def _kind(entry: os.DirEntry[str]) -> Literal["folder", "file", "nowhere", "other"]:
    """A link that leads nowhere is kept, so that it is missed when it is read; pipes and sockets are not."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        return "nowhere"
    return "nowhere" if entry.is_symlink() else "other"


def _stamp(entry: os.DirEntry[str]) -> str:
    try:
        status = entry.stat()
    except OSError:
        return "gone"
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ino}"


class RemoteTree:
    """A prefix of an object store; what has to be a file is copied into `cache`."""

    def __init__(self, url: str, cache: Path, store: Remote | None = None) -> None:
        """Credentials and endpoint come from AWS_* variables; `store` replaces the one that the URL names."""
        self._url: Final = url
        self._cache: Final = cache
        self._given: Remote | None = store
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._copying: dict[str, asyncio.Lock] = {}

    def _store(self) -> Any:
        if self._given is None:
            from obstore.store import from_url

            self._given = from_url(self._url)
        return self._given

    async def folders(self, path: str) -> list[str]:
        """Common prefixes."""
        listed: Any = await self._call(path, lambda: self._store().list_with_delimiter_async(path or None))
        names = (prefix.rstrip("/").rpartition("/")[2] for prefix in listed["common_prefixes"])
        return sorted(name for name in names if _is_shown(name))

    async def walk(self, path: str) -> dict[str, str]:
        """A stamp is size, time of change and entity tag."""

        async def work() -> dict[str, str]:
            found: dict[str, str] = {}
            async for chunk in self._store().list(prefix=path or None, chunk_size=1000):
                for item in chunk:
                    name = item["path"].removeprefix(f"{path}/") if path else item["path"]
                    if name and not any(part.startswith(".") for part in name.split("/")[:-1]):
                        found[name] = f"{item['size']}-{item['last_modified'].timestamp()}-{item['e_tag']}"
                if len(found) > MOST_FILES:
                    raise BadPackage(f"{path!r} holds more than {MOST_FILES} files: that is no model.", field=path)
            return _without_markers(found)

        return await self._call(path, work)

    async def read(self, path: str, most: int) -> bytes:
        """The size is asked first."""

        async def work() -> bytes:
            answer = await self._store().get_async(path)
            if answer.meta["size"] > most:
                raise too_large(path, answer.meta["size"], most)
            return bytes(await answer.bytes_async())

        return await self._call(path, work)

    async def local(self, path: str, stamps: Mapping[str, str]) -> Path:
        """A copy, made once for each state of the folder; a copy that was cut short is made again."""
        copies = self._cache_of(path)
        place = copies / fingerprint(stamps)
        async with self._copying.setdefault(path, asyncio.Lock()):
            if not (place / COMPLETE).is_file():
                await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
                await self._copy_all({joined(path, name): place / checked(name, path) for name in stamps})
                await asyncio.to_thread(_settle, copies, place)
        return place

    async def _copy_all(self, targets: Mapping[str, Path]) -> None:
        """All or an error; none is still being written when it returns."""
        try:
            async with asyncio.TaskGroup() as group:
                for path, target in targets.items():
                    group.create_task(self._copy(path, target))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _copy(self, path: str, target: Path) -> None:
        async def work() -> None:
            answer = await self._store().get_async(path)
            await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
            with target.open("wb") as file:
                async for chunk in answer.stream(min_chunk_size=CHUNK):
                    await asyncio.to_thread(file.write, chunk)

        await self._call(path, work)

    async def drop(self, path: str) -> None:
        """Remove the copies."""
        await asyncio.to_thread(shutil.rmtree, self._cache_of(path), ignore_errors=True)

    def _cache_of(self, path: str) -> Path:
        return self._cache / sha256(f"{self._url} {path}".encode()).hexdigest()[:32]

    async def _call(self, path: str, work: Callable[[], Awaitable[T]]) -> T:
        async with self._slots:
            try:
                return await work()
            except IrisloopError:
                raise
            except FileNotFoundError as error:
                raise NotFound(f"The model repository has no {path!r}.", field=path) from error
            except Exception as error:  # obstore's own classes have no common base but Exception
                raise Unavailable(f"The model repository {self._url} does not answer: {error}") from error


def _settle(copies: Path, place: Path) -> None:
    """A copy is whole; those of older states go. What a loaded model still has mapped stays until it lets go."""
    (place / COMPLETE).touch()
    for other in copies.iterdir():
        if other != place:
            shutil.rmtree(other, ignore_errors=True)


def _without_markers(found: dict[str, str]) -> dict[str, str]:
    """Without the empty objects that some tools put where a folder would be."""
    folders = {name.rpartition("/")[0] for name in found} | {""}
    folders |= {"/".join(name.split("/")[:depth]) for name in found for depth in range(1, name.count("/"))}
    return {name: stamp for name, stamp in found.items() if name not in folders}


def fingerprint(stamps: Mapping[str, str]) -> str:
    """A word that changes when a file is added, removed or replaced."""
    text = "\n".join(f"{name} {stamps[name]}" for name in sorted(stamps))
    return sha256(text.encode(errors="surrogateescape")).hexdigest()[:32]
