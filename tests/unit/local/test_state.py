"""The state file and the lock of the one supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.errors import LocalError
from services.local.state import DeploymentState, HomeLock, ProcessState, is_locked, read_state, write_state

HOLD = """
import sys, time
from pathlib import Path
from services.local.state import HomeLock
with HomeLock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def hold_lock(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_supervisor_is_told_who_holds_the_home(tmp_path: Path) -> None:
    with hold_lock(tmp_path) as holder:
        try:
            with pytest.raises(LocalError, match=f"already runs on .* \\(process {holder.pid}\\)"), HomeLock(tmp_path):
                pass
            assert is_locked(tmp_path)
        finally:
            holder.kill()


def test_the_lock_of_a_killed_supervisor_does_not_block(tmp_path: Path) -> None:
    with hold_lock(tmp_path) as holder:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not is_locked(tmp_path)
    with HomeLock(tmp_path):
        assert (tmp_path / "supervisor.lock").read_text() == f"{os.getpid()}\n"


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    process = ProcessState("ingest", "ready", pid=12, restarts=3, http_port=8110, grpc_port=8111, pss_mb=61.5, lag=4)
    state = DeploymentState(
        str(tmp_path), 7, 1.5, 9.0, "127.0.0.1:9092", True, "4.1.1", 8002, True, {"ingest": process}
    )
    write_state(tmp_path / "run", state)
    with HomeLock(tmp_path / "run"):
        assert read_state(tmp_path) == state
        assert read_state(tmp_path).ready


def test_a_state_whose_supervisor_is_gone_is_not_running(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    write_state(
        tmp_path / "run", DeploymentState(str(tmp_path), running=True, processes={"a": ProcessState("a", "ready")})
    )
    assert not read_state(tmp_path).running
    assert not read_state(tmp_path).ready


@pytest.mark.parametrize("content", ["", "{", "[]", '{"processes": 3}', '{"ready": true}'])
def test_an_unreadable_state_counts_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text(content)
    assert read_state(tmp_path) == DeploymentState(home=str(tmp_path))
