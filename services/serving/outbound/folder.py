"""A model repository as it lies: which models it holds, their version folders, and their files.

Triton's layout (`NAME/config.pbtxt`, `NAME/1/model.onnx`) and MLServer's (`.../model-settings.json`) may be mixed.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

from services.common.errors import NotFound
from services.serving.errors import BadPackage, UnknownModel
from services.serving.outbound.mlserver import SETTINGS_BYTES, SETTINGS_FILE, Identity, identity, numbered
from services.serving.outbound.pbtxt import CONFIG_BYTES, CONFIG_FILE
from services.serving.outbound.trees import LocalTree, RemoteTree, Tree, checked, fingerprint, joined

CUSTOM_CONFIGS: Final = "configs"
SMALL_BYTES: Final = 64 << 20
"""Largest label or warm-up file."""
MOST_MODELS: Final = 10_000
REMOTE: Final = ("s3", "s3a", "gs", "az", "abfss", "https", "http")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model's files at one moment."""

    name: str
    config: bytes | None
    """config.pbtxt, if there is one."""
    settings: bytes | None
    """MLServer's model-settings.json of the newest version, if there is one."""
    versions: Mapping[int, str]
    """{version: a word that changes when its files do}."""
    fingerprint: str
    """Changes with any file that is not in a version folder: configuration, labels, warm-up data."""
    contents: tuple[str, ...] = ()
    """Names of the files and folders in the first version folder."""
    places: Mapping[int, str] = field(default_factory=dict)
    """{version: its folder, relative to the repository}."""
    notes: tuple[str, ...] = ()
    """What a person should know about how it was read."""
    state: str = ""
    """Changes with any file of the model; what `Folder.states` says of it."""


