"""Calls with a 4.9 MB image, one at a time, by NVIDIA's client over each road; what counts is the time of a call."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.bench.serving.models import IMAGES, MODELS
from tests.bench.serving.processes import cpu_seconds
from tests.bench.serving.rounds import Absence
from tests.bench.serving.servers import Server
from tests.conformance.peers.environments import build_environment

PROGRAM: Final = Path(__file__).with_name("programs") / "image_client.py"
CLIENT: Final = "scripts"
"""The environment that has tritonclient with both of its roads."""
ROADS: Final[Mapping[str, str]] = {
    "grpc": "gRPC",
    "http": "HTTP",
    "grpc-memory": "gRPC, shared memory",
    "http-memory": "HTTP, shared memory",
}
CALLS: Final = 20
WARM_UP: Final = 3
"""As in the program."""


@dataclass(frozen=True, slots=True)
class ImageSample:
    """One server in one round: milliseconds of a call, and the server's CPU of it."""

    server: str
    model: str
    road: str
    turn: int
    p50_ms: float
    p95_ms: float
    cpu_ms: float


class ImageClient:
    """The client's process; a context manager."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        python = build_environment(self._home, CLIENT).python
        self._process = subprocess.Popen(
            [str(python), str(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(30)
            assert self._process.stdout is not None
            self._process.stdout.close()

    def ask(self, job: Mapping[str, object]) -> dict[str, Any]:
        """One job's answer."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found


def job_of(server: Server, model: str, road: str, calls: int) -> dict[str, object]:
    """What the client needs to know."""
    one = MODELS[model]
    return {
        "grpc": server.grpc,
        "http": server.http,
        "road": road,
        "model": model,
        "datatype": one.datatype.lower().replace("fp", "float"),
        "answer_datatype": one.answer_datatype.lower().replace("fp", "float"),
        "shape": [1, *one.shape],
        "answer_shape": [1, *one.answer_shape],
        "echo": model == "echo-image",
        "calls": calls,
    }


def measure(
    servers: Mapping[str, Server], home: Path, rounds: int, calls: int = CALLS
) -> Iterator[ImageSample | Absence]:
    """Both models over all roads, the servers in turn within a round."""
    with ImageClient(home) as client:
        for model in IMAGES:
            for road in ROADS:
                yield from _road(client, servers, model, road, rounds, calls)


def _road(
    client: ImageClient, servers: Mapping[str, Server], model: str, road: str, rounds: int, calls: int
) -> Iterator[ImageSample | Absence]:
    able: list[str] = []
    for key, server in servers.items():
        reason = client.ask(job_of(server, model, road, 1)).get("error")
        if reason:
            yield Absence(key, f"{model}, {ROADS[road]}", " ".join(reason.split()))
        else:
            able.append(key)
    order = random.Random(f"{model} {road}")
    for turn in range(rounds):
        for key in order.sample(able, len(able)):
            yield _sample(client, servers[key], key, model, road, turn, calls)


def _sample(client: ImageClient, server: Server, key: str, model: str, road: str, turn: int, calls: int) -> ImageSample:
    before = cpu_seconds(server.pid)
    found = client.ask(job_of(server, model, road, calls))
    if "error" in found:
        raise RuntimeError(f"{key}, {model}, {ROADS[road]}: {found['error']}")
    # The warm-up calls of the client are in it: they cost the same.
    spent = (cpu_seconds(server.pid) - before) * 1000 / (calls + WARM_UP)
    return ImageSample(key, model, road, turn, found["p50_ms"], found["p95_ms"], spent)


def chosen_servers(servers: Mapping[str, Server], keys: Sequence[str]) -> dict[str, Server]:
    """Those of the keys that run."""
    return {key: servers[key] for key in keys if key in servers}
