"""The gRPC side of every service: a server with health, reflection and one form of errors, and calls to neighbours."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import grpc
import grpc.aio

from services.common.errors import Conflict, InvalidMessage, IrisloopError, NotFound, Transient, Unavailable
from services.common.metrics import GRPC_SECONDS
from services.common.settings import MAX_MESSAGE_BYTES
from services.common.telemetry import bind_trace, current_traceparent, log, new_traceparent, span

if TYPE_CHECKING:
    from grpc_health.v1.health import aio as health_aio

Q = TypeVar("Q")
A = TypeVar("A")

DOMAIN: Final = "irisloop"
LOCAL_OWNER: Final = "local-owner"
PRINCIPAL: Final = "irisloop-principal"
AT_ONCE: Final = 2_000
"""Calls in hand at one time; more are answered RESOURCE_EXHAUSTED."""
PENDING: Final = 500
"""Calls that gRPC's core holds until Python takes them: above it some, above twice of it all further ones are cut off,
which their callers see as CANCELLED. Python spends as much on refusing a call as on a small answer, so that without
this bound calls grow old in the core while it refuses others.
"""
PING_MS: Final = 30_000
PING_TIMEOUT_MS: Final = 20_000
"""Who answers no ping for so long is gone, or takes nothing of what it is sent: the connection is closed."""
PRINCIPAL_CHARACTERS: Final = 128
CALL_TIMEOUT_S: Final = 10.0
CODES: Final[tuple[tuple[type[IrisloopError], grpc.StatusCode], ...]] = (
    (InvalidMessage, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Transient, grpc.StatusCode.UNAVAILABLE),
    (IrisloopError, grpc.StatusCode.INTERNAL),
)
"""The most particular first."""
ERRORS: Final[Mapping[grpc.StatusCode, type[IrisloopError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidMessage,
    grpc.StatusCode.OUT_OF_RANGE: InvalidMessage,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
    grpc.StatusCode.ALREADY_EXISTS: Conflict,
    grpc.StatusCode.ABORTED: Transient,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Transient,
    grpc.StatusCode.DEADLINE_EXCEEDED: Unavailable,
    grpc.StatusCode.CANCELLED: Unavailable,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}


def principal(context: grpc.aio.ServicerContext[Any, Any]) -> str:
    """Who calls: the metadata `irisloop-principal`, a local owner by default."""
    return _metadata(context.invocation_metadata()).get(PRINCIPAL, "")[:PRINCIPAL_CHARACTERS] or LOCAL_OWNER


def _metadata(pairs: Any) -> dict[str, str]:
    return {key: value if isinstance(value, str) else value.decode("latin-1") for key, value in pairs or ()}


# ---- server ----


class GrpcServer:
    """A server, its health service, and the names of what was added to it."""

    def __init__(self, server: grpc.aio.Server, health: health_aio.HealthServicer, names: Sequence[str]) -> None:
        """Made by `create_grpc`."""
        self.server: Final = server
        self._health = health
        self._names = ("", *names)
        self._serving: bool | None = None

    async def set_serving(self, serving: bool) -> None:
        """Answer health checks, of the whole and of each service, from now on so."""
        from grpc_health.v1 import health_pb2

        if serving == self._serving:
            return
        self._serving = serving
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in self._names:
            await self._health.set(name, status)


class _Registry:
    """Stands in for the server while servicers are added: learns their names, and puts `answering` around each method.

    A generic handler with a true attribute `bare` is added as it is: it maps errors, measures and traces by itself.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.names: list[str] = []

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        for handler in handlers:
            name = getattr(handler, "service_name", None)
            if callable(name):
                self.names.append(name())
        self._server.add_generic_rpc_handlers(
            [handler if getattr(handler, "bare", False) else _Answering(handler) for handler in handlers]
        )

    def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
        """Nothing: the generic handlers are looked at first, and they are complete."""


class _Answering(grpc.GenericRpcHandler):
    """A generic handler whose methods are answered with our errors, traces and measurements."""

    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner
        self._methods: dict[str, Any] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The method's handler, wrapped once."""
        method = handler_call_details.method
        known = self._methods.get(method)
        if known is None:
            handler = self._inner.service(handler_call_details)
            if handler is None:
                return None
            known = self._methods[method] = answering(method, handler)
        return known


