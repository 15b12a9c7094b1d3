"""Which loaded version answers for a model: an immutable table, replaced as a whole when aliases move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from services.serving.domain.package import ModelCard
from services.serving.domain.ports import Engine
from services.serving.errors import BadRequest, UnknownModel, UnknownVersion

CHAMPION: Final = "champion"


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A loaded version of a model, ready to run."""

    model: str
    name: str
    digest: str
    card: ModelCard
    engine: Engine


@dataclass(frozen=True, slots=True)
class Target:
    """What an alias points at: a version and the package that holds it."""

    version: str
    digest: str
    signature: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Publication:
    """The whole alias map of a model; `revision` only grows."""

    model: str
    revision: int
    aliases: Mapping[str, Target]


@dataclass(frozen=True, slots=True)
class Route:
    """One model: what its aliases ask for, and the version that each really answers with."""

    model: str
    revision: int
    asked: Mapping[str, Target]
    aliases: Mapping[str, Version]
    """Alias to version; an alias whose version failed to load keeps the one before, or is missing."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Version to the reason why it is not loaded."""

    @property
    def versions(self) -> dict[str, Version]:
        """Every loaded version, by name."""
        return {version.name: version for version in self.aliases.values()}

    def roles(self, version: Version) -> tuple[str, ...]:
        """The aliases that it answers for."""
        return tuple(sorted(alias for alias, found in self.aliases.items() if found is version))


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All models."""

    routes: Mapping[str, Route] = field(default_factory=lambda: MappingProxyType({}))

    def replaced(self, route: Route) -> RouteTable:
        """A table with this model's route replaced."""
        return RouteTable(MappingProxyType({**self.routes, route.model: route}))

    def resolve(self, model: str, version: str = "") -> Version:
        """The champion, or the version of that number. Raises `UnknownModel`, `UnknownVersion`, `BadRequest`."""
        if version and not (version.isascii() and version.isdigit()):
            raise BadRequest(
                f"failed to get model version from specified version string {version[:32]!r} "
                "(details: a version is a number), version should be an integral value > 0",
                field="model_version",
            )
        route = self.routes.get(model)
        if route is None:
            raise UnknownModel(f"Request for unknown model: {model[:128]!r} is not found", field="model_name")
        found = route.versions.get(version) if version else route.aliases.get(CHAMPION)
        if found is None:
            raise UnknownVersion(self._missing(route, version), field="model_version")
        return found

    def behind(self, model: str, role: str) -> tuple[Version | None, str]:
        """The version that answers for an alias, or why none does; ("", no version) when the alias is not set."""
        route = self.routes.get(model)
        if route is None:
            return None, ""
        found = route.aliases.get(role)
        if found is not None or role not in route.asked:
            return found, ""
        return None, route.problems.get(route.asked[role].version, "it is not loaded")

    def _missing(self, route: Route, version: str) -> str:
        if version:
            problem = route.problems.get(version, "")
            tail = f": it failed to load: {problem}" if problem else ""
            return f"Request for unknown model: {route.model!r} version {version[:32]} is not found{tail}"
        target = route.asked.get(CHAMPION)
        if target is None:
            return f"Request for unknown model: {route.model!r} has no champion yet"
        problem = route.problems.get(target.version, "")
        return f"Request for unknown model: {route.model!r} version {target.version} failed to load: {problem}"
