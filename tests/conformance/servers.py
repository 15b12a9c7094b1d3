"""The two servers under test as context managers of one shape: the real Triton, and Irisloop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from tests.conformance.models import Model, Runtime, write_repository
from tests.conformance.peers.triton import Triton, free_ports, live

REPOSITORY: Final = Path(__file__).parents[2]
START_S: Final = 120
STOP_S: Final = 60
PYGRPC: Final = "irisloop-pygrpc"


class Server(Protocol):
    """What runs, and where."""

    @property
    def grpc(self) -> str:
        """host:port."""

    @property
    def http(self) -> str:
        """host:port."""

    @property
    def alive(self) -> bool:
        """Whether the process runs."""

    def answers(self) -> bool:
        """Whether it says that it lives."""

    def last_lines(self) -> str:
        """The end of its log."""


class Irisloop:
    """`irisloop serve` on a repository, in explicit model control with every model asked for, on ports of its own."""

    def __init__(self, repository: Path, *, home: Path, arguments: Sequence[str] = ()) -> None:
        self._repository = repository
        self._home = home
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self._http, self._grpc, self._metrics = free_ports(3)
        self.log = Path(f"{repository}.irisloop.log")
        """What the server said."""

    # The one place to adapt when the command line changes.
    def _command(self) -> list[str]:
        return [
            *(sys.executable, "-m", "services", "serve"),
            *("--model-repository", str(self._repository)),
            *("--model-control-mode", "explicit"),
            *("--http-port", str(self._http)),
            *("--grpc-port", str(self._grpc)),
            *("--metrics-port", str(self._metrics)),
            *self._arguments,
        ]

    def _environment(self) -> dict[str, str]:
        paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto" / "gen")])
        return os.environ | {"IRISLOOP_HOME": str(self._home), "PYTHONPATH": paths}

    @property
    def http(self) -> str:
        """host:port of HTTP."""
        return f"127.0.0.1:{self._http}"

    @property
    def grpc(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self._grpc}"

    @property
    def metrics(self) -> str:
        """host:port of /metrics."""
        return f"127.0.0.1:{self._metrics}"

    @property
    def pid(self) -> int:
        """The server's process."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Whether it says that it lives."""
        return live(self.http)

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(), env=self._environment(), cwd=REPOSITORY, stdout=log, stderr=subprocess.STDOUT
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server; kill it when it does not end in time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def last_lines(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if not self.alive:
                raise RuntimeError(f"irisloop serve ended: {self.last_lines()}")
            if live(self.http):
                return
            time.sleep(0.1)
        raise TimeoutError(f"irisloop serve did not answer within {START_S} s: {self.last_lines()}")


Starter = Callable[[Sequence[Model]], AbstractContextManager[Server]]
"""Starts a server on a repository of these models, with all of them loaded."""


def starter(kind: str, folder: Path, home: Path) -> Starter:
    """`kind` is triton, irisloop, or irisloop-pygrpc for its other transport; repositories are written under `folder`,
    peers lie under `home`.
    """
    runtime: Runtime = "python" if kind == "triton" else "onnxruntime"

    def start(models: Sequence[Model]) -> AbstractContextManager[Server]:
        repository = folder / f"{kind}-{len(models)}"
        write_repository(repository, models, runtime)
        asked = ("--load-model=*",)
        if kind == "triton":
            return _Loaded(Triton(repository, home=home, arguments=asked))
        transport = ("--transport", "pygrpc") if kind == PYGRPC else ()
        return _Loaded(Irisloop(repository, home=home, arguments=(*asked, *transport)))

    return start


class _Loaded(AbstractContextManager[Server]):
    """Waits until no model is being loaded any more."""

    def __init__(self, inner: AbstractContextManager[Server]) -> None:
        self._inner = inner

    def __enter__(self) -> Server:
        server = self._inner.__enter__()
        try:
            self._wait(server)
        except BaseException:
            self._inner.__exit__(*sys.exc_info())
            raise
        return server

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        return self._inner.__exit__(kind, error, at)

    def _wait(self, server: Server) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            states = {entry.get("state", "") for entry in _index(server.http)}
            if states and states <= {"READY", "UNAVAILABLE"}:
                return
            time.sleep(0.2)
        raise TimeoutError(f"models are still being loaded after {START_S} s: {server.last_lines()}")


def _index(address: str) -> list[dict[str, str]]:
    request = urllib.request.Request(f"http://{address}/v2/repository/index", data=b"", method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[dict[str, str]] = json.loads(answer.read())
    return found
