"""Everything under /v2 but inference: each route calls the handler that gRPC's method calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from services.serving.domain.restrictions import Restrictions
from services.serving.errors import BadRequest, Unsupported
from services.serving.handlers.catalog import Catalog, files_of
from services.serving.handlers.controls import Controls
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.inbound.oip import NO_CUDA
from services.serving.inbound.v2.documents import object_of
from services.serving.inbound.v2.exchange import JSON, NOT_FOUND, Answer, Request, json_answer
from services.serving.inbound.v2.forms import (
    config_form,
    decoded_files,
    entry_form,
    log_value,
    metadata_form,
    of_kind,
    region_form,
    statistics_form,
    trace_values,
)

Handler = Callable[[Request, list[str]], Awaitable[Answer]]
LEFT_OUT: Final = "generate and generate_stream are left out: call infer, or ModelStreamInfer over gRPC"


class Operations:
    """Finds the route of a path below /v2 by its first part."""

    def __init__(self, catalog: Catalog, memory: SharedMemory, controls: Controls, restrictions: Restrictions) -> None:
        self._catalog = catalog
        self._memory = memory
        self._controls = controls
        self._restrictions = restrictions
        self._roots: dict[str, Handler] = {
            "": self._server,
            "health": self._health,
            "models": self._models,
            "repository": self._repository,
            "systemsharedmemory": self._regions,
            "cudasharedmemory": self._cuda,
            "trace": self._trace_root,
            "logging": self._logging,
        }

    async def answer(self, request: Request) -> Answer:
        """Raises `HttpError` for a path or a method that is not there, and what the handlers do."""
        parts = request.parts
        handler = self._roots.get(parts[0] if parts else "")
        if handler is None or parts == [""]:
            raise NOT_FOUND
        return await handler(request, parts[1:])

    async def _server(self, request: Request, parts: list[str]) -> Answer:
        request.need("GET")
        self._check(request, "metadata")
        facts = self._catalog.server()
        return json_answer({"name": facts.name, "version": facts.version, "extensions": list(facts.extensions)})

    async def _health(self, request: Request, parts: list[str]) -> Answer:
        request.need("GET")
        self._check(request, "health")
        if parts == ["live"]:
            return Answer()
        if parts == ["ready"]:
            return Answer((), 200 if self._catalog.server_ready() else 400)
        raise NOT_FOUND

    async def _models(self, request: Request, parts: list[str]) -> Answer:
        if parts == ["stats"]:
            request.need("GET")
            return self._statistics(request, "", "")
        if parts[-2:] == ["trace", "setting"] and len(parts) == 3:
            return await self._trace(request, parts[0])
        operation = parts[-1] if parts and parts[-1] in OPERATIONS and len(parts) in (2, 4) else ""
        model, version = named(parts[:-1] if operation else parts)
        if operation.startswith("generate"):
            request.need("POST")
            raise Unsupported(LEFT_OUT)
        request.need("GET")
        if operation == "stats":
            return self._statistics(request, model, version)
        self._check(request, OPERATIONS[operation])
        if operation == "ready":
            ready = self._catalog.ready(model, version)
            return Answer() if ready else json_answer({"error": "Model version not ready"}, 400)
        if operation == "config":
            return json_answer(config_form(self._catalog.config(model, version)))
        return json_answer(metadata_form(self._catalog.metadata(model, version)))

    def _statistics(self, request: Request, model: str, version: str) -> Answer:
        self._check(request, "statistics")
        found = self._catalog.statistics(model, version)
        return json_answer({"model_stats": [statistics_form(*one) for one in found]})

    async def _repository(self, request: Request, parts: list[str]) -> Answer:
        request.need("POST")
        self._check(request, "model-repository")
        document = await request.document()
        if parts[-1:] == ["index"] and len(parts) in (1, 2):
            found = self._catalog.index(ready_only=document.get("ready") is True)
            return json_answer([entry_form(one) for one in found])
        if len(parts) in (3, 4) and parts[-3] == "models" and parts[-1] in ("load", "unload"):
            return await self._change(parts[-2], parts[-1], object_of(document, "parameters"))
        raise NOT_FOUND

    async def _change(self, model: str, what: str, parameters: dict[str, Any]) -> Answer:
        if what == "load":
            await self._catalog.load(model, *files_of(decoded_files(parameters)))
        else:
            dependents = parameters.get("unload_dependents", False)
            if not isinstance(dependents, bool):
                raise BadRequest("parameter 'unload_dependents' must be true or false", field="parameters")
            await self._catalog.unload(model, dependents=dependents)
        return Answer((), 200, JSON)

    async def _regions(self, request: Request, parts: list[str]) -> Answer:
        self._check(request, "shared-memory")
        name, operation = _region(parts)
        if operation == "status":
            request.need("GET")
            return json_answer([region_form(one) for one in self._memory.status(name)])
        request.need("POST")
        document = await request.document()
        if operation == "unregister":
            self._memory.unregister(name)
        else:
            self._memory.register(
                name,
                of_kind(document, "key", str),
                of_kind(document, "offset", int, 0),
                of_kind(document, "byte_size", int),
            )
        return Answer((), 200, JSON)

    async def _cuda(self, request: Request, parts: list[str]) -> Answer:
        _, operation = _region(parts)
        if operation == "unregister":  # none is registered, as the caller wants it
            request.need("POST")
            return Answer((), 200, JSON)
        raise Unsupported(NO_CUDA)

    async def _trace_root(self, request: Request, parts: list[str]) -> Answer:
        if parts != ["setting"]:
            raise NOT_FOUND
        return await self._trace(request, "")

    async def _trace(self, request: Request, model: str) -> Answer:
        request.need("GET", "POST")
        self._check(request, "trace")
        changes = await request.document() if request.method == "POST" else {}
        found = self._controls.trace(model, {name: trace_values(name, value) for name, value in changes.items()})
        return json_answer({name: values if name == "trace_level" else values[0] for name, values in found.items()})

    async def _logging(self, request: Request, parts: list[str]) -> Answer:
        request.need("GET", "POST")
        self._check(request, "logging")
        changes = await request.document() if request.method == "POST" else {}
        return json_answer(self._controls.log({name: log_value(name, value) for name, value in changes.items()}))

    def _check(self, request: Request, group: str) -> None:
        request.check(self._restrictions, group)


OPERATIONS: Final = {
    "": "metadata",
    "ready": "health",
    "config": "model-config",
    "stats": "statistics",
    "generate": "inference",
    "generate_stream": "inference",
}
"""What stands behind a model's name, and its group."""


def named(parts: list[str]) -> tuple[str, str]:
    """`M`, or `M/versions/V`. Raises `HttpError`."""
    if len(parts) == 1 and parts[0]:
        return parts[0], ""
    if len(parts) == 3 and parts[1] == "versions" and parts[2].isascii() and parts[2].isdigit():
        return parts[0], parts[2]
    raise NOT_FOUND


def _region(parts: list[str]) -> tuple[str, str]:
    """`status`, `unregister`, `region/R/status|register|unregister`. Raises `HttpError`."""
    if len(parts) == 1 and parts[0] in ("status", "unregister"):
        return "", parts[0]
    if len(parts) == 3 and parts[0] == "region" and parts[2] in ("status", "register", "unregister"):
        return parts[1], parts[2]
    raise NOT_FOUND
