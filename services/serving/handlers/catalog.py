"""What is served here, for those who ask: metadata, configurations, the index, statistics; and loading on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from typing import Final, Protocol

from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.routes import Route, RouteTable, Version, check_version
from services.serving.domain.statistics import Statistics
from services.serving.errors import BadRequest, NotReady, UnknownModel, UnknownVersion, Unsupported

NAME: Final = "triton"
"""Clients of Triton look for it; what really answers stands in the version and the extensions."""
EXTENSIONS: Final = (
    "classification",
    "sequence",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "system_shared_memory",
    "binary_tensor_data",
    "parameters",
    "statistics",
    "trace",
    "logging",
    "irisloop_images",
    "irisloop_prediction_events",
)


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """Who answers."""

    name: str
    version: str
    extensions: Sequence[str]


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """A version, or a model of which nothing was tried."""

    name: str
    version: str = ""
    state: str = ""
    """READY, UNAVAILABLE, or empty when it was never loaded."""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Names, types and shapes as clients see them; -1 leads where there is a batch dimension."""

    name: str
    versions: Sequence[str]
    platform: str
    inputs: Sequence[tuple[TensorConfig, tuple[int, ...]]]
    outputs: Sequence[tuple[TensorConfig, tuple[int, ...]]]


class Loader(Protocol):
    """Loads models of a model folder when a client asks for it."""

    def index(self) -> Sequence[IndexEntry]:
        """Models of the folder that have no route, and versions that were unloaded."""

    async def load(self, model: str, config_json: str, files: Mapping[str, bytes]) -> None:
        """Raises `BadRequest`, `BadPackage`, `UnknownModel`, `NotReady`."""

    async def unload(self, model: str, *, dependents: bool) -> None:
        """Raises `UnknownModel`."""


class Catalog:
    """Reads the route table; `loader` is None where no model folder is served."""

    def __init__(
        self, table: Callable[[], RouteTable], waiting_for: Callable[[], str], loader: Loader | None = None
    ) -> None:
        self._table = table
        self._waiting_for = waiting_for
        self._loader = loader

    def server(self) -> ServerFacts:
        """The protocol's name of the server, our version, and what it can do."""
        return ServerFacts(NAME, f"irisloop-{installed_version('irisloop')}", EXTENSIONS)

    def server_ready(self) -> bool:
        """As /readyz says."""
        return not self._waiting_for()

    def ready(self, model: str, version: str = "") -> bool:
        """Whether it would answer. Raises `BadRequest` for a version that is no number."""
        try:
            self._table().resolve(model, version)
        except (UnknownModel, UnknownVersion, NotReady):
            return False
        return True

    def version(self, model: str, version: str = "") -> Version:
        """What a call would be answered by. Raises what resolving does."""
        return self._table().resolve(model, version)

    def metadata(self, model: str, version: str = "") -> ModelFacts:
        """Raises what resolving does."""
        found = self._table().resolve(model, version)
        names = [version] if version else sorted(self._table().routes[found.model].versions, key=int)
        config = found.config
        return ModelFacts(
            found.model,
            names,
            config.platform or config.backend,
            _shapes(config, config.inputs),
            _shapes(config, config.outputs),
        )

    def config(self, model: str, version: str = "") -> bytes:
        """A serialized inference.ModelConfig. Raises what resolving does."""
        return self._table().resolve(model, version).config.serialized

    def index(self, *, ready_only: bool = False) -> list[IndexEntry]:
        """Every version that is loaded or failed, and what the model folder holds beside them."""
        entries = [entry for _, route in sorted(self._table().routes.items()) for entry in _entries(route)]
        if self._loader is not None:
            known = {(entry.name, entry.version) for entry in entries}
            entries += [one for one in self._loader.index() if (one.name, one.version) not in known]
        found = [entry for entry in entries if entry.state == "READY" or not ready_only]
        return sorted(found, key=lambda entry: (entry.name, int(entry.version or 0)))

    def statistics(self, model: str = "", version: str = "") -> list[tuple[Version, Statistics]]:
        """Of a version, of all of a model's, or of all models. Raises `BadRequest` for one that is not loaded."""
        if not model:
            check_version(version)
            routes = [route for _, route in sorted(self._table().routes.items())]
            found = [one for route in routes for one in _versions(route)]
        else:
            check_version(version)
            route = self._table().routes.get(model)
            if route is None or not route.versions:
                raise BadRequest(f"requested model {model[:128]!r} is not available", field="name")
            found = [one for one in _versions(route) if version in ("", one.name)]
            if not found:
                raise BadRequest(f"requested model version is not available for model {model!r}", field="version")
        return [(one, one.runner.statistics) for one in found]

    async def load(self, model: str, config_json: str = "", files: Mapping[str, bytes] | None = None) -> None:
        """Load, or load anew, a model of the model folder. Raises `Unsupported` where models follow registry alone."""
        await self._needed().load(model, config_json, files or {})

    async def unload(self, model: str, *, dependents: bool = False) -> None:
        """Raises `Unsupported`, `UnknownModel`."""
        await self._needed().unload(model, dependents=dependents)

    def _needed(self) -> Loader:
        if self._loader is None:
            raise Unsupported(
                "explicit model load / unload is not allowed: models follow registry's aliases here (`irisloop models "
                "promote`); serve a model folder with --model-control-mode=explicit to load by call"
            )
        return self._loader


def files_of(parameters: Mapping[str, object]) -> tuple[str, dict[str, bytes]]:
    """The `config` and the `file:<path>` contents of a load request's parameters. Raises `BadRequest`."""
    config, files = "", {}
    for name, value in parameters.items():
        if name == "config":
            if not isinstance(value, str):
                raise BadRequest("parameter 'config' must be text: a configuration as JSON", field="parameters.config")
            config = value
        elif name.startswith("file:"):
            if not isinstance(value, bytes):
                raise BadRequest(f"parameter {name[:128]!r} must be bytes", field="parameters")
            files[name.removeprefix("file:")] = value
        else:
            raise BadRequest(f"unrecognized load parameter {name[:128]!r}.", field="parameters")
    return config, files


def _versions(route: Route) -> list[Version]:
    return [route.versions[name] for name in sorted(route.versions, key=int)]


def _entries(route: Route) -> list[IndexEntry]:
    loaded = [IndexEntry(route.model, name, "READY") for name in route.versions]
    failed = [
        IndexEntry(route.model, name, "UNAVAILABLE", problem)
        for name, problem in route.problems.items()
        if name not in route.versions
    ]
    return loaded + failed


def _shapes(config: ModelConfig, tensors: Sequence[TensorConfig]) -> list[tuple[TensorConfig, tuple[int, ...]]]:
    lead = (-1,) if config.max_batch_size else ()
    return [(tensor, lead + tensor.dims) for tensor in tensors]
