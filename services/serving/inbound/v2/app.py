"""/v2 as an ASGI application: the path is split by hand, and every route calls the handlers that gRPC calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from urllib.parse import unquote

import orjson
from google.protobuf.json_format import MessageToDict
from inference import model_config_pb2

from services.serving.domain.restrictions import Restrictions
from services.serving.errors import BadRequest, Unsupported
from services.serving.handlers.catalog import Catalog, ModelFacts, files_of
from services.serving.handlers.controls import Controls
from services.serving.handlers.inference import Inference
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.inbound import messages
from services.serving.inbound.oip import NO_CUDA
from services.serving.inbound.v2.bodies import Gone, Part, compressed, read_body
from services.serving.inbound.v2.errors import HttpError, status_of
from services.serving.inbound.v2.tensors import answer_parts, call_of, parsed, raw_call_of, raw_shape

Headers = dict[bytes, bytes]
Scope = Any
JSON: Final = (b"content-type", b"application/json")
OCTETS: Final = (b"content-type", b"application/octet-stream")
HEADER_SIZE: Final = b"inference-header-content-length"
NOT_FOUND: Final = HttpError(404, "Not Found")
LEFT_OUT: Final = "generate and generate_stream are left out: call infer, or ModelStreamInfer over gRPC"


class Request:
    """One call: its method, its path below /v2, its headers, and its body once it is asked for."""

    def __init__(self, scope: Scope, receive: Any, limit: int) -> None:
        self.method: str = scope["method"]
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.parts: list[str] = [unquote(part) for part in path.partition(b"?")[0].decode("latin-1").split("/")[2:]]
        self.headers: Headers = dict(scope["headers"])
        self._receive = receive
        self._limit = limit

    def header(self, name: bytes) -> str:
        """As text, "" when it is not there."""
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self) -> bytes:
        """All of it, uncompressed."""
        return await read_body(self._receive, self._limit, self.header(b"content-encoding").lower())

    async def document(self) -> dict[str, Any]:
        """The body as a JSON object; no body is an empty one."""
        body = await self.body()
        return parsed(body) if body else {}

    def need(self, *methods: str) -> None:
        """Raises `HttpError` for another method."""
        if self.method not in methods:
            raise HttpError(405, "Method Not Allowed", (b"allow", ", ".join(methods).encode()))


class Answer:
    """What is sent back."""

    __slots__ = ("compressible", "headers", "parts", "status")

    def __init__(self, parts: Sequence[Part] = (), status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self.parts = parts
        self.compressible = False
        """Answers of infer alone, as in Triton: tritonclient cannot read other compressed ones."""
        self.status = status
        self.headers = list(headers)


Handler = Callable[[Request, list[str]], Awaitable[Answer]]


class InferenceApp:
    """`/v2...` is ours, everything else `inner`'s."""

    def __init__(
        self,
        inner: Any,
        inference: Inference,
        catalog: Catalog,
        memory: SharedMemory,
        controls: Controls,
        restrictions: Restrictions,
        limit: int,
    ) -> None:
        """`limit`: bytes of a body, compressed or not."""
        self._inner = inner
        self._inference = inference
        self._catalog = catalog
        self._memory = memory
        self._controls = controls
        self._restrictions = restrictions
        self._limit = limit
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

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """ASGI 3."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == "/v2" or path.startswith("/v2/")):
            await self._inner(scope, receive, send)
            return
        request = Request(scope, receive, self._limit)
        try:
            answer = await self._answer(request)
        except Gone:
            return
        except Exception as error:
            status, sentence, headers = status_of(error)
            answer = Answer([orjson.dumps({"error": sentence})], status, JSON, *headers)
        await _send(send, request, answer)

    async def _answer(self, request: Request) -> Answer:
        parts = request.parts
        if len(parts) > 2 and parts[0] == "models" and parts[-1] == "infer":
            return await self._infer(request, *_named(parts[1:-1]))
        handler = self._roots.get(parts[0] if parts else "")
        if handler is None or parts == [""]:
            raise NOT_FOUND
        return await handler(request, parts[1:])

    async def _infer(self, request: Request, model: str, version: str) -> Answer:
        request.need("POST")
        self._check(request, "inference")
        body = await request.body()
        size = _header_size(request, len(body))
        key, traceparent = request.header(b"irisloop-key"), request.header(b"traceparent")
        if size == 0:
            call = raw_call_of(model, version, body, self._only_input(model, version, len(body)), key, traceparent)
        else:
            call = call_of(model, version, body, size, key, traceparent)
        if any(name.startswith("triton_") for name in call.parameters):
            raise BadRequest(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
                field="parameters",
            )
        head, raws = answer_parts(await self._inference.infer(call))
        if any(map(len, raws)):
            answer = Answer([head, *raws], 200, OCTETS, (HEADER_SIZE, str(len(head)).encode()))
        else:
            answer = Answer([head], 200, JSON)
        answer.compressible = True
        return answer

    def _only_input(self, model: str, version: str, size: int) -> tuple[str, str, tuple[int, ...]]:
        config = self._catalog.version(model, version).config
        if len(config.inputs) != 1:
            raise BadRequest(
                f"Raw request must only have 1 input (found 1) to be deduced but got {len(config.inputs)} inputs in "
                f"'{model}' model configuration",
                field="inputs",
            )
        (tensor,) = config.inputs
        return tensor.name, tensor.datatype, raw_shape(tensor.dims, config.max_batch_size, size, tensor.datatype)

    async def _server(self, request: Request, parts: list[str]) -> Answer:
        request.need("GET")
        self._check(request, "metadata")
        facts = self._catalog.server()
        return _json({"name": facts.name, "version": facts.version, "extensions": list(facts.extensions)})

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
        model, version = _named(parts[:-1] if operation else parts)
        if operation.startswith("generate"):
            raise Unsupported(LEFT_OUT)
        request.need("GET")
        if operation == "stats":
            return self._statistics(request, model, version)
        self._check(request, OPERATIONS[operation])
        if operation == "ready":
            ready = self._catalog.ready(model, version)
            return Answer() if ready else _json({"error": "Model version not ready"}, 400)
        if operation == "config":
            return _json(_config(self._catalog.config(model, version)))
        return _json(_metadata(self._catalog.metadata(model, version)))

    def _statistics(self, request: Request, model: str, version: str) -> Answer:
        self._check(request, "statistics")
        found = [messages.statistics_message(*one) for one in self._catalog.statistics(model, version)]
        return _json({"model_stats": [_numbers(MessageToDict(one, **AS_JSON)) for one in found]})

    async def _repository(self, request: Request, parts: list[str]) -> Answer:
        request.need("POST")
        self._check(request, "model-repository")
        document = await request.document()
        if parts[-1:] == ["index"] and len(parts) in (1, 2):
            found = self._catalog.index(ready_only=document.get("ready") is True)
            return _json([_entry(one) for one in found])
        if len(parts) in (3, 4) and parts[-3] == "models" and parts[-1] in ("load", "unload"):
            return await self._change(parts[-2], parts[-1], document.get("parameters") or {})
        raise NOT_FOUND

    async def _change(self, model: str, what: str, parameters: dict[str, Any]) -> Answer:
        if what == "load":
            await self._catalog.load(model, *files_of(_decoded_files(parameters)))
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
            return _json(
                [
                    {"name": one.name, "key": one.key, "offset": one.offset, "byte_size": one.byte_size}
                    for one in self._memory.status(name)
                ]
            )
        request.need("POST")
        document = await request.document()
        if operation == "unregister":
            self._memory.unregister(name)
        else:
            self._memory.register(
                name,
                _of_kind(document, "key", str),
                _of_kind(document, "offset", int, 0),
                _of_kind(document, "byte_size", int),
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
        found = self._controls.trace(model, {name: _trace_values(name, value) for name, value in changes.items()})
        return _json({name: values if name == "trace_level" else values[0] for name, values in found.items()})

    async def _logging(self, request: Request, parts: list[str]) -> Answer:
        request.need("GET", "POST")
        self._check(request, "logging")
        changes = await request.document() if request.method == "POST" else {}
        return _json(self._controls.log(changes))

    def _check(self, request: Request, group: str) -> None:
        if self._restrictions:
            self._restrictions.check(
                group, ((name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.items())
            )


OPERATIONS: Final = {
    "": "metadata",
    "ready": "health",
    "config": "model-config",
    "stats": "statistics",
    "generate": "inference",
    "generate_stream": "inference",
}
"""What stands behind a model's name, and its group."""
AS_JSON: Final[dict[str, Any]] = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}


