"""Every service's gRPC, over a real socket: health, reflection, errors with details, trace and principal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from services.common.errors import Conflict, InvalidMessage, IrisloopError, NotFound, Transient, Unavailable
from services.common.grpc import GrpcServer, call, channel, create_grpc, principal
from services.common.telemetry import bind_trace, current_traceparent, new_traceparent, trace_id
from tests.waiting import PATIENCE_S

ERRORS: dict[str, Exception] = {
    "invalid": InvalidMessage("The id is empty.", field="id", reason="EMPTY"),
    "missing": NotFound("There is no such asset."),
    "conflict": Conflict("The version is refused."),
    "away": Unavailable("Kafka does not answer."),
    "ours": IrisloopError("Something broke.", reason="BROKEN"),
    "defect": ValueError("a password: hunter2"),
}
SERVICE = "irisloop.sample.v1.SampleService"


async def answer(request: StringValue, context: Any) -> StringValue:
    if request.value in ERRORS:
        raise ERRORS[request.value]
    return StringValue(value=f"{principal(context)} {trace_id(current_traceparent())}")


async def stream(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
    yield StringValue(value="first")
    yield await answer(request, context)


async def write(request: StringValue, context: Any) -> None:
    await context.write(StringValue(value="first"))
    await context.write(await answer(request, context))


async def collect(requests: AsyncIterator[StringValue], context: Any) -> StringValue:
    last = StringValue()
    async for request in requests:
        last = request
    return await answer(last, context)


async def chat(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
    async for request in requests:
        yield await answer(request, context)


def add(server: grpc.aio.Server) -> None:
    codec: dict[str, Any] = {
        "request_deserializer": StringValue.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    handlers = {
        "Answer": grpc.unary_unary_rpc_method_handler(answer, **codec),
        "Stream": grpc.unary_stream_rpc_method_handler(stream, **codec),
        "Write": grpc.unary_stream_rpc_method_handler(write, **codec),
        "Collect": grpc.stream_unary_rpc_method_handler(collect, **codec),
        "Chat": grpc.stream_stream_rpc_method_handler(chat, **codec),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


class Sample:
    """A stub."""

    def __init__(self, opened: grpc.aio.Channel) -> None:
        codec: dict[str, Any] = {
            "request_serializer": StringValue.SerializeToString,
            "response_deserializer": StringValue.FromString,
        }
        self.answer: Any = opened.unary_unary(f"/{SERVICE}/Answer", **codec)
        self.stream: Any = opened.unary_stream(f"/{SERVICE}/Stream", **codec)
        self.write: Any = opened.unary_stream(f"/{SERVICE}/Write", **codec)
        self.collect: Any = opened.stream_unary(f"/{SERVICE}/Collect", **codec)
        self.chat: Any = opened.stream_stream(f"/{SERVICE}/Chat", **codec)


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    made = create_grpc(add, max_message_bytes=100_000)
    yield made
    await made.server.stop(0)


@pytest.fixture
async def opened(server: GrpcServer) -> AsyncIterator[grpc.aio.Channel]:
    port = server.server.add_insecure_port("127.0.0.1:0")
    await server.server.start()
    async with channel(f"127.0.0.1:{port}") as opened:
        yield opened


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("invalid", InvalidMessage),
        ("missing", NotFound),
        ("conflict", Conflict),
        ("away", Unavailable),
        ("ours", Unavailable),
    ],
)
async def test_an_error_arrives_as_the_error_it_was(
    opened: grpc.aio.Channel, kind: str, expected: type[IrisloopError]
) -> None:
    with pytest.raises(expected) as caught:
        await call(Sample(opened).answer, StringValue(value=kind))
    sent = ERRORS[kind]
    assert isinstance(sent, IrisloopError)
    assert type(caught.value) is expected
    assert (str(caught.value), caught.value.reason, caught.value.field) == (str(sent), sent.reason, sent.field)


async def test_any_client_finds_the_reason_and_the_field_in_the_details(opened: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Sample(opened).answer(StringValue(value="invalid"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    details = rpc_status.from_call(caught.value).details
    assert details[0].Unpack(info)
    assert (info.reason, info.domain) == ("EMPTY", "irisloop")
    assert details[1].Unpack(bad)
    assert [(item.field, item.description) for item in bad.field_violations] == [("id", "The id is empty.")]


async def test_what_may_pass_bears_a_retry_hint(opened: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Sample(opened).answer(StringValue(value="away"))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in rpc_status.from_call(caught.value).details)
    assert retry.retry_delay.ToMilliseconds() > 0


@pytest.mark.parametrize("method", ["stream", "write"])
async def test_a_stream_may_end_with_an_error_too(opened: grpc.aio.Channel, method: str) -> None:
    got: list[str] = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for response in getattr(Sample(opened), method)(StringValue(value="missing")):
            got += [response.value]
    assert got == ["first"]
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("method", ["collect", "chat"])
async def test_streams_of_requests_are_answered_and_refused_alike(opened: grpc.aio.Channel, method: str) -> None:
    async def requests(kind: str) -> AsyncIterator[StringValue]:
        yield StringValue(value="fine")
        yield StringValue(value=kind)

    async def outcome(kind: str) -> list[str]:
        answered = getattr(Sample(opened), method)(requests(kind))
        if method == "collect":
            return [(await answered).value]
        return [response.value async for response in answered]

    assert (await outcome("fine"))[-1].startswith("local-owner ")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await outcome("conflict")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_defect_tells_the_caller_no_secrets(opened: grpc.aio.Channel) -> None:
    with pytest.raises(Unavailable, match="its log says why") as caught:
        await call(Sample(opened).answer, StringValue(value="defect"))
    assert "hunter2" not in str(caught.value)


async def test_trace_and_principal_go_with_a_call(opened: grpc.aio.Channel) -> None:
    with bind_trace(new_traceparent()) as traceparent:
        answered = await call(Sample(opened).answer, StringValue(), principal="anna")
    assert answered.value == f"anna {trace_id(traceparent)}"
    assert (await call(Sample(opened).answer, StringValue())).value.startswith("local-owner ")


async def test_health_follows_readiness_for_the_whole_and_for_each_service(
    server: GrpcServer, opened: grpc.aio.Channel
) -> None:
    check = health_pb2_grpc.HealthStub(opened).Check
    for serving in (False, True, False):
        await server.set_serving(serving)
        for name in ("", SERVICE):
            status = (await check(health_pb2.HealthCheckRequest(service=name))).status
            assert status == (1 if serving else 2)


async def test_reflection_names_the_services(opened: grpc.aio.Channel) -> None:
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    stub = reflection_pb2_grpc.ServerReflectionStub(opened)
    names = [
        service.name
        async for response in stub.ServerReflectionInfo(iter([request]))
        for service in response.list_services_response.service
    ]
    assert {SERVICE, "grpc.health.v1.Health"} <= set(names)


async def test_a_message_too_large_is_refused(opened: grpc.aio.Channel) -> None:
    with pytest.raises(Transient):
        await call(Sample(opened).answer, StringValue(value="x" * 200_000))


async def test_a_neighbour_that_is_away_is_unavailable_and_found_again_soon() -> None:
    first = create_grpc(add)
    port = first.server.add_insecure_port("127.0.0.1:0")
    await first.server.start()
    async with channel(f"127.0.0.1:{port}") as opened:
        await call(Sample(opened).answer, StringValue())
        await first.server.stop(0)
        with pytest.raises(Unavailable):
            await call(Sample(opened).answer, StringValue(), timeout_s=1.0)
        second = create_grpc(add)
        second.server.add_insecure_port(f"127.0.0.1:{port}")
        await second.server.start()
        try:
            request = Sample(opened).answer(StringValue(), timeout=PATIENCE_S, wait_for_ready=True)
            assert (await request).value.startswith("local-owner ")
        finally:
            await second.server.stop(0)


async def test_a_neighbour_that_does_not_answer_in_time_is_unavailable() -> None:
    async with channel("127.0.0.1:1") as opened:
        with pytest.raises(Unavailable):
            await call(Sample(opened).answer, StringValue(), timeout_s=0.5)
