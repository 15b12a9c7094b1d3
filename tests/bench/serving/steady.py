"""Clients that never rest, in a process of their own: each call's end, time, version and whether its answer was right.

    python -m tests.bench.serving.steady ADDRESS MODEL CLIENTS

They stop when stdin ends. The answer is one line of JSON. Clocks are `time.monotonic`, which all processes share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
import numpy as np
import uvloop
from inference import grpc_service_pb2 as pb

from tests.bench.serving.models import MODELS
from tests.bench.serving.payloads import INFER, LIMITS, infer_request

STOP_S: Final = 60


@dataclass(frozen=True, slots=True)
class Call:
    """`end` by the monotonic clock; `first` is the answer's first number; `error` is gRPC's code, or empty."""

    end: float
    seconds: float
    version: str
    first: float
    error: str


class Steady:
    """The clients' process; a context manager, whose calls are there when it has ended."""

    def __init__(self, address: str, model: str, clients: int) -> None:
        self._words = [sys.executable, "-m", __name__, address, model, str(clients)]
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


async def generate(address: str, model: str, clients: int, stop: asyncio.Event) -> list[tuple[Any, ...]]:
    """Every call, in the order in which they ended."""
    message = infer_request(MODELS[model], MODELS[model].sample())
    calls: list[tuple[Any, ...]] = []

    async def client() -> None:
        options = [*LIMITS, ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call: Any = channel.unary_unary(INFER)
            while not stop.is_set():
                start = time.monotonic()
                try:
                    answer = pb.ModelInferResponse.FromString(await call(message))
                except grpc.aio.AioRpcError as error:
                    calls.append((time.monotonic(), time.monotonic() - start, "", 0.0, error.code().name))
                    continue
                end = time.monotonic()
                first = float(np.frombuffer(answer.raw_output_contents[0], np.float32, 1)[0])
                calls.append((end, end - start, answer.model_version, first, ""))

    await asyncio.gather(*(client() for _ in range(clients)))
    return calls


async def run(address: str, model: str, clients: int) -> list[tuple[Any, ...]]:
    """Until stdin ends."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait, daemon=True).start()
    return await generate(address, model, clients, stop)


def main() -> None:
    """One run."""
    address, model, clients = sys.argv[1:]
    sys.stdout.write(json.dumps(uvloop.run(run(address, model, int(clients)))))


if __name__ == "__main__":
    main()
