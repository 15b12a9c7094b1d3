"""What runs on this machine, written down: `run/state.json` for other commands, and the lock of the one supervisor."""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from services.local.errors import LocalError

STATE_FILE: Final = "state.json"
LOCK_FILE: Final = "supervisor.lock"


@dataclass(frozen=True, slots=True)
class ProcessState:
    """One process as the supervisor sees it; ports are 0 when it has none, `pss_mb` covers its children too."""

    name: str
    state: str = "starting"
    pid: int = 0
    restarts: int = 0
    waiting_for: str = ""
    http_port: int = 0
    grpc_port: int = 0
    pss_mb: float = 0.0
    lag: int | None = None

    @property
    def ready(self) -> bool:
        """Whether it serves what it is for."""
        return self.state == "ready"


@dataclass(frozen=True, slots=True)
class DeploymentState:
    """The whole deployment; `supervisor_pid` is 0 when nothing was ever started here."""

    home: str
    supervisor_pid: int = 0
    started_at: float = 0.0
    ready_s: float = 0.0
    """Seconds from the start until everything was ready; 0 before."""
    bootstrap_servers: str = ""
    embedded_kafka: bool = False
    kafka_version: str = ""
    metrics_port: int = 0
    running: bool = False
    processes: dict[str, ProcessState] = field(default_factory=dict)
    sql_port: int = 0

    @property
    def ready(self) -> bool:
        """Whether everything that should run is ready."""
        return self.running and bool(self.processes) and all(process.ready for process in self.processes.values())

    def as_json(self) -> dict[str, Any]:
        """The form of `status --json`."""
        return asdict(self) | {"ready": self.ready}


def write_state(folder: Path, state: DeploymentState) -> None:
    """Replace the state file at once, so that a reader never sees half of it."""
    unfinished = folder / f"{STATE_FILE}.unfinished"
    unfinished.write_text(json.dumps(state.as_json(), indent=2) + "\n")
    unfinished.replace(folder / STATE_FILE)


def read_state(home: Path) -> DeploymentState:
    """What was last written down, with `running` as it is now. Anything unreadable counts as nothing."""
    folder = home / "run"
    running = is_locked(folder)
    try:
        content = json.loads((folder / STATE_FILE).read_text())
        processes = {name: ProcessState(**process) for name, process in content.pop("processes").items()}
        content.pop("ready")
        return DeploymentState(**content | {"processes": processes, "running": running, "home": str(home)})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return DeploymentState(home=str(home), running=running)


def is_locked(folder: Path) -> bool:
    """Whether a supervisor is alive; the kernel drops the lock of one that was killed."""
    try:
        descriptor = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


class HomeLock(AbstractContextManager["HomeLock"]):
    """Held by the one supervisor of a home; the file may stay behind, the lock cannot."""

    def __init__(self, folder: Path) -> None:
        """`folder` is `IRISLOOP_HOME/run`."""
        self._folder = folder
        self._descriptor = -1

    def __enter__(self) -> HomeLock:
        """Take the lock. Raises `LocalError` naming the holder."""
        descriptor = os.open(self._folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        if not _lock(descriptor):
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise LocalError(
                f"Irisloop already runs on {self._folder.parent} (process {holder or 'unknown'}). "
                "Stop it with Ctrl-C there, look with `irisloop status`, or set IRISLOOP_HOME to another folder."
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Let go."""
        os.close(self._descriptor)


def _lock(descriptor: int, patience_s: float = 0.5) -> bool:
    """Try for a moment: `irisloop status` holds the lock for an instant when it looks."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