def create_grpc(
    add: Callable[[grpc.aio.Server], None] | None = None, *, max_message_bytes: int = MAX_MESSAGE_BYTES
) -> GrpcServer:
    """A server that is not listening yet; `add` puts the servicers in. Call it inside the event loop."""
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    from grpc_health.v1.health import aio as health_aio
    from grpc_reflection.v1alpha import reflection

    server = grpc.aio.server(
        maximum_concurrent_rpcs=AT_ONCE,
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.server.max_pending_requests", PENDING),
            ("grpc.server.max_pending_requests_hard_limit", 2 * PENDING),
            ("grpc.keepalive_time_ms", PING_MS),
            ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
            ("grpc.http2.max_ping_strikes", 0),  # a neighbour's keep-alive is no attack
            ("grpc.keepalive_permit_without_calls", 1),
        ],
    )
    recorder = _Registry(server)
    if add is not None:
        add(cast(grpc.aio.Server, recorder))
    health = health_aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    known = (health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection((*recorder.names, *known), server)
    return GrpcServer(server, health, recorder.names)


def answering(method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
    """Around every call: the trace, the measurement, and our errors as status and details; all four kinds of method."""
    codec = {
        "request_deserializer": handler.request_deserializer,
        "response_serializer": handler.response_serializer,
    }
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_unary(method, handler.unary_unary), **codec)
    if handler.stream_unary is not None:
        return grpc.stream_unary_rpc_method_handler(_unary(method, handler.stream_unary), **codec)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(_streaming(method, handler.unary_stream), **codec)
    bidirectional = cast(Callable[[Any, Any], Any], handler.stream_stream)
    return grpc.stream_stream_rpc_method_handler(_streaming(method, bidirectional), **codec)


def _unary(method: str, handle: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    async def answer(request: Any, context: Any) -> Any:
        async with _Call(method, context):
            return await handle(request, context)

    return answer


def _streaming(method: str, handle: Callable[[Any, Any], Any]) -> Any:
    async def answer(request: Any, context: Any) -> AsyncIterator[Any]:
        async with _Call(method, context):
            responses = handle(request, context)
            if hasattr(responses, "__aiter__"):
                async for response in responses:
                    yield response
            else:
                await responses  # it writes to the context itself

    return answer


class _Call:
    """One call being answered."""

    def __init__(self, method: str, context: Any) -> None:
        self._method = method
        self._context = context
        self._started = time.perf_counter()

    async def __aenter__(self) -> None:
        traceparent = _metadata(self._context.invocation_metadata()).get("traceparent", "")
        self._trace = bind_trace(traceparent)
        self._span = span(self._method)
        self._span.__enter__()

    async def __aexit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        code = grpc.StatusCode.OK
        try:
            self._span.__exit__(None, None, None)
            if isinstance(error, IrisloopError):
                code = _code(error)
                await self._abort(error)
            elif isinstance(error, Exception) and not isinstance(error, grpc.aio.AbortError):
                code = grpc.StatusCode.INTERNAL
                log.exception("grpc_failed", method=self._method, exc_info=error)
                await self._abort(IrisloopError("The service failed; its log says why.", reason="INTERNAL"))
            elif error is not None:
                code = grpc.StatusCode.ABORTED if isinstance(error, Exception) else grpc.StatusCode.CANCELLED
        finally:
            GRPC_SECONDS.labels(self._method, code.name).observe(time.perf_counter() - self._started)

    async def _abort(self, error: IrisloopError) -> None:
        await abort(self._context, error)


def _code(error: IrisloopError) -> grpc.StatusCode:
    return next(code for kind, code in CODES if isinstance(error, kind))


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: IrisloopError) -> None:
    """End the call with the error's status, ErrorInfo, and BadRequest when it names a field. Always raises."""
    from google.protobuf.any_pb2 import Any as AnyMessage
    from google.rpc import error_details_pb2, status_pb2
    from grpc_status import rpc_status

    code = _code(error)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)
    if error.field:
        info.metadata["field"] = error.field
    details: list[Any] = [info]
    if error.field and code is grpc.StatusCode.INVALID_ARGUMENT:
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if code is grpc.StatusCode.UNAVAILABLE:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(500)
        details.append(retry)
    packed = []
    for detail in details:
        message = AnyMessage()
        message.Pack(detail)
        packed.append(message)
    status = status_pb2.Status(code=code.value[0], message=str(error), details=packed)
    await context.abort_with_status(rpc_status.to_status(status))


# ---- client ----


def channel(address: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> grpc.aio.Channel:
    """A channel to a neighbour (host:port) that finds it again soon after a restart. Call it inside the event loop."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.max_receive_message_length", max_message_bytes),
            ("grpc.max_send_message_length", max_message_bytes),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            ("grpc.keepalive_time_ms", 30_000),
            ("grpc.keepalive_timeout_ms", 5_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
        ],
    )


def metadata(who: str = "") -> tuple[tuple[str, str], ...]:
    """What to send with a call: the trace in hand, and the principal on whose behalf it is made."""
    pairs = (("traceparent", current_traceparent() or new_traceparent()),)
    return (*pairs, (PRINCIPAL, who)) if who else pairs


async def call(
    method: Callable[..., Awaitable[A]], request: Any, *, timeout_s: float = CALL_TIMEOUT_S, principal: str = ""
) -> A:
    """Call a stub's unary method. Raises our errors: `Unavailable` when the neighbour does not answer in time."""
    try:
        return await method(request, timeout=timeout_s, metadata=metadata(principal))
    except grpc.aio.AioRpcError as error:
        raise translated(error) from error


def translated(error: grpc.aio.AioRpcError) -> IrisloopError:
    """The neighbour's status as one of our errors, with its reason and field.

    A status that blames neither the request nor the state (INTERNAL, UNKNOWN, UNIMPLEMENTED, ...) says that the
    neighbour is broken or of another version; what it was asked to do waits for it.
    """
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    reason, field = "", ""
    try:
        status = rpc_status.from_call(cast(Any, error))
    except ValueError:
        status = None
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            reason, field = info.reason, info.metadata.get("field", "")
    kind = ERRORS.get(error.code(), Unavailable)
    return kind(error.details() or error.code().name, field=field, reason=reason)
