"""Models of a folder into running versions: configured, opened, warmed up, held to what lies beside them as a golden
input, each version by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from services.common.errors import IrisloopError, Transient
from services.common.metrics import SERVING_LOAD_SECONDS
from services.common.telemetry import log
from services.serving.domain.config import ModelConfig
from services.serving.domain.golden import GOLDEN_FILE, UNPACKED_BYTES, Golden, read_golden
from services.serving.domain.ports import Backend, FolderModel, Runner
from services.serving.domain.routes import RouteTable, Version
from services.serving.errors import BadPackage
from services.serving.outbound.backends.onnx import first_line, import_runtime
from services.serving.outbound.backends.opening import Opener
from services.serving.outbound.cards import card_of, image_of
from services.serving.outbound.completion import PartialConfig, begin, complete, read_assets
from services.serving.outbound.ensembles import with_members
from services.serving.outbound.folder import Folder, ModelFiles
from services.serving.outbound.pipeline import EnsembleRunner
from services.serving.outbound.scheduling import Pool, Scheduler
from services.serving.outbound.translation import Assets
from services.serving.outbound.trees import fingerprint
from services.serving.outbound.warming import check_golden, warm_up


@dataclass(frozen=True, slots=True)
class Material:
    """What a model's versions are made of."""

    folder: Folder
    files: ModelFiles
    partial: PartialConfig
    assets: Assets
    override: str

    def stamp(self, number: int) -> str:
        """Changes when the version would be another one."""
        return fingerprint(
            {"": self.files.fingerprint, "override": self.override, "version": self.files.versions[number]}
        )


class LoadedFolder:
    """Implements `ModelFolder`; an async context manager."""

    def __init__(
        self,
        folder: Folder,
        opener: Opener,
        pool: Pool,
        table: Callable[[], RouteTable],
        *,
        most_queued: int,
        strict: bool,
        default_max_batch: int,
    ) -> None:
        self._folder = folder
        self._opener = opener
        self._pool = pool
        self._table = table
        self._most_queued = most_queued
        self._strict = strict
        self._default_max_batch = default_max_batch

    async def __aenter__(self) -> Self:
        """Import the runtime: half a second that no call should wait for."""
        await self._folder.__aenter__()
        await asyncio.to_thread(import_runtime)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Versions are closed by who holds them."""
        await self._folder.__aexit__(*exc)

    async def names(self) -> Sequence[str]:
        """Every model that lies there."""
        return await self._folder.names()

    async def state(self, model: str) -> str:
        """A word that changes when anything of the model does."""
        return (await self._folder.read(model)).state

    async def members(self, model: str, override: str) -> Sequence[str]:
        """What an ensemble needs."""
        return _members(begin(await self._folder.read(model), override.encode() or None, strict=self._strict))

    async def load(
        self, model: str, present: Mapping[str, Version], override: str, files: Mapping[str, bytes]
    ) -> FolderModel:
        """See `ModelFolder.load`; whatever is wrong with one version stands in `problems`."""
        if files:
            async with Folder.of_files(model, files) as own:
                return await self._load(own, await own.read(model), present, override)
        return await self._load(self._folder, await self._folder.read(model), present, override)

    async def _load(
        self, folder: Folder, files: ModelFiles, present: Mapping[str, Version], override: str
    ) -> FolderModel:
        loaded: dict[str, Version] = {}
        problems: dict[str, str] = {}
        members: tuple[str, ...] = ()
        try:
            material = await self._material(folder, files, override)
            members = _members(material.partial)
            for number in _chosen(material):
                found = await self._version(material, number, present.get(str(number)))
                if isinstance(found, str):
                    problems[str(number)] = found
                else:
                    loaded[str(number)] = found
        except Transient:
            raise
        except IrisloopError as error:
            problems[""] = str(error)
        return FolderModel(files.name, files.state, loaded, problems, members)

    async def _material(self, folder: Folder, files: ModelFiles, override: str) -> Material:
        partial = begin(files, override.encode() or None, strict=self._strict)
        partial.require()
        return Material(folder, files, partial, await read_assets(folder, files, partial), override)

    async def _version(self, material: Material, number: int, known: Version | None) -> Version | str:
        """The version, or why there is none."""
        stamp = material.stamp(number)
        if known is not None and known.digest == stamp:
            return known
        try:
            with SERVING_LOAD_SECONDS.time():
                return replace(await self._open(material, number), digest=stamp)
        except Transient:
            raise
        except Exception as error:
            # One broken version may fail in any way inside a runtime; the others go on.
            reason = str(error) if isinstance(error, IrisloopError) else first_line(error)
            trouble = None if isinstance(error, IrisloopError) else error
            log.error(
                "version_failed_to_load", model=material.files.name, version=number, error=reason, exc_info=trouble
            )
            return reason

    async def _open(self, material: Material, number: int) -> Version:
        partial = material.partial
        if partial.backend == "ensemble":
            config = complete(partial, assets=material.assets, strict=self._strict)
            return self._ensemble(config, number)
        path = None
        if partial.filename and partial.backend != "remote":
            path = await material.folder.path(material.files, number, partial.filename)
        return await asyncio.to_thread(self._open_backend, material, number, path)

    def _open_backend(self, material: Material, number: int, path: Path | None) -> Version:
        opened = self._opener.open(material.partial, path, number)
        config = complete(
            opened.partial or material.partial,
            opened.inputs,
            opened.outputs,
            overridable=opened.overridable,
            assets=material.assets,
            strict=self._strict,
            default_max_batch=self._default_max_batch,
        )
        backend = opened.start(config)
        try:
            warm_up(config, backend)
            if (golden := _golden_beside(path)) is not None:
                check_golden(config, backend, golden)
        except BaseException:
            backend.close()
            raise
        for warning in config.warnings:
            log.warning("model_configuration", model=config.name, version=number, warning=warning)
        return self._made(config, number, Scheduler(config, backend, self._pool, self._most_queued), backend)

    def _ensemble(self, config: ModelConfig, number: int) -> Version:
        table = self._table()
        members = {step.model: table.resolve(step.model, step.version).config for step in config.ensemble}
        config = with_members(config, members)
        return self._made(config, number, EnsembleRunner(config, self._table), None)

    def _made(self, config: ModelConfig, number: int, runner: Runner, backend: Backend | None) -> Version:
        placement = backend.placement if backend is not None else "ensemble"
        return Version(config.name, str(number), config, runner, card_of(config), image_of(config), placement=placement)


def _members(partial: PartialConfig) -> tuple[str, ...]:
    return tuple(sorted({step.model_name for step in partial.message.ensemble_scheduling.step}))


def _golden_beside(path: Path | None) -> Golden | None:
    """What lies beside the model's file, if it does. Raises `BadPackage`."""
    place = path.with_name(GOLDEN_FILE) if path is not None else None
    if place is None or not place.is_file():
        return None
    with place.open("rb") as file:
        return read_golden(file.read(UNPACKED_BYTES + 1))


def _chosen(material: Material) -> list[int]:
    present = list(material.files.versions)
    chosen = material.partial.version_policy.chosen(present)
    if not chosen:
        raise BadPackage(
            f"at least one version must be available under the version policy of model '{material.files.name}'",
            field="version_policy",
        )
    return chosen