def _named(parts: list[str]) -> tuple[str, str]:
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


def _header_size(request: Request, size: int) -> int | None:
    text = request.headers.get(HEADER_SIZE)
    if text is None:
        return None
    found = int(text) if text.removeprefix(b"-").isdigit() else 0
    if not 0 <= found <= size:
        raise BadRequest(f"inference header size should be in range (0, {size}), got: {found}", field="headers")
    return found


def _metadata(facts: ModelFacts) -> dict[str, Any]:
    def tensors(found: Any) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": shape} for one, shape in found]

    return {
        "name": facts.name,
        "versions": list(facts.versions),
        "platform": facts.platform,
        "inputs": tensors(facts.inputs),
        "outputs": tensors(facts.outputs),
    }


def _config(serialized: bytes) -> dict[str, Any]:
    found: dict[str, Any] = _numbers(MessageToDict(model_config_pb2.ModelConfig.FromString(serialized), **AS_JSON))
    return found


def _numbers(found: Any, field: str = "") -> Any:
    """protobuf's JSON writes 64-bit integers as text; here they are numbers, as Triton has them."""
    if isinstance(found, dict):
        return {name: _numbers(value, name) for name, value in found.items()}
    if isinstance(found, list):
        return [_numbers(value, field) for value in found]
    if isinstance(found, str) and field not in TEXTS and found.removeprefix("-").isdigit():
        return int(found)
    return found