class Folder:
    """A model repository; an async context manager, since a remote one keeps copies."""

    def __init__(self, tree: Tree, *, config_name: str = "", scratch: Path | None = None) -> None:
        """`config_name`: `configs/<config_name>.pbtxt` comes before config.pbtxt; `scratch` is removed at the end."""
        self._tree: Final = tree
        self._config_name: Final = checked(config_name, "model_config_name") if config_name else ""
        self._scratch: Final = scratch

    @classmethod
    def open(cls, url: str, *, cache: Path | None = None, config_name: str = "") -> Self:
        """A folder, file:// or s3://bucket/prefix. `cache` holds copies of a remote one; a temporary folder when None.

        Raises `BadPackage` when a local folder is missing; a remote one is asked when it is used.
        """
        scheme = urlsplit(url).scheme
        if scheme in ("", "file"):
            return cls(LocalTree(Path(urlsplit(url).path if scheme else url)), config_name=config_name)
        if scheme not in REMOTE:
            raise BadPackage(
                f"The model repository {url!r} is neither a folder nor s3://bucket/prefix.", field="model_repository"
            )
        scratch = None if cache is not None else Path(tempfile.mkdtemp(prefix="irisloop-models-"))
        return cls(RemoteTree(url, cache or scratch or Path()), config_name=config_name, scratch=scratch)

    @classmethod
    def of_files(cls, name: str, files: Mapping[str, bytes]) -> Self:
        """A repository of one model whose files came in a call: {`1/model.onnx`: bytes}. Raises `BadPackage`."""
        checked(name, "model name")
        scratch = Path(tempfile.mkdtemp(prefix="irisloop-files-"))
        try:
            for path, data in files.items():
                place = scratch / name / checked(path, "file")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(data)
            (scratch / name).mkdir(exist_ok=True)
        except OSError as error:
            shutil.rmtree(scratch, ignore_errors=True)
            raise BadPackage(f"The files of {name!r} do not fit together: {error.strerror}.", field="file") from error
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        return cls(LocalTree(scratch), scratch=scratch)

    async def __aenter__(self) -> Self:
        """Nothing is asked yet."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Remove copies that were made for this process alone."""
        if self._scratch is not None:
            await asyncio.to_thread(shutil.rmtree, self._scratch, ignore_errors=True)

    async def names(self) -> list[str]:
        """Every model, sorted, whether it can be served or not. Raises `BadPackage`, `Unavailable`."""
        found = await self._survey()
        names = sorted(found.triton | set(found.mlserver))
        if len(names) > MOST_MODELS:
            raise BadPackage(f"The repository holds {len(names)} models; at most {MOST_MODELS} are served.")
        return names

    async def states(self) -> dict[str, str]:
        """{model: a word that changes when any of its files does}: a look at everything that reads no file twice."""
        found = await self._survey()
        triton = {name: fingerprint(found.stamps[name]) for name in found.triton}
        mlserver = {name: fingerprint(found.stamps_of(places)) for name, places in found.mlserver.items()}
        return {**triton, **mlserver}

    async def read(self, name: str) -> ModelFiles:
        """One model as it lies now. Raises `UnknownModel`, `BadPackage`, `Unavailable`."""
        if "/" in checked(name, "model name"):
            raise BadPackage(f"{name[:80]!r} is no model name: it holds '/'.", field="model name")
        if name in await self._tree.folders(""):
            stamps = await self._tree.walk(name)
            if not _settings_in(stamps):
                return await self._read_triton(name, stamps)
        found = await self._survey()
        if name not in found.mlserver:
            raise UnknownModel(f"The repository has no model {name!r}.", field="name")
        return await self._read_mlserver(name, found.mlserver[name], fingerprint(found.stamps_of(found.mlserver[name])))

    async def path(self, files: ModelFiles, version: int, filename: str) -> Path:
        """A version's model file on this machine, with all that lies beside it. Raises `BadPackage` when it is missing.

        Where the name is a folder, its `model.onnx` is meant, as in Triton.
        """
        checked(filename, "default_model_filename")
        folder = files.places[version]
        stamps = await self._tree.walk(folder)
        if filename not in stamps and f"{filename}/model.onnx" in stamps:
            filename = f"{filename}/model.onnx"
        if filename not in stamps:
            raise BadPackage(
                f"unable to find '{joined(folder, filename)}' for model '{files.name}'", field="default_model_filename"
            )
        return await self._tree.local(folder, stamps) / filename

    async def small(self, files: ModelFiles, path: str, what: str) -> bytes:
        """A label or warm-up file, `path` relative to the model's folder; `what` names the field that asks for it."""
        checked(path, what)
        base = files.name if files.settings is None else files.places[max(files.places)]
        try:
            return await self._tree.read(joined(base, path), SMALL_BYTES)
        except NotFound as error:
            raise BadPackage(f"{what} names {path!r}, which model {files.name!r} does not have.", field=what) from error

    async def beside(self, path: str) -> bytes:
        """A small file of the repository itself. Raises `NotFound`, `BadPackage`, `Unavailable`."""
        return await self._tree.read(checked(path, "path"), CONFIG_BYTES)

    async def drop(self, files: ModelFiles, version: int) -> None:
        """Forget the copy of a version of a remote repository."""
        await self._tree.drop(files.places[version])

    async def _read_triton(self, name: str, stamps: Mapping[str, str]) -> ModelFiles:
        numbers = [int(folder) for folder in await self._tree.folders(name) if is_version(folder)]
        versions = {number: fingerprint(_below(stamps, f"{number}/")) for number in numbers}
        others = {path: stamp for path, stamp in stamps.items() if not is_version(path.partition("/")[0])}
        return ModelFiles(
            name=name,
            config=await self._config(name, stamps),
            settings=None,
            versions=versions,
            fingerprint=fingerprint(others),
            contents=_contents(stamps, min(map(str, numbers), default="")),
            places={number: joined(name, str(number)) for number in numbers},
            state=fingerprint(stamps),
        )

    async def _config(self, name: str, stamps: Mapping[str, str]) -> bytes | None:
        custom = f"{CUSTOM_CONFIGS}/{self._config_name}.pbtxt"
        path = custom if self._config_name and custom in stamps else CONFIG_FILE
        if path not in stamps:
            return None
        try:
            return await self._tree.read(joined(name, path), CONFIG_BYTES)
        except NotFound as error:
            raise BadPackage(f"{joined(name, path)} leads nowhere or went away.", field=path) from error

    async def _read_mlserver(self, name: str, places: Mapping[int, str], state: str) -> ModelFiles:
        newest = max(places)
        stamps = {number: await self._tree.walk(place) for number, place in places.items()}
        settings = await self._settings(places[newest])
        return ModelFiles(
            name=name,
            config=None,
            settings=settings,
            versions={number: fingerprint(found) for number, found in stamps.items()},
            fingerprint=fingerprint({SETTINGS_FILE: stamps[newest].get(SETTINGS_FILE, "")}),
            contents=_contents(stamps[newest], ""),
            places=dict(places),
            notes=identity(settings, places[newest]).notes,
            state=state,
        )

    async def _survey(self) -> _Survey:
        """Every folder of the root belongs to one of the two layouts; the root itself may be MLServer's only model."""
        folders = [""] if await self._root_is_model() else await self._tree.folders("")
        stamps = {folder: await self._walk(folder) for folder in folders}
        inner = {folder: _settings_in(found) for folder, found in stamps.items()}
        places = sorted(joined(folder, path) for folder, paths in inner.items() for path in paths)
        identities = [(await self._identity(place), place) for place in places]
        return _Survey({folder for folder, paths in inner.items() if not paths}, numbered(identities), stamps)

    async def _walk(self, folder: str) -> dict[str, str]:
        """Of a folder that cannot be read only this is known: `read` says why, and the others go on."""
        try:
            return await self._tree.walk(folder)
        except BadPackage as error:
            return {"": str(error)}

    async def _identity(self, place: str) -> Identity:
        try:
            return identity(await self._settings(place), place)
        except BadPackage:
            return identity(b"", place)

    async def _root_is_model(self) -> bool:
        try:
            await self._settings("")
        except NotFound:
            return False
        return True

    async def _settings(self, place: str) -> bytes:
        return await self._tree.read(joined(place, SETTINGS_FILE), SETTINGS_BYTES)


