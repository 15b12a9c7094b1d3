"""Which loaded version answers for a model: an immutable table, replaced as a whole when anything changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from services.serving.domain.config import ModelConfig
from services.serving.domain.package import ImageInput, ModelCard
from services.serving.domain.ports import Runner
from services.serving.domain.rollout import Rollout, Split
from services.serving.errors import BadRequest, NotReady, UnknownModel, UnknownVersion

CHAMPION: Final = "champion"
LARGEST_VERSION: Final = 2**63 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """A loaded version of a model, ready to run."""

    model: str
    name: str
    """A number, as text."""
    config: ModelConfig
    runner: Runner
    card: ModelCard | None = None
    """What its tensors mean; None for a model that nobody described: its events carry no scores."""
    image: ImageInput | None = None
    """Its input, where that is an image: encoded images are taken for it, too."""
    digest: str = ""
    """Of the package that it came from; empty when it lies in a model folder."""
    placement: str = ""
    """Where it really runs, e.g. onnxruntime's provider."""


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
    rollout: Rollout | None = None
    targets: tuple[Target, ...] = ()
    """The versions that the rollout names."""


@dataclass(frozen=True, slots=True)
class Route:
    """One model: the versions that are loaded, and which of them answers for what."""

    model: str
    revision: int = 0
    versions: Mapping[str, Version] = field(default_factory=dict)
    """Every loaded version, by name."""
    default: Version | None = None
    """What answers a call that names no version: the champion, or the newest of a model folder."""
    asked: Mapping[str, Target] = field(default_factory=dict)
    """What registry's aliases point at."""
    aliases: Mapping[str, Version] = field(default_factory=dict)
    """Alias to version; an alias whose version failed to load keeps the one before, or is missing."""
    problems: Mapping[str, str] = field(default_factory=dict)
    """Version to the reason why it is not loaded; "" is the model as a whole."""
    rollout: Rollout | None = None
    """As far as it can be applied: arms whose version did not load are the champion's, and stand in `problems`."""
    split: Split | None = None
    """Its arms, for keys that are not known beforehand."""

    @property
    def of_registry(self) -> bool:
        """Whether registry's aliases made it; else a model folder did."""
        return self.revision > 0

    def roles(self, version: Version) -> tuple[str, ...]:
        """The aliases and arms that it answers for, and `shadow` where it runs beside them."""
        names = {alias for alias, found in self.aliases.items() if found is version}
        if self.rollout is not None:
            names |= {arm.name for arm in self.rollout.arms if arm.version == version.name}
            if self.rollout.stage == "shadow" and self.rollout.beside == version.name:
                names.add("shadow")
        return tuple(sorted(names))


@dataclass(frozen=True, slots=True)
class RouteTable:
    """All models."""

    routes: Mapping[str, Route] = field(default_factory=lambda: MappingProxyType({}))

    def replaced(self, route: Route) -> RouteTable:
        """A table with this model's route replaced."""
        return RouteTable(MappingProxyType({**self.routes, route.model: route}))

    def without(self, model: str) -> RouteTable:
        """A table that does not know the model."""
        return RouteTable(MappingProxyType({name: route for name, route in self.routes.items() if name != model}))

    def resolve(self, model: str, version: str = "") -> Version:
        """The version of that number, or the model's default.

        Raises `UnknownModel`, `UnknownVersion`, `NotReady`, `BadRequest`.
        """
        route = self.routes.get(model)
        if route is not None:
            found = route.versions.get(version) if version else route.default
            if found is not None:
                return found
        check_version(version)
        if route is None:
            raise UnknownModel(f"Request for unknown model: {model[:128]!r} is not found", field="model_name")
        raise self._missing(route, version)

    def behind(self, model: str, role: str) -> tuple[Version | None, str]:
        """The version that answers for an alias, or why none does; ("", no version) when the alias is not set."""
        route = self.routes.get(model)
        if route is None:
            return None, ""
        found = route.aliases.get(role)
        if found is not None or role not in route.asked:
            return found, ""
        return None, route.problems.get(route.asked[role].version, "it is not loaded")

    def _missing(self, route: Route, version: str) -> Exception:
        if version:
            problem = route.problems.get(version, "")
            tail = f": it failed to load: {problem}" if problem else ""
            return UnknownVersion(
                f"Request for unknown model: {route.model!r} version {version[:32]} is not found{tail}",
                field="model_version",
            )
        target = route.asked.get(CHAMPION)
        problem = route.problems.get(target.version if target else "", "")
        tail = f": failed to load: {problem}" if problem else ""
        return NotReady(f"Request for unknown model: {route.model!r} has no available versions{tail}")


class Routes:
    """Holds the table that is in force; written on the event loop, read from any thread."""

    def __init__(self) -> None:
        """Empty."""
        self.table = RouteTable()

    def put(self, route: Route) -> None:
        """Put the model's new route in force, in one step."""
        self.table = self.table.replaced(route)

    def remove(self, model: str) -> None:
        """Forget the model."""
        self.table = self.table.without(model)


def taken(model: str) -> str:
    """Why a folder's model is not served: a name belongs to registry as soon as it has a model of that name."""
    return (
        f"registry has a model {model!r}, so the folder's of that name is not served: rename it in the folder, or take "
        "the folder away"
    )


def check_version(version: str) -> None:
    """Raises `BadRequest` unless it is empty or a number."""
    if version.startswith("-") and version[1:].isdigit():
        raise BadRequest(
            f"invalid model version specified {version[:32]!r}, version should be an integral value > 0",
            field="model_version",
        )
    if version and not (version.isascii() and version.isdigit() and int(version[:20]) <= LARGEST_VERSION):
        raise BadRequest(
            f"failed to get model version from specified version string {version[:32]!r} "
            "(details: a version is a number), version should be an integral value > 0",
            field="model_version",
        )