TEXTS: Final = frozenset({"name", "version", "string_value", "key", "type", "label_filename", "profile"})
"""Fields that are text even where they look like a number."""


def _entry(one: Any) -> dict[str, Any]:
    found = {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
    return {name: value for name, value in found.items() if value}


def _decoded_files(parameters: dict[str, Any]) -> dict[str, Any]:
    """Files come in base64."""
    import base64
    import binascii

    found: dict[str, Any] = {}
    for name, value in parameters.items():
        if not name.startswith("file:"):
            found[name] = value
            continue
        try:
            found[name] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise BadRequest(f"parameter {name[:128]!r} is not base64", field="parameters") from error
    return found


def _trace_values(name: str, value: Any) -> list[str] | None:
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise BadRequest(f"{name[:128]!r} must be text, or a list of texts", field=name[:128])
    return values


def _of_kind(document: dict[str, Any], field: str, kind: type, default: Any = None) -> Any:
    value = document.get(field, default)
    if value is None:
        raise BadRequest(f"Shared memory register request has no '{field}' field", field=field)
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = "text" if kind is str else "a whole number"
        raise BadRequest(f"Unable to parse '{field}': {wanted} is needed", field=field)
    return value


def _json(document: Any, status: int = 200) -> Answer:
    return Answer([orjson.dumps(document)], status, JSON)


async def _send(send: Any, request: Request, answer: Answer) -> None:
    parts, accepted = answer.parts, request.headers.get(b"accept-encoding")
    if accepted and answer.compressible:
        parts, encoding = compressed(parts, accepted.decode("latin-1"))
        if encoding:
            answer.headers.append((b"content-encoding", encoding.encode()))
    answer.headers.append((b"content-length", str(sum(map(len, parts))).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    last = len(parts) - 1
    for place, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": place < last})
    if not parts:
        await send({"type": "http.response.body", "body": b""})
