"""Answers that nobody reads are bounded, by every transport; others go on, and so does it when they are gone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import httpx
import numpy as np
import pytest
from inference import grpc_service_pb2 as pb
from onnx import TensorProto, checker, helper

from services.common.runtime import Runtime
from services.serving.domain.calls import AnsweredOutput, InferAnswer
from services.serving.domain.restrictions import Restrictions
from services.serving.domain.work import Work
from services.serving.errors import Overloaded
from services.serving.inbound.answered import Answered
from services.serving.inbound.native import NativeFront
from services.serving.inbound.unread import SMALL, Unread
from tests.unit.serving.folders import folder_serving, write
from tests.waiting import PATIENCE_S, until

LARGE = 8 << 20
"""Floats, so 32 MiB: more than the kernel's buffers take."""
INFER = "/inference.GRPCInferenceService/ModelInfer"
Sockets = list[socket.socket]
Ask = Callable[[int], Awaitable[int]]


def zeros() -> bytes:
    """As many zeros as the one input says."""
    node = helper.make_node(
        "ConstantOfShape", ["size"], ["zeros"], value=helper.make_tensor("v", TensorProto.FLOAT, [1], [0.0])
    )
    inputs = [helper.make_tensor_value_info("size", TensorProto.INT64, [1])]
    outputs = [helper.make_tensor_value_info("zeros", TensorProto.FLOAT, ["k"])]
    model = helper.make_model(
        helper.make_graph([node], "zeros", inputs, outputs), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    checker.check_model(model)
    return bytes(model.SerializeToString())


def document(size: int) -> dict[str, Any]:
    return {
        "inputs": [{"name": "size", "shape": [1], "datatype": "INT64", "data": [size]}],
        "outputs": [{"name": "zeros", "parameters": {"binary_data": True}}],
    }


def message(size: int) -> bytes:
    request = pb.ModelInferRequest(model_name="zeros")
    request.inputs.add(name="size", datatype="INT64", shape=[1]).contents.int64_contents.append(size)
    return request.SerializeToString()


def deaf_http(port: int) -> socket.socket:
    """A client that asks for a large answer, and reads nothing of it."""
    body = httpx.Request("POST", "http://x", json=document(LARGE)).content
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    one.connect(("127.0.0.1", port))
    head = f"POST /v2/models/zeros/infer HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    one.sendall(head.encode() + body)
    return one


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Of HTTP/2, RFC 9113, 4.1."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body


def deaf_grpc(port: int, calls: int = 1) -> socket.socket:
    """The same in HTTP/2, by a window of no bytes."""

    def field(name: bytes, value: bytes) -> bytes:
        return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value

    wanted = message(LARGE)
    headers = b"\x83\x86" + b"".join(
        field(*pair)
        for pair in (
            (b":path", INFER.encode()),
            (b":authority", b"x"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )
    one = socket.create_connection(("127.0.0.1", port))
    one.sendall(
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + frame(4, 0, 0, struct.pack(">HI", 4, 0))
        + b"".join(
            frame(1, 4, stream, headers) + frame(0, 1, stream, b"\x00" + struct.pack(">I", len(wanted)) + wanted)
            for stream in streams(calls)
        )
    )
    return one


def streams(calls: int) -> range:
    """Their numbers in a connection."""
    return range(1, 2 * calls, 2)


@pytest.fixture(params=["http", "grpcio", "pygrpc"])
async def serving(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Runtime, bool]]:
    """A server with room for two large answers, and whether it is asked by HTTP."""
    write(tmp_path / "models", "zeros", zeros())
    http = request.param == "http"
    transport = "grpcio" if http else request.param
    async with folder_serving(tmp_path / "models", tmp_path, transport=transport, unread_mb=80) as runtime:
        yield runtime, http


async def asked(runtime: Runtime, http: bool, size: int) -> str:
    """How a call ends."""
    if http:
        async with httpx.AsyncClient(timeout=60) as client:
            url = f"http://127.0.0.1:{runtime.ports['http_port']}/v2/models/zeros/infer"
            answer = await client.post(url, json=document(size))
            assert answer.status_code != 503 or answer.headers["retry-after"] == "1"
            return (
                "full" if answer.status_code == 503 and "wait for readers" in answer.text else str(len(answer.content))
            )
    options = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(f"127.0.0.1:{runtime.ports['grpc_port']}", options) as channel:
        try:
            infer: Any = channel.unary_unary(INFER)
            answer = await infer(message(size), timeout=60)
        except grpc.aio.AioRpcError as error:
            assert error.code() is grpc.StatusCode.UNAVAILABLE
            return "full" if "wait for readers" in str(error.details()) else str(error)
        return str(len(answer))


async def test_large_answers_are_refused_while_others_wait_unread_and_small_ones_are_not(
    serving: tuple[Runtime, bool],
) -> None:
    runtime, http = serving
    assert int(await asked(runtime, http, LARGE)) > 4 * LARGE
    port = runtime.ports["http_port" if http else "grpc_port"]
    deaf: Sockets = []
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await asked(runtime, http, LARGE) != "full":  # A transport may cut off one that is slow.
                deaf.append(await asyncio.to_thread(deaf_http if http else deaf_grpc, port))
                await asyncio.sleep(0.05)
        assert int(await asked(runtime, http, 1000)) > 4000
    finally:
        for one in deaf:
            one.close()
    async with asyncio.timeout(PATIENCE_S):
        while (ended := await asked(runtime, http, LARGE)) == "full":
            await asyncio.sleep(0.05)
    assert int(ended) > 4 * LARGE


class Held:
    """Inference that answers when it is told to."""

    def __init__(self) -> None:
        self.replies: list[Any] = []

    def submit(self, call: Any, reply: Any, inline: Any) -> Work:
        self.replies.append(reply)
        return Work({}, 1, reply)

    def patience_ns(self, model: str) -> int:
        return 0

    def answer(self, size: int) -> None:
        """All calls, one after the other."""
        version: Any = SimpleNamespace(model="zeros", name="1")
        while self.replies:
            output = AnsweredOutput("zeros", "FP32", (size,), np.zeros(size, np.float32))
            self.replies.pop()(InferAnswer(version, "", [output]), True)


@pytest.mark.parametrize("reset", ["stream", "connection"])
async def test_calls_that_are_cancelled_just_when_they_are_answered_leave_nothing_that_waits(
    reset: str, tmp_path: Path
) -> None:
    held, unread, calls = Held(), Unread(1 << 30), 50
    front = NativeFront(cast(Any, held), Restrictions.parse([]), 1 << 20, 1000, unread)
    port = front.start("127.0.0.1:0", str(tmp_path / "nobody"))
    try:
        for _ in range(5):
            with await asyncio.to_thread(deaf_grpc, port, calls) as deaf:
                await until(lambda: len(held.replies) == calls)
                if reset == "stream":
                    deaf.sendall(b"".join(frame(3, 0, stream, struct.pack(">I", 8)) for stream in streams(calls)))
                else:
                    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    deaf.close()
                held.answer(50_000)
                await until(lambda: not unread.waiting(), what="that nothing waits")
        assert (unread.waiting(), held.replies) == (0, [])
    finally:
        await front.stop()


def test_what_waits_is_no_more_than_the_calls_under_way_can_hold() -> None:
    figures: dict[str, Any] = {"started": 0, "status": {0: {"count": 0, "sent": {"sum": 0}}}}
    answered = Answered("/m", lambda: {"methods": {"/m": figures}})
    assert answered.waiting() == 0
    figures["started"] = 10
    for _ in range(10):
        answered.add(1000)
    assert answered.waiting() == 10_000
    figures["status"] = {0: {"count": 2, "sent": {"sum": 2000}}, 1: {"count": 7, "sent": {"sum": 0}}}
    assert answered.waiting() == 1000
    figures["started"] = 11
    answered.add(500)
    assert answered.waiting() == 1500
    figures["status"][0] = {"count": 4, "sent": {"sum": 3500}}
    assert answered.waiting() == 0
    figures["started"] = 13
    answered.add(10)
    figures["status"][1]["count"] += 1
    assert answered.waiting() == 10, "a large answer of long ago does not count"


def test_one_answer_may_be_larger_than_the_bound_and_small_ones_take_no_room() -> None:
    unread = Unread(1 << 20)
    assert unread.take(SMALL) == 0
    held = unread.take(5 << 20)
    with pytest.raises(Overloaded, match="Answers of 1 MiB wait for readers"):
        unread.take(SMALL + 1)
    unread.give(held)
    assert unread.take(SMALL + 1) == SMALL + 1


def test_a_road_is_asked_how_much_waits_only_when_there_seems_to_be_no_room() -> None:
    asked, left = [], 900_000
    unread = Unread(1 << 20)
    unread.add_road("slow", lambda: asked.append(1) or left)  # type: ignore[func-returns-value]
    for _ in range(2):
        unread.pass_on("slow", unread.take(500_000))
    assert not asked
    with pytest.raises(Overloaded):
        unread.take(500_000)
    left = 0
    unread.take(500_000)
    assert (len(asked), unread.waiting()) == (2, 500_000)
