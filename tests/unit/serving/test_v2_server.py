"""/v2 behind a real uvicorn: connections that break, stall, come in pieces, or go on after a refusal."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
import uvicorn

from services.common.servers import QuietServer
from services.serving.inbound.v2.patience import Patience
from tests.unit.serving.v2_house import LIMIT, House, binary_body, infer_body
from tests.waiting import PATIENCE_S, until

PATH = "/v2/models/m/infer"
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@pytest.fixture
def house() -> House:
    return House(patience=Patience(stall_s=0.3, look_s=0.01))


@pytest.fixture
async def port(house: House) -> AsyncIterator[int]:
    """Of a server that is stopped at the end, whatever its clients do."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(house.app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
    server = QuietServer(config)
    task = asyncio.create_task(server.serve(sockets=[listening]))
    await until(lambda: server.started)
    yield listening.getsockname()[1]
    server.should_exit = True
    await task


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Connection]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


def head(size: str, *headers: str) -> bytes:
    """Up to the body."""
    lines = [f"POST {PATH} HTTP/1.1", "host: x", size, *headers, "", ""]
    return "\r\n".join(lines).encode()


async def answered(connection: Connection) -> tuple[int, bytes]:
    """The next answer's status and body."""
    reader, _ = connection
    async with asyncio.timeout(PATIENCE_S):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        (size,) = (int(line.split(":")[1]) for line in lines if line.startswith("content-length:"))
        return int(lines[0].split()[1]), await reader.readexactly(size)


async def test_a_large_binary_answer_comes_whole(house: House, port: int) -> None:
    house.model.output = np.random.RandomState(1).rand(1, 300_000).astype(np.float32)
    body, size = binary_body(outputs=[{"name": "y", "parameters": {"binary_data": True}}])
    async with httpx.AsyncClient() as client:
        headers = {"inference-header-content-length": str(size)}
        found = await client.post(f"http://127.0.0.1:{port}{PATH}", content=body, headers=headers)
    split = int(found.headers["inference-header-content-length"])
    assert found.content[split:] == house.model.output.tobytes()


async def test_a_body_in_chunks_and_one_byte_at_a_time_is_read(house: House, port: int) -> None:
    body = infer_body(id="chunked")
    async with connected(port) as connection:
        _, writer = connection
        writer.write(head("transfer-encoding: chunked"))
        for byte in body:
            writer.write(b"1\r\n" + bytes([byte]) + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")
        status, found = await answered(connection)
    assert (status, json.loads(found)["id"]) == (200, "chunked")


async def test_a_call_is_cancelled_when_its_client_hangs_up(house: House, port: int) -> None:
    house.model.waits = True
    async with connected(port) as (_, writer):
        body = infer_body()
        writer.write(head(f"content-length: {len(body)}") + body)
        await until(lambda: len(house.model.calls) == 1)
        assert not house.model.cancelled
    await until(lambda: house.model.cancelled)


async def test_a_connection_goes_on_after_calls_that_took_long(house: House, port: int) -> None:
    body = infer_body()
    async with connected(port) as connection:
        _, writer = connection
        for waits_s in (0.1, 0.0, 0.1):
            house.model.delay_s = waits_s  # long enough for the connection to be watched
            writer.write(head(f"content-length: {len(body)}") + body)
            assert (await answered(connection))[0] == 200
    assert not house.model.cancelled


async def test_half_a_body_leaves_no_call_behind_and_others_are_served(house: House, port: int) -> None:
    body = infer_body()
    for _ in range(20):
        async with connected(port) as (_, writer):
            writer.write(head(f"content-length: {len(body)}") + body[:20])
            await writer.drain()
    async with connected(port) as connection:
        connection[1].write(head(f"content-length: {len(body)}") + body)
        assert (await answered(connection))[0] == 200
    assert len(house.model.calls) == 1


@pytest.mark.parametrize("sent", [b"", b'{"inputs"'])
async def test_a_client_that_stalls_is_told_so_and_hung_up_on(house: House, port: int, sent: bytes) -> None:
    async with connected(port) as connection:
        reader, writer = connection
        writer.write(head("content-length: 100") + sent)
        status, found = await answered(connection)
        assert (status, "did not go on" in json.loads(found)["error"]) == (408, True)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.read() == b""
    assert house.model.calls == []


async def test_others_are_served_while_many_stall(house: House, port: int) -> None:
    body = infer_body()
    async with asyncio.TaskGroup() as group, asyncio.timeout(PATIENCE_S):
        stalled = [group.create_task(asyncio.open_connection("127.0.0.1", port)) for _ in range(100)]
        writers = [(await one)[1] for one in stalled]
        for writer in writers:
            writer.write(head("content-length: 100") + b"{")
        async with connected(port) as connection:
            connection[1].write(head(f"content-length: {len(body)}") + body)
            assert (await answered(connection))[0] == 200
        for writer in writers:
            writer.transport.abort()


async def test_a_body_that_is_too_large_is_refused_before_it_is_sent(house: House, port: int) -> None:
    async with connected(port) as connection:
        connection[1].write(head(f"content-length: {LIMIT + 1}", "expect: 100-continue"))
        assert (await answered(connection))[0] == 413


async def test_a_body_in_chunks_without_end_is_refused_at_the_limit(house: House, port: int) -> None:
    piece = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    async with connected(port) as connection:
        _, writer = connection
        writer.write(head("transfer-encoding: chunked"))
        for _ in range(LIMIT // 0x10000 + 1):
            writer.write(piece)
        await writer.drain()
        assert (await answered(connection))[0] == 413


async def test_a_connection_goes_on_after_a_refusal(house: House, port: int) -> None:
    good, bad = infer_body(), b"{"
    async with connected(port) as connection:
        for body, status in ((bad, 400), (good, 200), (bad, 400), (good, 200)):
            connection[1].write(head(f"content-length: {len(body)}") + body)
            assert (await answered(connection))[0] == status


async def test_calls_sent_before_the_answers_come_are_answered_in_order(house: House, port: int) -> None:
    async with connected(port) as connection:
        for place in range(5):
            body = infer_body(id=str(place))
            connection[1].write(head(f"content-length: {len(body)}") + body)
        found = [json.loads((await answered(connection))[1])["id"] for _ in range(5)]
    assert found == ["0", "1", "2", "3", "4"]
