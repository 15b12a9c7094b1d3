"""Many connections are not at the others' expense: calls are bounded, not connections, and who stalls is shown out."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

from services.common.crowds import LEAST_BYTES, AtOnce, Doorkeeper
from services.common.runtime import Application
from services.common.servers import AT_ONCE
from tests.unit.common.test_runtime import running, settings
from tests.waiting import PATIENCE_S


class Cycle:
    """A call of uvicorn's."""

    def __init__(self, complete: bool) -> None:
        self.response_complete = complete


class Connection:
    """Its own transport."""

    client = ("127.0.0.1", 1)

    def __init__(self, cycle: Cycle | None = None, left: int = 0) -> None:
        self.cycle = cycle
        self.left = left
        self.ended = ""
        self.transport = self

    def get_write_buffer_size(self) -> int:
        return self.left

    def close(self) -> None:
        self.ended = "closed"

    def abort(self) -> None:
        self.ended = "aborted"


def test_a_connection_that_never_asks_is_closed_and_one_with_a_call_in_hand_is_not() -> None:
    silent, busy = Connection(), Connection(Cycle(complete=False))
    keeper = Doorkeeper(lambda: [silent, busy], 60.0)
    for now in (0.0, 60.0, 61.0):
        keeper.look(now)
    assert (silent.ended, busy.ended) == ("closed", "")


def test_who_asks_again_begins_anew() -> None:
    one = Connection(Cycle(complete=True))
    keeper = Doorkeeper(lambda: [one], 60.0)
    keeper.look(0.0)
    one.cycle = Cycle(complete=True)
    keeper.look(59.0)
    keeper.look(100.0)
    assert one.ended == ""


def test_a_reader_is_cut_off_when_it_takes_less_than_it_should() -> None:
    slow, steady = (Connection(Cycle(complete=done), 10 * LEAST_BYTES) for done in (True, False))
    keeper = Doorkeeper(lambda: [slow, steady], 60.0)
    for now in (0.0, 50.0, 100.0):
        keeper.look(now)
        slow.left -= 10
        steady.left -= LEAST_BYTES
    assert (slow.ended, steady.ended) == ("aborted", "")


async def test_more_calls_than_may_be_in_hand_are_refused_and_later_ones_are_not() -> None:
    said: list[Any] = []
    leave = asyncio.Event()

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await leave.wait()

    async def send(message: Any) -> None:
        said.append(message.get("status"))

    bounded = AtOnce(inner, 1)
    first = asyncio.create_task(bounded({}, None, send))
    await asyncio.sleep(0)
    await bounded({}, None, send)
    assert said == [503, None]
    leave.set()
    await first
    await bounded({}, None, send)
    assert said == [503, None]


async def test_idle_connections_shut_nobody_out_and_are_closed_in_time() -> None:
    application = Application("sample", settings(connection_patience_s=1.0))
    async with running(application) as service:
        await service.until(200)
        with ExitStack() as stack:
            address = ("127.0.0.1", service.runtime.ports["http_port"])
            crowd = [stack.enter_context(socket.socket()) for _ in range(AT_ONCE + 10)]
            for one in crowd:
                one.setblocking(False)
                await asyncio.get_running_loop().sock_connect(one, address)
            assert (await service.get("/readyz")).status_code == 200
            async with asyncio.timeout(PATIENCE_S):
                assert await asyncio.get_running_loop().sock_recv(crowd[0], 1) == b""
