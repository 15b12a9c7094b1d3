"""Answers that nobody reads are bounded, by every transport; others go on, and so does it when they are gone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from inference import grpc_service_pb2 as pb
from onnx import TensorProto, checker, helper

from services.common.runtime import Runtime
from services.serving.errors import Overloaded
from services.serving.inbound.unread import SMALL, Unread
from tests.unit.serving.folders import folder_serving, write
from tests.waiting import PATIENCE_S

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


def deaf_grpc(port: int) -> socket.socket:
    """The same in HTTP/2, by a window of no bytes."""

    def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
        return struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body

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
        + frame(1, 4, 1, headers)
        + frame(0, 1, 1, b"\x00" + struct.pack(">I", len(wanted)) + wanted)
    )
    return one


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
