"""Objects are named by what they are, and say so when they are not what their name says. One suite, two stores."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.errors import InvalidMessage, NotFound, Transient, Unavailable
from services.common.object_files import RemoteFiles
from services.common.objects import CorruptObject, ObjectStore, object_path

HELLO = hashlib.sha256(b"hello").hexdigest()


class Place(ObjectStore):
    """A store whose bytes a test can look at and spoil."""

    folder: Path


@pytest.fixture(params=["local", "local-synced", "remote"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    folder = tmp_path / "objects"
    made = Place(str(folder), "power" if request.param == "local-synced" else "process")
    made.folder = folder
    if request.param == "remote":  # obstore's own local store stands in for S3: the same calls, the same errors
        folder.mkdir()
        made._files = RemoteFiles(folder.as_uri())
    async with made as opened:
        yield opened


async def test_bytes_come_back_by_their_digest(store: Place) -> None:
    assert await store.put(b"hello") == HELLO
    assert await store.get(HELLO) == b"hello"
    assert (store.folder / object_path(HELLO)).read_bytes() == b"hello"
    assert await store.exists(HELLO)


async def test_the_same_again_changes_nothing(store: Place) -> None:
    await asyncio.gather(*(store.put(b"hello") for _ in range(20)))
    files = [file for file in store.folder.rglob("*") if file.is_file()]
    assert files == [store.folder / object_path(HELLO)]


async def test_many_are_stored_in_the_order_given(store: Place) -> None:
    items = [os.urandom(100) for _ in range(300)] + [b"", os.urandom(2_000_000)]
    digests = await store.put_many(items)
    assert digests == [hashlib.sha256(item).hexdigest() for item in items]
    assert await store.get_many(digests) == items
    assert await store.put_many([]) == []


async def test_what_is_missing_is_not_found(store: Place) -> None:
    assert not await store.exists(HELLO)
    with pytest.raises(NotFound):
        await store.get(HELLO)
    with pytest.raises(NotFound):
        await store.open_range(HELLO, 0, 1)
    await store.delete(HELLO)


async def test_a_deleted_object_is_gone_and_can_be_put_again(store: Place) -> None:
    await store.put(b"hello")
    await store.delete(HELLO)
    assert not await store.exists(HELLO)
    await store.put(b"hello")
    assert await store.get(HELLO) == b"hello"


async def test_spoiled_bytes_are_a_clear_error(store: Place) -> None:
    await store.put(b"hello")
    (store.folder / object_path(HELLO)).write_bytes(b"hellO")
    with pytest.raises(CorruptObject, match="does not hold the bytes that its digest names"):
        await store.get(HELLO)


async def test_a_part_can_be_read(store: Place) -> None:
    digest = await store.put(b"0123456789")
    assert await store.open_range(digest, 3, 4) == b"3456"


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", HELLO.upper(), HELLO + "0", "g" * 64])
async def test_what_is_no_digest_is_refused(store: Place, digest: str) -> None:
    with pytest.raises(InvalidMessage, match="is not a lower-case hex SHA-256"):
        await store.get(digest)


async def test_a_folder_is_named_by_its_sorted_manifest(store: Place) -> None:
    files = {"model.onnx": b"weights", "model.json": b"{}", "labels/names.txt": b"a\nb"}
    digest = await store.put_folder(files)
    assert digest == await store.put_folder(dict(reversed(files.items())))
    assert await store.get_folder(digest) == files
    assert (store.folder / "folders" / digest / "model.onnx").read_bytes() == b"weights"
    assert digest != await store.put_folder({**files, "model.json": b"{ }"})


async def test_a_spoiled_folder_is_a_clear_error(store: Place) -> None:
    digest = await store.put_folder({"model.onnx": b"weights", "model.json": b"{}"})
    (store.folder / "folders" / digest / "model.onnx").write_bytes(b"weighty")
    with pytest.raises(CorruptObject, match=r"file model\.onnx of folder"):
        await store.get_folder(digest)
    (store.folder / "folders" / digest / "manifest.json").write_bytes(b'{"files":{}}')
    with pytest.raises(CorruptObject, match="manifest of folder"):
        await store.get_folder(digest)
    with pytest.raises(NotFound):
        await store.get_folder(HELLO)


async def test_named_files_are_replaced(store: Place) -> None:
    await store.put_named("signatures/a.sig", b"one")
    await store.put_named("signatures/a.sig", b"three")
    assert await store.get_named("signatures/a.sig") == b"three"
    with pytest.raises(NotFound):
        await store.get_named("signatures/b.sig")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b", "manifest.json", ".hidden"])
async def test_a_name_that_leaves_its_place_is_refused(store: Place, name: str) -> None:
    with pytest.raises(InvalidMessage):
        await store.put_named(name, b"x")
    with pytest.raises(InvalidMessage):
        await store.put_folder({name: b"x"})


async def test_a_half_written_object_of_a_power_cut_is_written_again(tmp_path: Path) -> None:
    async with ObjectStore(tmp_path.as_uri()) as store:
        await store.put(b"hello")
        (tmp_path / object_path(HELLO)).write_bytes(b"")
        await store.put(b"hello")
        assert await store.get(HELLO) == b"hello"


async def test_a_folder_that_cannot_be_written_is_transient(tmp_path: Path) -> None:
    (tmp_path / "sha256").write_text("a file stands here")
    async with ObjectStore(str(tmp_path)) as store:
        with pytest.raises(Transient, match="failed"):
            await store.put(b"hello")


async def test_a_folder_removed_while_running_is_made_again(tmp_path: Path) -> None:
    async with ObjectStore(str(tmp_path / "o")) as store:
        await store.put(b"hello")
        (tmp_path / "o").rename(tmp_path / "elsewhere")
        await store.put(b"hello")
        assert await store.get(HELLO) == b"hello"


async def test_a_remote_store_that_is_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    class Away:
        async def head_async(self, path: str) -> None:
            raise OSError(f"connection refused for {path}")

    files = RemoteFiles("s3://bucket/prefix")
    files._remote = Away()  # type: ignore[assignment]
    with pytest.raises(Unavailable, match="s3://bucket/prefix does not answer"):
        await files.exists("x")
