"""One supervised process: restarts, back-off, stop; and a child that dies with its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from services.common import processes as launcher
from services.local.errors import LocalError
from services.local.logs import LogFile
from services.local.processes import MARK, Backoff, Child, ProcessSpec, kill_orphans, pss_mb
from tests.waiting import PATIENCE_S, until, wait_until

SLEEP = "import time; time.sleep(600)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"


def make_child(tmp_path: Path, code: str = SLEEP, *, drain_s: float = 5.0, backoff: Backoff | None = None) -> Child:
    async def command() -> Sequence[str]:
        return [sys.executable, "-c", code]

    async def probe() -> str:
        return ""

    spec = ProcessSpec("thing", command, probe, {**os.environ, MARK: str(tmp_path)})
    return Child(spec, LogFile(tmp_path / "thing.log", 1 << 20), drain_s=drain_s, backoff=backoff)


async def test_a_killed_process_is_started_again(tmp_path: Path) -> None:
    child = make_child(tmp_path)
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await until(lambda: child.state.ready)
        before = child.state.pid
        child.send(signal.SIGKILL)
        await until(lambda: child.state.pid not in (0, before))
        assert child.state.restarts == 1
        child.stop()
    assert (child.state.state, child.state.waiting_for) == ("stopped", "")


def test_the_delay_doubles_up_to_a_bound_and_starts_anew_after_a_healthy_while() -> None:
    backoff = Backoff(first_s=0.2, longest_s=1.0, healthy_s=10.0)
    assert [backoff.after(0.0, 1) for _ in range(5)] == [0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.after(9.9, 1) == 1.0
    assert backoff.after(10.0, 1) == 0.2
    assert backoff.after(0.0, 78) == 1.0  # a wrong setting does not mend itself


async def test_why_a_process_ended_is_told_with_its_last_words(tmp_path: Path) -> None:
    child = make_child(tmp_path, "raise SystemExit('the flux is missing')", backoff=Backoff(first_s=30.0))
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await until(lambda: child.state.state == "restarting")
        assert "exit code 1, starts again in 30.0 s: the flux is missing" in child.state.waiting_for
        child.stop()


async def test_a_command_that_cannot_be_made_is_told_and_tried_again(tmp_path: Path) -> None:
    tries = []

    async def command() -> Sequence[str]:
        tries.append(1)
        if len(tries) < 2:
            raise LocalError("The jars are missing.")
        return [sys.executable, "-c", SLEEP]

    async def probe() -> str:
        return ""

    spec = ProcessSpec("thing", command, probe, dict(os.environ))
    child = Child(spec, LogFile(tmp_path / "a.log", 1 << 20), drain_s=5.0, backoff=Backoff(longest_s=0.3))
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await until(lambda: child.state.state == "restarting")
        assert child.state.waiting_for == "The jars are missing."
        await until(lambda: child.state.ready)
        child.stop()


async def test_a_process_that_ignores_the_stop_is_killed_after_the_drain(tmp_path: Path) -> None:
    child = make_child(tmp_path, DEAF, drain_s=0.3)
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await until(lambda: "deaf" in list(child.log.new_lines()))
        pid, began = child.state.pid, time.monotonic()
        child.stop()
    assert time.monotonic() - began >= 0.3
    assert child.state.waiting_for == "killed, since it did not end within 0.3 s"
    assert not psutil.pid_exists(pid)


async def test_a_second_stop_does_not_wait_for_the_drain(tmp_path: Path) -> None:
    child = make_child(tmp_path, DEAF, drain_s=600.0)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await until(lambda: "deaf" in list(child.log.new_lines()))
        pid = child.state.pid
        child.stop()
        child.kill_now()
    assert child.state.state == "stopped"
    assert not psutil.pid_exists(pid)


async def test_what_a_dead_process_left_behind_is_ended_before_it_starts_again(tmp_path: Path) -> None:
    begin = f"import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', {SLEEP!r}])"
    code = f"{begin}; print(p.pid, flush=True); time.sleep(600)"
    child = make_child(tmp_path, code)
    async with asyncio.TaskGroup() as group:
        group.create_task(child.run())
        await until(lambda: child.log.last_line().isdigit())
        grandchild = psutil.Process(int(child.log.last_line()))
        child.send(signal.SIGKILL)
        await until(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
        await until(lambda: child.state.restarts == 1)
        child.stop()
    assert not psutil.pid_exists(grandchild.pid) or grandchild.status() == psutil.STATUS_ZOMBIE


def test_a_launched_process_dies_with_its_parent(tmp_path: Path) -> None:
    parent = f"""
import os, subprocess, sys, time
command = [sys.executable, "-c", {SLEEP!r}]
p = subprocess.Popen([sys.executable, "-I", "-S", {launcher.__file__!r}, str(os.getpid()), *command])
print(p.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        child = psutil.Process(int(running.stdout.readline()))
        wait_until(lambda: "processes.py" not in " ".join(child.cmdline()))
        running.kill()
    psutil.wait_procs([child], timeout=PATIENCE_S)
    assert not child.is_running()


def test_a_process_whose_parent_was_gone_before_it_began_ends_at_once() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-I", "-S", launcher.__file__, str(gone.pid), sys.executable, "-c", SLEEP]
    assert subprocess.run(command, timeout=PATIENCE_S, check=False).returncode == -signal.SIGKILL


def test_only_orphans_with_our_mark_and_this_home_are_ended(tmp_path: Path) -> None:
    ours, others, unmarked = tmp_path / "ours", tmp_path / "others", {**os.environ}
    started = [
        subprocess.Popen([sys.executable, "-c", SLEEP], env=environment)
        for environment in ({**unmarked, MARK: str(ours)}, {**unmarked, MARK: str(others)}, unmarked)
    ]
    try:
        wait_until(lambda: all("-c" in psutil.Process(one.pid).cmdline() for one in started))
        (told,) = kill_orphans(ours)
        assert str(started[0].pid) in told
        assert not psutil.pid_exists(started[0].pid)
        assert started[1].poll() is None
        assert started[2].poll() is None
    finally:
        for one in started:
            one.kill()
            one.wait()


def test_memory_counts_the_children_too() -> None:
    own = pss_mb(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(64 << 20); print(1, flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert pss_mb(os.getpid()) > own + 50
        child.kill()
    assert pss_mb(child.pid) == 0.0
