"""A model folder's models: loaded at the start, when they change, or when a client asks; swapped in one step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self

from services.common.errors import IrisloopError, Transient
from services.common.metrics import SERVING_VERSIONS
from services.common.telemetry import log
from services.serving.domain.ports import FolderModel, ModelFolder
from services.serving.domain.routes import CHAMPION, Route, Routes, Version, taken
from services.serving.errors import BadPackage, LoadFailed, NameTaken, NotAllowed, NotPolled, UnknownModel
from services.serving.handlers.catalog import IndexEntry
from services.serving.handlers.deployments import Deployments

Control = Literal["none", "poll", "explicit"]
ALL: Final = "*"


class Repository:
    """Implements `Loader`; an async context manager that loads what is wanted at the start.

    A name belongs to registry as soon as it has a model of that name: the folder's is refused, or gives way.
    """

    def __init__(
        self,
        folder: ModelFolder,
        routes: Routes,
        control: Control,
        wanted: Sequence[str],
        poll_s: float,
        *,
        exit_on_error: bool = False,
        deployments: Deployments | None = None,
    ) -> None:
        """`wanted`: the models that `explicit` control loads at the start, `*` for all; the other two load all.

        `deployments`: where it is told what is loaded; None where nobody is there to hear it.
        """
        self._deployments = deployments
        self._exit_on_error = exit_on_error
        self._folder = folder
        self._routes = routes
        self._control = control
        self._wanted = list(wanted) if control == "explicit" else [ALL]
        self._poll_s = poll_s
        self._lock = asyncio.Lock()
        self._states: dict[str, str] = {}
        """What each loaded model was made of."""
        self._names: Sequence[str] = ()
        """Models that lie in the folder, as far as it was looked at."""
        self._overrides: dict[str, str] = {}
        """Configurations that came with calls."""
        self._unloaded: dict[str, Sequence[str]] = {}
        """Versions that were loaded once."""
        self._refused: set[str] = set()
        """Models that have the name of one of registry's."""

    async def __aenter__(self) -> Self:
        """Load; a model that cannot be loaded is named in the log and the index, and the others go on."""
        async with self._lock:
            self._names = await self._folder.names()
            wanted = list(self._names) if ALL in self._wanted else self._wanted
            for model in wanted:
                try:
                    await self._load_with_members(model, "", {}, ())
                except IrisloopError as error:
                    if self._exit_on_error:
                        raise
                    log.error("model_failed_to_load", model=model, error=str(error))
                    if model not in self._routes.table.routes:
                        self._routes.put(Route(model, problems={"": str(error)}))
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every version."""
        async with self._lock:
            found = [self._routes.table.routes.get(model) for model in self._states]
            routes = [route for route in found if route is not None and not route.of_registry]
            for route in routes:
                self._routes.remove(route.model)
            for route in routes:
                for version in route.versions.values():
                    await version.runner.close()

    def failed(self) -> str:
        """Which models are not ready, in words; "" when all are."""
        routes = self._routes.table.routes
        names = [
            model
            for model in sorted({*self._states, *self._refused})
            if self._is_taken(model) or (model in routes and routes[model].problems)
        ]
        return f"models that did not load: {', '.join(names)}" if names else ""

    def index(self) -> Sequence[IndexEntry]:
        """What is not loaded: models that lie there, and versions that were unloaded."""
        routes = self._routes.table.routes
        found = [
            IndexEntry(model, version, "UNAVAILABLE", "unloaded")
            for model, versions in self._unloaded.items()
            if model not in routes
            for version in versions
        ]
        found += [IndexEntry(name) for name in self._names if name not in routes and name not in self._unloaded]
        found += [IndexEntry(name, "", "UNAVAILABLE", taken(name)) for name in self._names if self._is_taken(name)]
        return found

    async def load(self, model: str, config_json: str, files: Mapping[str, bytes]) -> None:
        """Raises `NotAllowed` unless control is explicit, `NotPolled`, `LoadFailed`; what served before goes on.

        A configuration that came with a call stays in force for later loads, as in Triton.
        """
        self._require_explicit()
        async with self._lock:
            self._names = await self._folder.names()
            if (files and not config_json) or (model not in self._names and not files):
                why = "files need a 'config' beside them" if files else "there is no such model"
                raise NotPolled(f"failed to load {model[:128]!r}, failed to poll from model repository: {why}")
            override = config_json or self._overrides.get(model, "")
            await self._load_with_members(model, override, files, ())
            if config_json:
                self._overrides[model] = config_json

    async def unload(self, model: str, *, dependents: bool) -> None:
        """Unload all versions once their requests have ended; one that is not known is unloaded already."""
        self._require_explicit()
        async with self._lock:
            if self._is_taken(model):
                raise NotAllowed(f"registry decides what is loaded of {model[:128]!r}: `irisloop models promote`")
            if model not in self._states:
                return
            members = await self._folder.members(model, "") if dependents else ()
            for name in (model, *members):
                self._unload(name)

    async def run(self) -> None:
        """Look for changes until cancelled, where control is by polling."""
        while self._control == "poll":
            await asyncio.sleep(self._poll_s)
            try:
                async with self._lock:
                    await self._poll()
            except IrisloopError as error:
                log.warning("model_folder_not_read", error=str(error))
        await asyncio.Event().wait()

    def _require_explicit(self) -> None:
        if self._control != "explicit":
            raise NotAllowed(
                "explicit model load / unload is not allowed if polling is enabled"
                if self._control == "poll"
                else "explicit model load / unload is not allowed: serve with --model-control-mode=explicit"
            )

    async def _poll(self) -> None:
        self._names = await self._folder.names()
        for model in set(self._states) - set(self._names):
            self._unload(model)
        self._refused &= set(self._names)
        for model in self._names:
            if model in self._refused and self._is_taken(model):
                continue  # it was said
            try:
                if await self._folder.state(model) != self._states.get(model):
                    await self._load_with_members(model, "", {}, ())
            except Transient:
                raise
            except IrisloopError as error:
                log.error("model_failed_to_load", model=model, error=str(error))

    async def _load_with_members(
        self, model: str, override: str, files: Mapping[str, bytes], above: tuple[str, ...]
    ) -> None:
        """An ensemble's members first; `above` are the ensembles that need this one."""
        if model in above:
            raise LoadFailed(f"failed to load {model!r}: the ensembles {' -> '.join((*above, model))} form a circle")
        if not files:
            try:
                members = await self._folder.members(model, override)
            except BadPackage:
                members = ()  # said where it is loaded
            for member in members:
                if member not in self._routes.table.routes:
                    await self._load_with_members(member, "", {}, (*above, model))
        await self._load(model, override, files)

    async def _load(self, model: str, override: str, files: Mapping[str, bytes]) -> None:
        self._require_free(model)
        before = self._routes.table.routes.get(model)
        present = before.versions if before else {}
        try:
            found = await self._folder.load(model, present, override, files)
        except (BadPackage, UnknownModel) as error:
            raise NotPolled(f"failed to load {model[:128]!r}, failed to poll from model repository: {error}") from error
        try:
            self._require_free(model)
        except NameTaken:
            _retire(found.versions, present)  # registry came first while it was loaded
            raise
        self._states[model] = found.state
        self._swap(before, found)
        if "" in found.problems:
            raise NotPolled(f"failed to load {model!r}, failed to poll from model repository: {found.problems['']}")
        if found.problems:
            reasons = "".join(
                f"version {name} is at UNAVAILABLE state: {problem};\n"
                for name, problem in sorted(found.problems.items())
            )
            raise LoadFailed(f"load failed for model {model!r}: {reasons}")

    def _swap(self, before: Route | None, found: FolderModel) -> None:
        """Put the new versions in force; where one failed, the one of that number that served before goes on."""
        old = dict(before.versions) if before else {}
        kept = old if "" in found.problems else {name: old[name] for name in found.problems if name in old}
        versions = {**kept, **found.versions}
        newest = versions[max(versions, key=int)] if versions else None
        self._routes.put(Route(found.model, versions=versions, default=newest, problems=dict(found.problems)))
        self._unloaded.pop(found.model, None)
        _retire(old, versions)
        self._count()
        self._tell(found.model, old, versions, newest, found.problems)
        log.info("model_swapped", model=found.model, versions=sorted(versions, key=int), problems=dict(found.problems))

    def _unload(self, model: str) -> None:
        route = self._routes.table.routes.get(model)
        self._states.pop(model, None)
        if route is None or route.of_registry:
            return
        self._routes.remove(model)
        self._unloaded[model] = sorted(route.versions, key=int)
        _retire(route.versions, {})
        self._count()
        self._tell(model, route.versions, {}, None, {})
        log.info("model_unloaded", model=model)

    def _is_taken(self, model: str) -> bool:
        route = self._routes.table.routes.get(model)
        return route is not None and route.of_registry

    def _require_free(self, model: str) -> None:
        if self._is_taken(model):
            self._refused.add(model)
            raise NameTaken(f"failed to load {model[:128]!r}: {taken(model)}", field="model")

    def _tell(
        self,
        model: str,
        old: Mapping[str, Version],
        versions: Mapping[str, Version],
        newest: Version | None,
        problems: Mapping[str, str],
    ) -> None:
        """What answers calls that name no version has the champion's role, as a model of registry's."""
        if self._deployments is None:
            return
        note = self._deployments.note
        for name, version in versions.items():
            if name not in problems:
                roles = (CHAMPION,) if version is newest else ()
                note(model, name, "loaded", roles=roles, again=old.get(name) is not version)
        for name in filter(None, problems):
            goes_on = "; the one that served before goes on" if name in versions else ""
            note(model, name, "failed", error=f"{problems[name]}{goes_on}")
        for name in old:
            if name not in versions and name not in problems:
                note(model, name, "unloaded")

    def _count(self) -> None:
        SERVING_VERSIONS.set(sum(len(route.versions) for route in self._routes.table.routes.values()))


def _retire(old: Mapping[str, Version], new: Mapping[str, Version]) -> None:
    for name, version in old.items():
        if new.get(name) is not version:
            version.runner.retire()
