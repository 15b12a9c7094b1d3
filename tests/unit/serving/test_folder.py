"""A model repository as it lies, on this machine and in an object store: the same suite for both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore

from services.common.errors import NotFound, Unavailable
from services.serving.errors import BadPackage, UnknownModel
from services.serving.outbound.folder import Folder, is_version
from services.serving.outbound.trees import LocalTree, RemoteTree, Tree

FILES = {
    "m/config.pbtxt": b'name: "m"',
    "m/labels.txt": b"a\nb\n",
    "m/warmup/x.bin": b"1234",
    "m/1/model.onnx": b"one",
    "m/3/model.onnx": b"three",
    "m/3/weights.data": b"w" * 1000,
    "m/3/parts/more.data": b"p",
    "m/03/model.onnx": b"leading zero",
    "m/x1/model.onnx": b"no number",
    "m/.git/objects/1": b"hidden",
    "n/1/model.py": b"def infer(): ...",
    "big/2/model.onnx/model.onnx": b"in a folder",
    "big/2/model.onnx/weights": b"w",
    ".hidden/1/model.onnx": b"",
    "readme.txt": b"not a model",
}


@dataclass
class Place:
    """A repository and a way to change it."""

    tree: Tree
    write: Callable[[str, bytes], Awaitable[Any]]
    copies: Path

    @property
    def folder(self) -> Folder:
        return Folder(self.tree)


@pytest.fixture(params=["local", "memory store", "file store"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    root, copies = tmp_path / "root", tmp_path / "copies"
    root.mkdir()
    if request.param == "local":

        async def write(path: str, data: bytes) -> None:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)

        made = Place(LocalTree(root), write, copies)
    else:
        store = MemoryStore() if request.param == "memory store" else LocalStore(root)
        made = Place(RemoteTree("store://", copies, store), store.put_async, copies)
    for path, data in FILES.items():
        await made.write(path, data)
    yield made


async def test_every_visible_folder_is_a_model(place: Place) -> None:
    assert await place.folder.names() == ["big", "m", "n"]


async def test_a_model_has_its_configuration_and_its_numbered_versions(place: Place) -> None:
    files = await place.folder.read("m")
    assert files.config == FILES["m/config.pbtxt"]
    assert set(files.versions) == {1, 3}
    assert files.contents == ("model.onnx",)
    assert files.settings is None
    assert (await place.folder.read("n")).config is None


async def test_a_version_comes_with_all_that_lies_beside_its_graph(place: Place) -> None:
    files = await place.folder.read("m")
    path = await place.folder.path(files, 3, "model.onnx")
    assert path.read_bytes() == b"three"
    assert (path.parent / "weights.data").read_bytes() == FILES["m/3/weights.data"]
    assert (path.parent / "parts" / "more.data").read_bytes() == b"p"


async def test_a_model_that_is_a_folder_is_the_graph_in_it(place: Place) -> None:
    path = await place.folder.path(await place.folder.read("big"), 2, "model.onnx")
    assert path.read_bytes() == b"in a folder"


async def test_a_missing_model_file_is_named_as_triton_does(place: Place) -> None:
    files = await place.folder.read("m")
    with pytest.raises(BadPackage, match=r"unable to find 'm/1/other.onnx' for model 'm'"):
        await place.folder.path(files, 1, "other.onnx")


async def test_small_files_are_read_from_beside_the_versions(place: Place) -> None:
    files = await place.folder.read("m")
    assert await place.folder.small(files, "labels.txt", "label_filename") == b"a\nb\n"
    assert await place.folder.small(files, "warmup/x.bin", "model_warmup") == b"1234"
    with pytest.raises(BadPackage, match=r"label_filename names 'no.txt', which model 'm' does not have"):
        await place.folder.small(files, "no.txt", "label_filename")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../m", "/etc", "m\\..", "m\x00", "x" * 300, "\ud800"])
async def test_a_model_name_cannot_leave_the_repository(place: Place, name: str) -> None:
    with pytest.raises(BadPackage, match=r"model name"):
        await place.folder.read(name)


@pytest.mark.parametrize("path", ["../m/1/model.onnx", "/etc/passwd", "a/../../x", "", "a//b", "..\\x", "./x"])
async def test_a_file_name_cannot_leave_the_repository(place: Place, path: str) -> None:
    files = await place.folder.read("m")
    for ask in (
        place.folder.path(files, 1, path),
        place.folder.small(files, path, "label_filename"),
        place.folder.beside(path),
    ):
        with pytest.raises(BadPackage, match="relative path inside of the model repository"):
            await ask


async def test_a_model_that_is_not_there_is_unknown(place: Place) -> None:
    with pytest.raises(UnknownModel, match="no model 'nobody'"):
        await place.folder.read("nobody")


async def test_a_change_is_seen_where_it_is(place: Place) -> None:
    before = await place.folder.read("m")
    await place.write("m/3/model.onnx", b"other")
    version = await place.folder.read("m")
    assert version.versions[1] == before.versions[1]
    assert version.versions[3] != before.versions[3]
    assert version.fingerprint == before.fingerprint
    await place.write("m/labels.txt", b"c\nd\n")
    labels = await place.folder.read("m")
    assert labels.versions == version.versions
    assert labels.fingerprint != version.fingerprint


async def test_one_look_says_which_models_changed(place: Place) -> None:
    before = await place.folder.states()
    assert before["m"] == (await place.folder.read("m")).state
    assert await place.folder.states() == before
    await place.write("n/2/model.py", b"new")
    await place.write("added/1/model.onnx", b"new")
    after = await place.folder.states()
    assert {name for name in after if after[name] != before.get(name)} == {"n", "added"}


async def test_a_custom_configuration_comes_first_where_there_is_one(place: Place) -> None:
    await place.write("m/configs/large.pbtxt", b"max_batch_size: 64")
    folder = Folder(place.tree, config_name="large")
    assert (await folder.read("m")).config == b"max_batch_size: 64"
    assert (await folder.read("n")).config is None
    assert (await Folder(place.tree, config_name="small").read("m")).config == FILES["m/config.pbtxt"]
    with pytest.raises(BadPackage, match="model_config_name"):
        Folder(place.tree, config_name="../../x")


async def test_a_configuration_that_is_too_large_is_not_read(place: Place) -> None:
    await place.write("m/config.pbtxt", b"#" * (2 << 20))
    with pytest.raises(BadPackage, match=r"m/config.pbtxt has 2097152 bytes; at most 262144 are read"):
        await place.folder.read("m")
    assert "m" in await place.folder.names()


async def test_mlservers_models_are_found_by_their_settings_wherever_they_lie(place: Place) -> None:
    await place.write("zoo/cats/v1/model-settings.json", b'{"name": "cats", "parameters": {"version": "v1"}}')
    await place.write("zoo/cats/v1/model.onnx", b"cats 1")
    await place.write("zoo/cats/v2/model-settings.json", b'{"name": "cats", "parameters": {"version": "v2"}}')
    await place.write("zoo/cats/v2/model.onnx", b"cats 2")
    await place.write("dogs/model-settings.json", b'{"parameters": {"uri": "./model.onnx"}}')
    await place.write("odd/model-settings.json", b"{")
    assert await place.folder.names() == ["big", "cats", "dogs", "m", "n", "odd"]
    cats = await place.folder.read("cats")
    assert set(cats.versions) == {1, 2}
    assert cats.settings == b'{"name": "cats", "parameters": {"version": "v2"}}'
    assert (await place.folder.path(cats, 1, "model.onnx")).read_bytes() == b"cats 1"
    assert (await place.folder.states())["cats"] == cats.state
    assert (await place.folder.read("dogs")).settings == b'{"parameters": {"uri": "./model.onnx"}}'


async def test_settings_in_the_root_make_it_one_model(place: Place) -> None:
    await place.write("model-settings.json", b'{"name": "only"}')
    await place.write("model.onnx", b"graph")
    assert await place.folder.names() == ["only"]
    only = await place.folder.read("only")
    assert (await place.folder.path(only, 1, "model.onnx")).read_bytes() == b"graph"


def test_a_local_repository_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(BadPackage, match="is no folder"):
        Folder.open(str(tmp_path / "missing"))
    with pytest.raises(BadPackage, match="neither a folder nor s3"):
        Folder.open("ftp://host/models")


async def test_a_link_out_of_the_repository_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "m" / "1").mkdir(parents=True)
    (root / "m" / "1" / "model.onnx").write_bytes(b"graph")
    (root / "m" / "2").symlink_to(root / "m" / "1")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "m" / "labels.txt").symlink_to(tmp_path / "secret")
    (root / "out" / "1").mkdir(parents=True)
    (root / "out" / "1" / "model.onnx").symlink_to(tmp_path / "secret")
    (root / "far").symlink_to(tmp_path)
    folder = Folder.open(str(root))
    files = await folder.read("m")
    assert (await folder.path(files, 2, "model.onnx")).read_bytes() == b"graph"
    with pytest.raises(BadPackage, match="leads out of the model repository"):
        await folder.small(files, "labels.txt", "label_filename")
    with pytest.raises(BadPackage, match="leads out of the model repository"):
        await folder.path(await folder.read("out"), 1, "model.onnx")
    assert await folder.names() == ["far", "m", "out"]
    with pytest.raises(BadPackage, match="leads out of the model repository"):
        await folder.read("far")


async def test_what_is_neither_file_nor_folder_is_passed_over(tmp_path: Path) -> None:
    import os

    model = tmp_path / "m" / "1"
    model.mkdir(parents=True)
    os.mkfifo(model / "model.onnx")
    os.mkfifo(tmp_path / "m" / "labels.txt")
    (tmp_path / "m" / "loop").symlink_to(tmp_path / "m")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    folder = Folder.open(str(tmp_path))
    files = await folder.read("m")
    assert files.config is None
    with pytest.raises(BadPackage, match="unable to find"):
        await folder.path(files, 1, "model.onnx")
    with pytest.raises(BadPackage, match="does not have"):
        await folder.small(files, "labels.txt", "label_filename")


@pytest.mark.parametrize("target", ["config.pbtxt", "gone"])
async def test_a_configuration_that_leads_nowhere_is_no_missing_one(tmp_path: Path, target: str) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").symlink_to(tmp_path / "m" / target)
    with pytest.raises(BadPackage, match=r"m/config.pbtxt (leads nowhere|cannot be read)"):
        await Folder.open(str(tmp_path)).read("m")


async def test_a_file_replaced_with_its_time_kept_is_seen(tmp_path: Path) -> None:
    import os

    model = tmp_path / "m" / "1" / "model.onnx"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"a")
    folder = Folder.open(str(tmp_path))
    before = await folder.states()
    beside = model.with_name("new")
    beside.write_bytes(b"b")
    status = model.stat()
    os.utime(beside, ns=(status.st_atime_ns, status.st_mtime_ns))
    beside.rename(model)
    assert await folder.states() != before


async def test_a_remote_version_is_copied_once_for_each_of_its_states(tmp_path: Path) -> None:
    store = MemoryStore()
    copied: list[str] = []

    class Counting(RemoteTree):
        async def _copy(self, path: str, target: Path) -> None:
            copied.append(path)
            await super()._copy(path, target)

    await store.put_async("m/1/model.onnx", b"old")
    folder = Folder(Counting("memory://", tmp_path, store))
    files = await folder.read("m")
    first, second = await asyncio.gather(*(folder.path(files, 1, "model.onnx") for _ in range(2)))
    assert first == second
    assert copied == ["m/1/model.onnx"]
    await store.put_async("m/1/model.onnx", b"new graph")
    again = await folder.path(files, 1, "model.onnx")
    assert again.read_bytes() == b"new graph"
    assert not first.exists()
    await folder.drop(files, 1)
    assert not again.exists()
    assert len(copied) == 2


async def test_a_copy_that_was_cut_short_is_made_again(tmp_path: Path) -> None:
    store = MemoryStore()
    await store.put_async("m/1/model.onnx", b"graph")
    await store.put_async("m/1/weights", b"w")

    class Failing(RemoteTree):
        fails = True

        async def _copy(self, path: str, target: Path) -> None:
            if self.fails and path.endswith("weights"):
                raise Unavailable("the network is away")
            await super()._copy(path, target)

    tree = Failing("memory://", tmp_path, store)
    folder = Folder(tree)
    files = await folder.read("m")
    with pytest.raises(Unavailable):
        await folder.path(files, 1, "model.onnx")
    tree.fails = False
    path = await folder.path(files, 1, "model.onnx")
    assert (path.parent / "weights").read_bytes() == b"w"


async def test_empty_objects_that_stand_for_folders_are_no_files(tmp_path: Path) -> None:
    store = MemoryStore()
    for name, data in {"m/1": b"", "m/1/model.onnx": b"graph", "m/1/parts": b"", "m/1/parts/a/b": b"x"}.items():
        await store.put_async(name, data)
    folder = Folder(RemoteTree("memory://", tmp_path, store))
    files = await folder.read("m")
    assert set(files.versions) == {1}
    path = await folder.path(files, 1, "model.onnx")
    assert (path.parent / "parts" / "a" / "b").read_bytes() == b"x"


async def test_a_store_that_does_not_answer_is_waited_for(tmp_path: Path) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise OSError("connection refused")

    folder = Folder(RemoteTree("s3://bucket", tmp_path, Broken()))  # type: ignore[arg-type]
    with pytest.raises(Unavailable, match=r"s3://bucket does not answer"):
        await folder.names()


async def test_files_that_came_in_a_call_are_a_repository_of_one_model() -> None:
    files: Mapping[str, bytes] = {"1/model.onnx": b"graph", "labels.txt": b"a\n"}
    async with Folder.of_files("m", files) as folder:
        assert await folder.names() == ["m"]
        found = await folder.read("m")
        path = await folder.path(found, 1, "model.onnx")
        assert path.read_bytes() == b"graph"
        assert await folder.small(found, "labels.txt", "label_filename") == b"a\n"
    assert not path.exists()


@pytest.mark.parametrize(
    "files", [{"../x": b""}, {"/etc/x": b""}, {"1/a": b"", "1/a/b": b""}, {"1": b"", "1/model.onnx": b""}]
)
def test_files_of_a_call_that_do_not_fit_are_refused(files: Mapping[str, bytes]) -> None:
    with pytest.raises(BadPackage):
        Folder.of_files("m", files)
    with pytest.raises(BadPackage, match="model name"):
        Folder.of_files("../m", {"1/model.onnx": b""})


async def test_a_remote_folder_without_a_cache_cleans_up_after_itself() -> None:
    async with Folder.open("s3://bucket/prefix") as folder:
        scratch = folder._scratch
        assert scratch is not None
        assert scratch.is_dir()
    assert not scratch.exists()


async def test_what_is_beside_the_models_can_be_read(place: Place) -> None:
    assert await place.folder.beside("readme.txt") == b"not a model"
    with pytest.raises(NotFound):
        await place.folder.beside("settings.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("1", True),
        ("0", True),
        ("01", False),
        ("-1", False),
        ("1a", False),
        ("٣", False),
        ("9" * 19, False),
        ("", False),
    ],
)
def test_a_version_is_a_plain_number(name: str, expected: bool) -> None:
    assert is_version(name) is expected
