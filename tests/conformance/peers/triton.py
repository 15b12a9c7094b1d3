"""A real Triton 2.51 as a process: the server, its Python backend and its libraries out of the wheel `nvidia-pytriton`
0.7.0. It is the protocol's oracle and a peer in benchmarks; the wheel holds no ONNX backend.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.conformance.peers.environments import Environment, PeerMissing, build_environment, say
from tests.ports import free_port

VERSION: Final = "2.51.0"
START_S: Final = 120
STOP_S: Final = 30
NEWEST_PYTHON: Final = (3, 12)
SHARED_MEMORY: Final = Path("/dev/shm")


class Triton:
    """A server on 127.0.0.1 and free ports, in explicit model control; a context manager, which waits until it answers.

    No model is loaded unless `arguments` has `--load-model=NAME`, or `--load-model=*` for all.
    """

    def __init__(self, repository: Path, *, home: Path, arguments: Sequence[str] = ()) -> None:
        self._repository = repository.resolve()
        self._home = home.resolve()
        self._arguments = tuple(arguments)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = Path(f"{self._repository}.triton.log")
        """What the server said."""
        self._ports = free_ports(3)

    @property
    def http(self) -> str:
        """host:port of HTTP."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def grpc(self) -> str:
        """host:port of gRPC."""
        return f"127.0.0.1:{self._ports[1]}"

    @property
    def metrics(self) -> str:
        """host:port of /metrics."""
        return f"127.0.0.1:{self._ports[2]}"

    @property
    def pid(self) -> int:
        """The server's process; each Python model has a child of it."""
        if self._process is None:
            raise RuntimeError("the server has not been started")
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def answers(self) -> bool:
        """Whether it says that it lives."""
        return self.alive and live(self.http)

    def __enter__(self) -> Self:
        environment = build_triton(self._home)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(environment),
                env=_process_environment(environment),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
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
        """End the server and its children; what does not end in time is killed."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        # Its Python backend leaves regions behind, after an abort and now and then after a good end.
        for region in SHARED_MEMORY.glob(f"{self._prefix}*"):
            region.unlink(missing_ok=True)

    @property
    def _prefix(self) -> str:
        """Of the regions of shared memory that are this server's alone."""
        return f"irisloop-triton-{self._ports[0]}-"

    def _command(self, environment: Environment) -> list[str]:
        http, grpc, metrics = (str(port) for port in self._ports)
        backends = environment.folder / "backends"
        return [
            str(_server_folder(environment) / "bin" / "tritonserver"),
            f"--model-repository={self._repository}",
            f"--backend-directory={backends}",
            f"--backend-config=python,shm-region-prefix-name={self._prefix}",
            "--model-control-mode=explicit",
            "--exit-on-error=false",
            *("--http-address=127.0.0.1", f"--http-port={http}"),
            *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}"),
            *("--metrics-address=127.0.0.1", f"--metrics-port={metrics}"),
            "--allow-gpu-metrics=false",
            *self._arguments,
        ]

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise PeerMissing(f"Triton ended with {self._process.returncode}: {self.last_lines()}")
            if live(self.http):
                return
            time.sleep(0.1)
        raise PeerMissing(f"Triton did not answer within {START_S} s: {self.last_lines()}")

    def last_lines(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:]


def build_triton(home: Path) -> Environment:
    """The wheel in an environment, and one backend directory: the Python backend with this Python's stub in it."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise PeerMissing("Triton's wheel is for Linux on x86-64 alone")
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise PeerMissing("Triton's Python backend wants numpy 1, which Python 3.13 has not: use Python 3.11 or 3.12")
    environment = build_environment(home, "triton")
    folder = environment.folder / "backends" / "python"
    if (folder / "triton_python_backend_stub").exists():
        return environment
    source = _server_folder(environment)
    stub = source / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}"
    if not stub.is_dir():
        raise PeerMissing(f"Triton's wheel has no stub for Python {sys.version_info.major}.{sys.version_info.minor}")
    say(f"Laying out Triton's Python backend in {folder}.")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source / "backends" / "python", folder)
    shutil.copy2(stub / "triton_python_backend_stub", folder)
    for program in (folder / "triton_python_backend_stub", source / "bin" / "tritonserver"):
        program.chmod(0o755)
    return environment


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, no two alike."""
    return [free_port() for _ in range(count)]


def wheel_libraries(environment: Environment) -> Path:
    """The shared libraries that the wheel brings."""
    return environment.packages / "nvidia_pytriton.libs"


def _server_folder(environment: Environment) -> Path:
    return environment.packages / "pytriton" / "tritonserver"


def _process_environment(environment: Environment) -> dict[str, str]:
    libraries = [str(wheel_libraries(environment)), str(sysconfig.get_config_var("LIBDIR"))]
    # The stub starts `python3` of the path for its models' packages, which must be this environment's.
    path = os.pathsep.join([str(environment.python.parent), os.environ.get("PATH", "")])
    own = {"LD_LIBRARY_PATH": os.pathsep.join(libraries), "PATH": path, "PYTHONPATH": str(environment.packages)}
    return os.environ | own


def live(address: str) -> bool:
    """Whether a server of the protocol says over HTTP that it lives."""
    try:
        with urllib.request.urlopen(f"http://{address}/v2/health/live", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
