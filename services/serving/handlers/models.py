"""Follows registry's aliases: loads aside, swaps the route table, retires what nothing points at."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Self, TypedDict

from services.common.errors import IrisloopError, Transient
from services.common.metrics import SERVING_VERSIONS
from services.common.telemetry import log
from services.serving.domain.ports import Deployment, ModelSource
from services.serving.domain.rollout import Rollout, split_of
from services.serving.domain.routes import CHAMPION, Publication, Route, Routes, Version, taken
from services.serving.handlers.deployments import Deployments


class Cause(TypedDict):
    """What led to a change."""

    revision: int
    because: datetime


class Models:
    """Registry's models on this replica: their routes, and the deployments behind them."""

    def __init__(self, source: ModelSource, routes: Routes, deployments: Deployments) -> None:
        self._source = source
        self.routes = routes
        self._deployments = deployments
        self._lock = asyncio.Lock()

    @property
    def deployments(self) -> list[Deployment]:
        """What is, was or should be loaded here, by model and version."""
        return self._deployments.all

    async def follow(self, publications: Sequence[tuple[Publication, datetime]]) -> None:
        """Bring the table to the newest revision of each model; `datetime` is the publication's event time.

        Raises `Transient` when a package cannot be fetched now, or the announcement cannot be made: call again.
        """
        newest: dict[str, tuple[Publication, datetime]] = {}
        for publication, said_at in publications:
            known = newest.get(publication.model)
            if known is None or publication.revision >= known[0].revision:
                newest[publication.model] = (publication, said_at)
        async with self._lock:
            for publication, said_at in newest.values():
                route = self._before(publication.model)
                if route is None or publication.revision > route.revision:
                    await self._apply(publication, said_at)
            await self._deployments.flush()

    async def __aenter__(self) -> Self:
        """Nothing is loaded before aliases are heard."""
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close every engine."""
        async with self._lock:
            routes = [route for _, route in sorted(self.routes.table.routes.items()) if route.of_registry]
            for route in routes:
                self.routes.remove(route.model)
            for route in routes:
                for version in route.versions.values():
                    await version.runner.close()

    async def _apply(self, publication: Publication, said_at: datetime) -> None:
        before, displaced = self._before(publication.model), self._displaced(publication.model)
        loaded, problems = await self._load_missing(publication, before)
        aliases = _effective(publication, loaded, before)
        rollout = _applicable(publication, loaded)
        named = {name: loaded[name] for name in sorted(rollout.versions & loaded.keys())} if rollout else {}
        after = Route(
            publication.model,
            publication.revision,
            versions=named | {version.name: version for version in aliases.values()},
            default=aliases.get(CHAMPION),
            asked=dict(publication.aliases),
            aliases=aliases,
            problems=problems,
            rollout=rollout,
            split=split_of(rollout) if rollout else None,
        )
        self.routes.put(after)
        SERVING_VERSIONS.set(sum(len(route.versions) for route in self.routes.table.routes.values()))
        self._note(before or displaced, after, said_at)
        kept = after.versions
        for name, version in (before or displaced or after).versions.items():
            if kept.get(name) is not version:
                version.runner.retire()
        for name, version in loaded.items():
            if kept.get(name) is not version:
                version.runner.retire()
        log.info(
            "routes_swapped",
            model=after.model,
            revision=after.revision,
            aliases={alias: version.name for alias, version in aliases.items()},
            rollout=rollout.stage if rollout else "",
        )

    async def _load_missing(
        self, publication: Publication, before: Route | None
    ) -> tuple[dict[str, Version], dict[str, str]]:
        """Every version asked for: the one that runs already, or a new one; and why some are not there."""
        loaded: dict[str, Version] = {}
        problems: dict[str, str] = {}
        running = before.versions if before else {}
        wanted = (*publication.aliases.values(), *publication.targets)
        for target in {target.version: target for target in wanted}.values():
            present = running.get(target.version)
            if present is not None and present.digest == target.digest:
                loaded[target.version] = present
                continue
            try:
                loaded[target.version] = await self._source.load(publication.model, target)
            except Transient:
                await _close_new(loaded, running)
                raise
            except Exception as error:
                # One broken package may fail in any way inside the runtime; the others go on.
                problems[target.version] = str(error) or repr(error)
                log.error(
                    "version_failed_to_load",
                    model=publication.model,
                    version=target.version,
                    error=problems[target.version],
                    exc_info=None if isinstance(error, IrisloopError) else error,
                )
        return loaded, problems

    def _before(self, model: str) -> Route | None:
        route = self.routes.table.routes.get(model)
        return route if route is not None and route.of_registry else None

    def _displaced(self, model: str) -> Route | None:
        """What a model folder served under the name that registry now decides about."""
        route = self.routes.table.routes.get(model)
        if route is None or route.of_registry:
            return None
        log.error("folder_model_displaced", model=model, versions=sorted(route.versions, key=int), error=taken(model))
        return route

    def _note(self, before: Route | None, after: Route, said_at: datetime) -> None:
        """Write down what changed between two routes."""
        cause: Cause = {"revision": after.revision, "because": said_at}
        note = self._deployments.note
        for name, version in sorted(after.versions.items()):
            note(after.model, name, "loaded", roles=after.roles(version), **cause)
        for name, problem in after.problems.items():
            roles = tuple(sorted(alias for alias, target in after.asked.items() if target.version == name))
            note(after.model, name, "failed", roles=roles, error=problem, **cause)
        for name in before.versions if before else ():
            if name not in after.versions and name not in after.problems:
                note(after.model, name, "unloaded", **cause)


def _effective(publication: Publication, loaded: Mapping[str, Version], before: Route | None) -> dict[str, Version]:
    """Each alias's version; where it failed to load, the version that answered before goes on."""
    aliases: dict[str, Version] = {}
    for alias, target in publication.aliases.items():
        version = loaded.get(target.version) or (before.aliases.get(alias) if before else None)
        if version is not None:
            aliases[alias] = version
    return aliases


def _applicable(publication: Publication, loaded: Mapping[str, Version]) -> Rollout | None:
    """The rollout without what did not load; None where nothing of it can be done."""
    rollout = publication.rollout
    if rollout is None or (rollout.beside and rollout.beside not in loaded):
        return None
    arms = tuple(arm for arm in rollout.arms if arm.version in loaded)
    return replace(rollout, arms=arms) if arms or rollout.beside else None


async def _close_new(loaded: Mapping[str, Version], running: Mapping[str, Version]) -> None:
    for name, version in loaded.items():
        if running.get(name) is not version:
            await version.runner.close()