@dataclass(frozen=True, slots=True)
class _Survey:
    triton: set[str]
    mlserver: Mapping[str, Mapping[int, str]]
    """{model: {version: folder}}"""
    stamps: Mapping[str, Mapping[str, str]]
    """{folder of the root, or "" for the root: what `walk` said}"""

    def stamps_of(self, places: Mapping[int, str]) -> dict[str, str]:
        """Of the files in these folders."""
        return {
            joined(folder, path): stamp
            for folder, found in self.stamps.items()
            for path, stamp in found.items()
            if any(not place or joined(folder, path).startswith(f"{place}/") for place in places.values())
        }


def _settings_in(stamps: Mapping[str, str]) -> list[str]:
    """Folders with model-settings.json; none where Triton's configuration lies."""
    if CONFIG_FILE in stamps:
        return []
    return [path.rpartition("/")[0] for path in stamps if path.rpartition("/")[2] == SETTINGS_FILE]


def is_version(folder: str) -> bool:
    """Whether a folder of a model is a version: a number without a sign and leading zeros, up to 2^63 - 1."""
    plain = folder.isascii() and folder.isdigit() and (folder == "0" or folder[0] != "0")
    return plain and len(folder) <= 19 and int(folder) < 1 << 63


def _below(stamps: Mapping[str, str], prefix: str) -> dict[str, str]:
    return {path: stamp for path, stamp in stamps.items() if path.startswith(prefix)}


def _contents(stamps: Mapping[str, str], version: str) -> tuple[str, ...]:
    prefix = f"{version}/" if version else ""
    below = (path.removeprefix(prefix) for path in stamps if path.startswith(prefix))
    return tuple(sorted({path.partition("/")[0] for path in below}))
