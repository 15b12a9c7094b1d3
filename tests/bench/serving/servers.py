"""The servers that are compared, each as a context manager on a repository of its own: who they are, how they are
started, and the bare runtime that all of them end in.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from tests.bench.serving.models import BenchModel
from tests.bench.serving.repositories import write_mlserver, write_onnx, write_python
from tests.conformance.peers.environments import PeerMissing, build_environment
from tests.conformance.peers.triton import Triton, build_triton, free_ports
from tests.conformance.servers import Irisloop

START_S: Final = 120
STOP_S: Final = 30
LARGEST_MB: Final = 64

IRISLOOP: Final = "irisloop-grpcio"
NATIVE: Final = "irisloop-pygrpc"
IRISLOOP_QUIET: Final = "irisloop-grpcio-quiet"
NATIVE_QUIET: Final = "irisloop-pygrpc-quiet"
TRITON: Final = "triton"
MLSERVER: Final = "mlserver"
RAW: Final = "raw"
LABELS: Final[Mapping[str, str]] = {
    IRISLOOP: "Irisloop, grpcio",
    NATIVE: "Irisloop, pygrpc-native",
    IRISLOOP_QUIET: "Irisloop, grpcio, events off",
    NATIVE_QUIET: "Irisloop, pygrpc-native, events off",
    TRITON: "Triton 2.51, Python backend",
    MLSERVER: "MLServer 1.7.1",
    RAW: "onnxruntime, no server",
}
QUIET: Final[Mapping[str, str]] = {IRISLOOP: IRISLOOP_QUIET, NATIVE: NATIVE_QUIET}
"""Whom the cost of events is measured against."""


class Server(Protocol):
    """What runs, and where; `pid` is the root of its processes."""

    @property
    def grpc(self) -> str:
        """host:port."""

    @property
    def http(self) -> str:
        """host:port."""

    @property
    def pid(self) -> int:
        """Its first process."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What servers are started from: state and peers, a folder for repositories, and Kafka where events are on."""

    home: Path
    folder: Path
    models: Sequence[BenchModel]
    kafka: str = ""
    """Bootstrap servers; empty: no events anywhere."""
    control: Sequence[str] = ("--load-model", "*")
    """Beside `--model-control-mode explicit`, which all have."""
    config: str = ""
    """More of each model's config.pbtxt; MLServer has none."""


class BenchIrisloop(Irisloop):
    """`irisloop serve` as the conformance suite starts it, with its own home and log, and Kafka where events are on."""

    def __init__(self, repository: Path, *, home: Path, arguments: Sequence[str], kafka: str, replica: int) -> None:
        """`replica`: another number for each server on one Kafka, or they take each other for a revenant."""
        self._kafka = kafka
        self._replica = replica
        super().__init__(repository, home=home, arguments=arguments)
        home.mkdir(parents=True, exist_ok=True)
        self.log = home / "serve.log"

    def _environment(self) -> dict[str, str]:
        found = super()._environment()
        found["PYTHONPATH"] = os.pathsep.join(filter(None, [found["PYTHONPATH"], os.environ.get("PYTHONPATH", "")]))
        if self._kafka:
            found["IRISLOOP_KAFKA__BOOTSTRAP_SERVERS"] = self._kafka
            found["IRISLOOP_REPLICA"] = str(self._replica)
        return found


class MLServer:
    """MLServer in its own environment, on 127.0.0.1 and free ports."""

    def __init__(self, folder: Path, *, home: Path, models: Sequence[BenchModel]) -> None:
        self._folder = folder
        self._home = home
        self._models = models
        self._ports = free_ports(3)
        self._process: subprocess.Popen[bytes] | None = None

    # The one place where its configuration is chosen. With parallel_workers 1, its default, tensors travel to another
    # process: 0 is quicker for models that release the interpreter's lock, as these do.
    def _settings(self) -> dict[str, object]:
        http, grpc, metrics = self._ports
        ports = {"host": "127.0.0.1", "http_port": http, "grpc_port": grpc, "metrics_port": metrics}
        return ports | {
            "debug": False,
            "parallel_workers": 0,
            "grpc_max_message_length": LARGEST_MB << 20,
            "metrics_dir": str(self._folder / "metrics"),
            "environments_dir": str(self._folder / "environments"),
        }

    @property
    def http(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def grpc(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self._ports[1]}"

    @property
    def pid(self) -> int:
        """Its first process."""
        if self._process is None:
            raise RuntimeError("MLServer has not been started")
        return self._process.pid

    def __enter__(self) -> Self:
        environment = build_environment(self._home, "mlserver")
        write_mlserver(self._folder, self._models, self._settings())
        with (self._folder / "mlserver.log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(environment.folder / "bin" / "mlserver"), "start", str(self._folder)],
                cwd=self._folder,
                env=os.environ | {"PYTHONPATH": str(self._folder)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._ready, "MLServer")
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; kill it when it does not end in time."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _ready(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            log = (self._folder / "mlserver.log").read_text(errors="replace")
            raise PeerMissing(f"MLServer ended with {self._process.returncode}: {log[-1500:]}")
        return answers(f"http://{self.http}/v2/health/ready")


def wait_until(ready: Callable[[], bool], what: str, within_s: float = START_S) -> None:
    """Poll. Raises `PeerMissing` when it takes too long."""
    deadline = time.monotonic() + within_s
    while not ready():
        if time.monotonic() > deadline:
            raise PeerMissing(f"{what} was not ready within {within_s:.0f} s")
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether a GET gives 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def started(key: str, ground: Ground) -> Iterator[Server]:
    """A server that runs, with its models loaded when they are to be. Raises `PeerMissing` or what ended it."""
    with make_server(key, ground) as server:
        for model in ground.models if ground.control else ():
            url = f"http://{server.http}/v2/models/{model.name}/ready"
            wait_until(partial(answers, url), f"{LABELS[key]}'s model {model.name}")
        yield server


def repository_of(key: str, ground: Ground) -> Path:
    """Where the models of a server lie, for those who change them while it runs."""
    return ground.folder / key if key == TRITON else ground.folder / key / "models"


def make_server(key: str, ground: Ground) -> AbstractContextManager[Server]:
    """Not yet started. Raises `PeerMissing` when this machine cannot have it."""
    if key == TRITON:
        return _triton(ground)
    if key == MLSERVER:
        return MLServer(ground.folder / key, home=ground.home, models=ground.models)
    return _irisloop(key, ground)


def _triton(ground: Ground) -> Triton:
    build_triton(ground.home)
    packages = build_environment(ground.home, "onnxruntime").packages
    repository = write_python(repository_of(TRITON, ground), ground.models, packages, ground.config)
    return Triton(repository, home=ground.home, arguments=[_joined(ground.control)] if ground.control else [])


def _joined(words: Sequence[str]) -> str:
    return "=".join(words)


def _irisloop(key: str, ground: Ground) -> BenchIrisloop:
    arguments = list(ground.control)
    if key in (NATIVE, NATIVE_QUIET):
        if importlib.util.find_spec("pygrpc_native") is None:
            raise PeerMissing("pygrpc-native is not installed here")
        arguments += ["--transport", "pygrpc"]
    loud = bool(ground.kafka) and key not in QUIET.values()
    arguments += ["--events"] if loud else []
    repository = write_onnx(repository_of(key, ground), ground.models, ground.config)
    kafka = ground.kafka if loud else ""
    home, replica = ground.folder / key / "home", list(LABELS).index(key)
    return BenchIrisloop(repository, home=home, arguments=arguments, kafka=kafka, replica=replica)
