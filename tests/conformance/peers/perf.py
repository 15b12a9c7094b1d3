"""perf_analyzer 2.50, NVIDIA's load generator, out of the last wheel of tritonclient that holds it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conformance.peers.environments import Environment, PeerMissing, build_environment, peers_folder, say
from tests.conformance.peers.triton import wheel_libraries

BASE64: Final = "libb64.so.0d"
TIMEOUT_S: Final = 180
THROUGHPUT: Final = re.compile(r"Throughput: ([\d.]+) infer/sec")


@dataclass(frozen=True, slots=True)
class PerfAnalyzer:
    """The program and the libraries it is linked with."""

    program: Path
    libraries: tuple[Path, ...]

    def run(
        self, address: str, protocol: str, *arguments: str, model: str = "simple"
    ) -> subprocess.CompletedProcess[str]:
        """One run against a server; `protocol` is grpc or http. What it printed is in `stdout`."""
        libraries = os.pathsep.join(str(folder) for folder in self.libraries)
        asked = ("-m", model, "-u", address, "-i", protocol, *arguments)
        return subprocess.run(
            [str(self.program), *asked],
            env=os.environ | {"LD_LIBRARY_PATH": libraries},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )


def build_perf_analyzer(home: Path) -> PerfAnalyzer:
    """perf_analyzer with the CUDA runtime of PyPI and the libb64 that Triton's wheel brings; no system package.

    Raises `PeerMissing` when they cannot be had.
    """
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        raise PeerMissing("perf_analyzer's wheel is for Linux on x86-64 alone")
    environment = build_environment(home, "perf")
    program = environment.folder / "bin" / "perf_analyzer"
    program.chmod(0o755)
    runtime = environment.packages / "nvidia" / "cuda_runtime" / "lib"
    return PerfAnalyzer(program, (_base64(home, environment), runtime))


def throughputs(output: str) -> list[float]:
    """Inferences a second, one for each concurrency that was measured."""
    return [float(found) for found in THROUGHPUT.findall(output)]


def _base64(home: Path, environment: Environment) -> Path:
    folder = environment.folder / "libb64"
    if not (folder / BASE64).exists():
        found = sorted(wheel_libraries(build_environment(home, "triton")).glob("libb64-*.so.0d"))
        if not found:
            raise PeerMissing(f"no libb64 in Triton's wheel under {peers_folder(home)}")
        say(f"Linking {found[0].name} as {BASE64} for perf_analyzer.")
        folder.mkdir(exist_ok=True)
        (folder / BASE64).unlink(missing_ok=True)
        (folder / BASE64).symlink_to(found[0])
    return folder
