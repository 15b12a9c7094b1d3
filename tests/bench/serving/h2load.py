"""h2load, nghttp2's load generator in C: Debian's package, fetched and unpacked under `<home>/peers`, never installed.

The generator decides: one in Python hides half of what a quick server gains, since it takes the machine's time itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.local.data import APT, Machine
from services.local.errors import LocalError
from tests.conformance.peers.environments import PeerMissing, peers_folder, say

PACKAGES: Final = ("nghttp2-client", "libnghttp2-14", "libev4", "libjemalloc2")
"""The program, and those of its libraries that a small system lacks."""
GRACE_S: Final = 60
DONE: Final = re.compile(
    r"requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored"
)
TRAFFIC: Final = re.compile(r"traffic: .*, \S+ \((\d+)\) data")


@dataclass(frozen=True, slots=True)
class Load:
    """What one run did; `data_bytes` are the bytes of bodies that came, times are in seconds, sorted."""

    seconds: float
    answered: int
    failed: int
    data_bytes: int
    taken: tuple[float, ...]

    @property
    def rate(self) -> float:
        """Answers a second."""
        return self.answered / self.seconds

    def quantile(self, share: float) -> float:
        """Seconds; 0 when nothing came."""
        return self.taken[min(int(len(self.taken) * share), len(self.taken) - 1)] if self.taken else 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """One URL and what is posted to it."""

    url: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    http1: bool = False


@dataclass(frozen=True, slots=True)
class H2load:
    """The program and its libraries."""

    program: Path
    libraries: Path

    def run(self, target: Target, clients: int, seconds: float) -> Load:
        """That many connections, each with one request at a time."""
        with tempfile.TemporaryDirectory(prefix="irisloop-h2load-") as folder:
            body, log = Path(folder) / "body", Path(folder) / "log"
            body.write_bytes(target.body)
            headers = [word for name, value in target.headers for word in ("-H", f"{name}: {value}")]
            asked = ["-t", "1", "-m", "1", "-c", str(clients), "-D", f"{seconds * 1000:.0f}ms", "-d", str(body)]
            asked += ["--h1"] if target.http1 else []
            output = self._call([*asked, *headers, f"--log-file={log}", target.url], seconds)
            return parse(output, log.read_text(), seconds)

    def _call(self, arguments: Sequence[str], seconds: float) -> str:
        answer = subprocess.run(
            [str(self.program), *arguments],
            env=os.environ | {"LD_LIBRARY_PATH": str(self.libraries)},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds + GRACE_S,
        )
        if answer.returncode:
            raise RuntimeError(f"h2load ended with {answer.returncode}: {(answer.stderr or answer.stdout)[-500:]}")
        return answer.stdout


def parse(output: str, log: str, seconds: float) -> Load:
    """From what h2load printed, and its log: start in microseconds, status, microseconds taken, a line a request."""
    done, traffic = DONE.search(output), TRAFFIC.search(output)
    if done is None or traffic is None:
        raise RuntimeError(f"h2load said what is not understood: {output[-500:]}")
    _, _, succeeded, failed, errored = (int(number) for number in done.groups())
    taken = sorted(int(line.split("\t")[2]) / 1e6 for line in log.splitlines())
    return Load(seconds, succeeded, failed + errored, int(traffic.group(1)), tuple(taken))


def build_h2load(home: Path) -> H2load:
    """From Debian, once. Raises `PeerMissing` when apt cannot bring it."""
    folder = peers_folder(home) / "h2load"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".h2load-", dir=folder.parent) as place:
            _fetch(Path(place), Machine())
            shutil.move(Path(place) / "unpacked", folder)
    libraries = next(iter(sorted(folder.glob("usr/lib/*-linux-gnu*"))))
    return H2load(folder / "usr" / "bin" / "h2load", libraries)


def _fetch(place: Path, machine: Machine) -> None:
    say(f"Fetching h2load: Debian's {', '.join(PACKAGES)}, unpacked and not installed.")
    try:
        try:
            machine.run([*APT, "download", *PACKAGES], place)
        except LocalError:
            if not machine.is_root:
                raise
            machine.run([*APT, "update"], place)
            machine.run([*APT, "download", *PACKAGES], place)
        for archive in sorted(place.glob("*.deb")):
            machine.run(["dpkg-deb", "-x", str(archive), str(place / "unpacked")], place)
    except LocalError as error:
        raise PeerMissing(f"h2load could not be had from Debian: {error}") from error
