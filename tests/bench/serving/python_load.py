"""The load that Python clients make: grpc.aio in a process of its own, a channel and one call in hand for each client.

    python -m tests.bench.serving.python_load ADDRESS BODY_FILE CLIENTS SECONDS

BODY_FILE holds a serialized ModelInferRequest. The answer is one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from tests.bench.serving.h2load import Load
from tests.bench.serving.payloads import INFER, LIMITS

GRACE_S: Final = 60
PREFIX: Final = 5
"""Bytes before each gRPC message."""


def run(address: str, message: bytes, clients: int, seconds: float) -> Load:
    """In a process of its own."""
    with tempfile.TemporaryDirectory(prefix="irisloop-load-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(message)
        words = [sys.executable, "-m", __name__, address, str(body), str(clients), str(seconds)]
        answer = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + GRACE_S)
    found = json.loads(answer.stdout)
    return Load(found["seconds"], found["answered"], found["failed"], found["data_bytes"], tuple(found["taken"]))


async def generate(address: str, message: bytes, clients: int, seconds: float) -> dict[str, object]:
    """The figures of `Load`, as JSON knows them."""
    taken: list[float] = []
    failed = size = 0
    begun = time.perf_counter()

    async def client() -> None:
        nonlocal failed, size
        options = [*LIMITS, ("grpc.use_local_subchannel_pool", 1)]  # or all clients would share one connection
        async with grpc.aio.insecure_channel(address, options=options) as channel:
            call: Any = channel.unary_unary(INFER)
            while (start := time.perf_counter()) < begun + seconds:
                try:
                    answer: bytes = await call(message)
                    size += PREFIX + len(answer)
                    taken.append(time.perf_counter() - start)
                except grpc.aio.AioRpcError:
                    failed += 1

    await asyncio.gather(*(client() for _ in range(clients)))
    spent = time.perf_counter() - begun
    return {
        "seconds": spent,
        "answered": len(taken),
        "failed": failed,
        "data_bytes": size,
        "taken": sorted(round(one, 6) for one in taken),
    }


def main() -> None:
    """One run."""
    address, body, clients, seconds = sys.argv[1:]
    found = uvloop.run(generate(address, Path(body).read_bytes(), int(clients), float(seconds)))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
