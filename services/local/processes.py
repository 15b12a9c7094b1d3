"""One supervised process: started, watched, restarted with back-off, stopped; and a killed supervisor's orphans."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import psutil

import services.common.processes
from services.common.errors import IrisloopError
from services.local.logs import LogFile
from services.local.state import ProcessState

MARK: Final = "IRISLOOP_SUPERVISED_BY"
"""Environment variable of every child: the absolute IRISLOOP_HOME of the supervisor that started it."""
LAUNCHER: Final = services.common.processes.__file__
PROBE_S: Final = 0.2
PROBE_READY_S: Final = 1.0
EXIT_CONFIG: Final = 78
KILL_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How a process is started and asked whether it is ready."""

    name: str
    command: Callable[[], Awaitable[Sequence[str]]]
    """Called before every start; raises `IrisloopError` when it cannot start now."""
    probe: Callable[[], Awaitable[str]]
    """What it waits for, "" when it is ready."""
    environment: Mapping[str, str]
    """All of it."""
    http_port: int = 0
    grpc_port: int = 0


@dataclass(slots=True)
class Backoff:
    """Seconds until the next start: short at first, doubled while it keeps dying, short again after a healthy while."""

    first_s: float = 0.2
    longest_s: float = 15.0
    healthy_s: float = 10.0
    _next_s: float = field(default=0.0)

    def after(self, ready_s: float, code: int) -> float:
        """The delay after an end; `ready_s` is how long the process had been ready, `code` its exit code."""
        if ready_s >= self.healthy_s or self._next_s == 0.0:
            self._next_s = self.first_s
        delay, self._next_s = self._next_s, min(self.longest_s, self._next_s * 2)
        return self.longest_s if code == EXIT_CONFIG else delay


class Child:
    """A process and its successors under one name."""

    def __init__(self, spec: ProcessSpec, log: LogFile, *, drain_s: float, backoff: Backoff | None = None) -> None:
        """Nothing runs before `run`."""
        self.spec = spec
        self.log = log
        self.state = ProcessState(spec.name, http_port=spec.http_port, grpc_port=spec.grpc_port)
        self._backoff = backoff or Backoff()
        self._drain_s = drain_s
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()
        self._kill_now = asyncio.Event()
        self._failure = ""

    async def run(self) -> None:
        """Keep the process running until `stop`."""
        while not self._stopping.is_set():
            ready_s, code = await self._run_once()
            if self._stopping.is_set():
                break
            delay = self._backoff.after(ready_s, code)
            self._note(state="restarting", pid=0, restarts=self.state.restarts + 1, waiting_for=self._why(code, delay))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay)
        self._note(state="stopped", pid=0, waiting_for=self._failure)

    def stop(self) -> None:
        """Let it end by itself within the drain time, then kill it."""
        self._stopping.set()

    def kill_now(self) -> None:
        """Do not wait for the drain."""
        self._stopping.set()
        self._kill_now.set()

    def send(self, number: int) -> int:
        """Send a signal to the process as it runs now; returns its pid, or 0 when none runs."""
        process = self._process
        if process is None or process.returncode is not None:
            return 0
        process.send_signal(number)
        return process.pid

    def note(self, *, pss_mb: float | None = None, lag: int | None = None) -> None:
        """What others measured."""
        self._note(pss_mb=self.state.pss_mb if pss_mb is None else pss_mb, lag=self.state.lag if lag is None else lag)

    async def _run_once(self) -> tuple[float, int]:
        """One life; returns for how many seconds it was ready, and its exit code."""
        self._failure = ""
        self._note(state="starting", waiting_for="")
        try:
            command = await self.spec.command()
            process = await self._spawn(command)
        except (IrisloopError, OSError) as error:
            self._failure = str(error)
            return 0.0, EXIT_CONFIG
        self._process = process
        self._note(pid=process.pid)
        try:
            ready_since = await self._watch(process)
            return (time.monotonic() - ready_since if ready_since else 0.0), process.returncode or 0
        finally:
            _kill_group(process.pid)  # what the process left behind, or all of it when this task was cancelled

    async def _spawn(self, command: Sequence[str]) -> asyncio.subprocess.Process:
        output = self.log.open()
        try:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                *("-I", "-S", LAUNCHER, str(os.getpid())),
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=dict(self.spec.environment),
                start_new_session=True,
            )
        finally:
            os.close(output)

    async def _watch(self, process: asyncio.subprocess.Process) -> float:
        """Probe until the end; returns when it became ready (0 for never)."""
        ready_since = 0.0
        async with asyncio.TaskGroup() as group:
            ended = group.create_task(process.wait())
            stopper = group.create_task(self._end_when_told(process))
            while not ended.done():
                waiting_for = await self.spec.probe()
                if not ended.done() and not self._stopping.is_set():
                    ready_since = 0.0 if waiting_for else ready_since or time.monotonic()
                    self._note(state="waiting" if waiting_for else "ready", waiting_for=waiting_for)
                await asyncio.wait([ended], timeout=PROBE_S if waiting_for else PROBE_READY_S)
            stopper.cancel()
        return ready_since

    async def _end_when_told(self, process: asyncio.subprocess.Process) -> None:
        await self._stopping.wait()
        self._note(state="stopping", waiting_for="")
        if not self._kill_now.is_set():
            process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._kill_now.wait(), self._drain_s)
                self._failure = "killed at once, as asked"
            self._failure = self._failure or f"killed, since it did not end within {self._drain_s:.1f} s"
        _kill_group(process.pid)

    def _why(self, code: int, delay: float) -> str:
        if self._failure:
            return self._failure
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = self.log.last_line() if code > 0 else ""
        return f"ended by {reason}, starts again in {delay:.1f} s" + (f": {last}" if last else "")

    def _note(self, **changes: Any) -> None:
        self.state = replace(self.state, **changes)


def _kill_group(leader: int) -> None:
    """Kill whoever is left of the session that the launcher opened."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def kill_orphans(home: Path) -> list[str]:
    """Kill what a dead supervisor of this home left behind; the caller holds the home's lock. Returns who that was.

    Only processes that bear our mark with this very home are touched, never a pid from a file.
    """
    orphans = [process for process in psutil.process_iter() if _mark_of(process) == str(home)]
    named = []
    for process in orphans:
        with suppress(psutil.Error):
            named.append(f"{process.pid} ({' '.join(process.cmdline())[:60]})")
            process.kill()
    psutil.wait_procs(orphans, timeout=KILL_WAIT_S)
    return named


def _mark_of(process: psutil.Process) -> str:
    if process.pid == os.getpid():
        return ""
    try:
        return process.environ().get(MARK, "")
    except (psutil.Error, OSError):
        return ""


def pss_mb(pid: int) -> float:
    """Proportional set size of a process and its descendants in MiB; resident size where the kernel has no PSS."""
    try:
        process = psutil.Process(pid)
        return sum(_pss(member) for member in (process, *process.children(recursive=True))) / (1 << 20)
    except psutil.Error:
        return 0.0


def _pss(process: psutil.Process) -> int:
    try:
        with Path(f"/proc/{process.pid}/smaps_rollup").open() as file:
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("Pss:")), 0)
    except OSError:
        pass  # no such file on this system, or the process ended
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
