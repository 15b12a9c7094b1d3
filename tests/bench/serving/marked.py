"""Clients that mark each call by its trace, in a process of their own, so that each answer can be looked for among the
events; and the account of both.

    python -m tests.bench.serving.marked ADDRESS CLIENTS MODEL ...

They stop when stdin ends; client n calls model n modulo their number, one call after the other, and goes on when a
call fails. The answer is one line of JSON. Clocks are `time.monotonic`, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
import uvloop
from inference import grpc_service_pb2 as pb

from services.common.bus import Record
from tests.bench.serving.payloads import INFER, LIMITS, infer_request
from tests.bench.serving.registered import named

STOP_S: Final = 120
PAUSE_S: Final = 0.02
"""After a call that failed."""
CALL_S: Final = 30.0
OPTIONS: Final = [
    *LIMITS,
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 100),
]


@dataclass(frozen=True, slots=True)
class Call:
    """The `number`th of a client; `error` is gRPC's code, or empty."""

    client: int
    number: int
    begun: float
    end: float
    version: str
    error: str

    @property
    def mark(self) -> str:
        """The trace id."""
        return mark_of(self.client, self.number)


def mark_of(client: int, number: int) -> str:
    """A trace id (W3C Trace Context: 32 hexadecimal digits, not all of them 0)."""
    return f"{client + 1:016x}{number + 1:016x}"


def call_of(mark: str) -> tuple[int, int]:
    """(client, number)."""
    return int(mark[:16], 16) - 1, int(mark[16:], 16) - 1


class Marked:
    """The clients' process; a context manager, whose calls are there when it has ended."""

    def __init__(self, address: str, models: Sequence[str], clients: int) -> None:
        self._words = [sys.executable, "-m", __name__, address, str(clients), *models]
        self._process: subprocess.Popen[str] | None = None
        self.calls: list[Call] = []

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process is not None
        output, _ = self._process.communicate(timeout=STOP_S)
        if kind is None:
            self.calls = [Call(*one) for one in json.loads(output)]


@dataclass(frozen=True, slots=True)
class Account:
    """Calls and events, one against the other."""

    answered: int
    records: int
    """On the topic that bear a mark, repeats too."""
    identities: int
    """Different ce_ids among them."""
    missing: tuple[Call, ...]
    """Answered, without an event."""
    doubled: int
    """Calls with two events or more, that is, of different ce_ids."""
    unanswered: int
    """Events of calls that failed for the client: it was answered when nobody listened any more."""
    disordered: int
    """Events that come before an event of an earlier call of the same client."""

    @property
    def repeats(self) -> int:
        """Records whose ce_id was there before; consumers leave them out."""
        return self.records - self.identities


def account(calls: Iterable[Call], events: Sequence[tuple[str, str]]) -> Account:
    """`events`: (ce_id, mark) of each record in the topic's order."""
    answered = {call.mark: call for call in calls if not call.error}
    identities: dict[str, set[str]] = defaultdict(set)
    last: dict[int, int] = {}
    disordered = 0
    for ce_id, mark in events:
        if not identities[mark]:
            client, number = call_of(mark)
            disordered += number < last.get(client, -1)
            last[client] = max(number, last.get(client, -1))
        identities[mark].add(ce_id)
    return Account(
        answered=len(answered),
        records=len(events),
        identities=len({ce_id for ce_id, _ in events}),
        missing=tuple(call for mark, call in answered.items() if mark not in identities),
        doubled=sum(len(found) > 1 for found in identities.values()),
        unanswered=sum(mark not in answered for mark in identities),
        disordered=disordered,
    )


def events_of(records: Iterable[Record]) -> list[tuple[str, str]]:
    """(ce_id, mark) of those that bear a mark."""
    found = []
    for record in records:
        headers = dict(record.headers)
        trace = headers.get("traceparent", b"").decode().split("-")
        if len(trace) == 4:
            found.append((headers["ce_id"].decode(), trace[1]))
    return found


async def generate(address: str, models: Sequence[str], clients: int, stop: asyncio.Event) -> list[tuple[Any, ...]]:
    """Every call, in the order in which they ended."""
    calls: list[tuple[Any, ...]] = []

    async def client(place: int) -> None:
        model = named(models[place % len(models)])
        message, number = infer_request(model, model.sample()), 0
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            call: Any = channel.unary_unary(INFER)
            while not stop.is_set():
                metadata = (("traceparent", f"00-{mark_of(place, number)}-00000000000000aa-01"),)
                begun = time.monotonic()
                try:
                    answer = pb.ModelInferResponse.FromString(await call(message, metadata=metadata, timeout=CALL_S))
                    calls.append((place, number, begun, time.monotonic(), answer.model_version, ""))
                except grpc.aio.AioRpcError as error:
                    calls.append((place, number, begun, time.monotonic(), "", error.code().name))
                    await asyncio.sleep(PAUSE_S)
                number += 1

    await asyncio.gather(*(client(place) for place in range(clients)))
    return calls


async def run(address: str, models: Sequence[str], clients: int) -> list[tuple[Any, ...]]:
    """Until stdin ends."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()
    return await generate(address, models, clients, stop)


def main() -> None:
    """One run."""
    address, clients, *models = sys.argv[1:]
    sys.stdout.write(json.dumps(uvloop.run(run(address, models, int(clients)))))


if __name__ == "__main__":
    main()
