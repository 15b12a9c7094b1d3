"""The supervisor over real processes and a real Kafka: ready, killed, stopped, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from services.common.settings import CommonSettings
from services.local.cli.session import Session
from services.local.errors import LocalError
from services.local.ports import free_port
from services.local.processes import MARK
from services.local.settings import LocalSettings
from services.local.state import read_state
from services.local.supervisor import Supervisor
from tests.waiting import PATIENCE_S, until, wait_until

# A service in a few lines: it answers /readyz once the file `hold` is gone, and ends at SIGTERM.
SERVICE = """
import http.server, os, pathlib, sys
name, home = sys.argv[1].upper(), pathlib.Path(os.environ["IRISLOOP_HOME"])

class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        held = (home / "hold").exists()
        self.send_response(503 if held else 200)
        self.end_headers()
        self.wfile.write(b'{"waiting_for": "the gate to open"}' if held else b'{"waiting_for": ""}')
    def log_message(self, *_):
        pass

print(f"{name} replica {os.environ['IRISLOOP_REPLICA']}", flush=True)
port = int(os.environ[f"IRISLOOP_{name}__HTTP_PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Ready).serve_forever()
"""

# The same supervisor in a process of its own, so that it can be killed.
SUPERVISOR = """
import asyncio, sys
from tests.integration.test_supervisor import make_supervisor
from pathlib import Path
async def run():
    async with make_supervisor(Path(sys.argv[1])) as supervisor:
        await supervisor.wait_ready(100)
        print("ready", flush=True)
        await asyncio.sleep(600)
asyncio.run(run())
"""


def service(name: str) -> list[str]:
    return [sys.executable, "-c", SERVICE, name]


async def no_topics(_bootstrap_servers: str, _settings: LocalSettings) -> None:
    return


def make_supervisor(
    home: Path,
    *,
    only: Sequence[str] = ("ingest", "serving"),
    kafka: bool = False,
    say: Callable[[str, str], None] = lambda _name, _line: None,
    **more: object,
) -> Supervisor:
    taken: set[int] = set()
    for _ in range(3):
        taken.add(free_port(taken))
    broker, controller, metrics = taken
    settings = LocalSettings(
        kafka_port=broker,
        kafka_controller_port=controller,
        metrics_port=metrics,
        min_free_mb=1,
        drain_s=5.0,
        common=CommonSettings(home=home),
    )
    if not kafka:
        more["topics"] = no_topics
    return Supervisor(
        settings,
        only=only,
        free_ports=True,
        embed_kafka=kafka,
        say=say,
        command=service,
        **more,  # type: ignore[arg-type]
    )


def marked(home: Path) -> list[psutil.Process]:
    """Everything alive that a supervisor of this home started."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


async def test_a_killed_service_comes_back_and_is_counted(tmp_path: Path) -> None:
    async with make_supervisor(tmp_path) as supervisor:
        await supervisor.wait_ready(PATIENCE_S)
        before = supervisor.processes()["ingest"]["pid"]
        supervisor.kill("ingest")
        await until(lambda: supervisor.processes()["ingest"]["pid"] not in (0, before))
        await supervisor.wait_ready(PATIENCE_S)
        assert supervisor.processes()["ingest"]["restarts"] == 1
        assert supervisor.processes()["serving"]["restarts"] == 0
    assert marked(tmp_path) == []


async def test_readiness_is_what_the_services_say(tmp_path: Path) -> None:
    (tmp_path / "hold").write_text("")
    async with make_supervisor(tmp_path, only=["ingest"]) as supervisor:
        await until(lambda: "the gate to open" in supervisor.waiting_for())
        with pytest.raises(LocalError, match="ingest: the gate to open"):
            await supervisor.wait_ready(0.0)
        await until(lambda: not read_state(tmp_path).ready and bool(read_state(tmp_path).processes))
        (tmp_path / "hold").unlink()
        await supervisor.wait_ready(PATIENCE_S)
        await until(lambda: read_state(tmp_path).ready)
    assert not read_state(tmp_path).running


async def test_replicas_have_their_own_ports_and_numbers(tmp_path: Path) -> None:
    lines: list[tuple[str, str]] = []
    supervisor = make_supervisor(
        tmp_path, only=["serving"], replicas={"serving": 2}, say=lambda name, line: lines.append((name, line))
    )
    async with supervisor:
        await supervisor.wait_ready(PATIENCE_S)
        assert supervisor.url("serving") != supervisor.url("serving-1")
        assert supervisor.address("serving") != supervisor.address("serving-1")
    assert ("serving", "SERVING replica 0") in lines
    assert ("serving-1", "SERVING replica 1") in lines


async def test_commands_find_what_runs_on_chosen_ports(tmp_path: Path) -> None:
    async with make_supervisor(tmp_path) as supervisor:
        await supervisor.wait_ready(PATIENCE_S)
        await until(lambda: read_state(tmp_path).ready)
        session = Session(supervisor.settings, read_state(tmp_path))
        assert session.address("serving") == supervisor.address("serving")
        assert session.url("ingest") == supervisor.url("ingest")


async def test_a_second_supervisor_of_the_home_is_refused(tmp_path: Path) -> None:
    async with make_supervisor(tmp_path) as first:
        await first.wait_ready(PATIENCE_S)
        with pytest.raises(LocalError, match="already runs"):
            async with make_supervisor(tmp_path):
                pytest.fail("two supervisors ran on one home")
        await first.wait_ready(PATIENCE_S)
        assert first.processes()["ingest"]["restarts"] == 0


async def test_too_little_disk_is_a_sentence_before_anything_starts(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free >> 20
    settings = LocalSettings(min_free_mb=free * 2, common=CommonSettings(home=tmp_path))
    with pytest.raises(LocalError, match="MiB left"):
        async with Supervisor(settings, embed_kafka=False):
            pytest.fail("it started on a full disk")
    assert marked(tmp_path) == []


async def test_a_home_that_is_no_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="IRISLOOP_HOME"):
        async with make_supervisor(tmp_path / "file"):
            pytest.fail("it started in a file")


def test_a_killed_supervisor_leaves_no_orphan_and_does_not_block_the_next(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", SUPERVISOR, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        assert len(marked(tmp_path)) == 2
        running.kill()
    wait_until(lambda: not marked(tmp_path), what="the end of its children")

    async def again() -> None:
        async with make_supervisor(tmp_path) as supervisor:
            await supervisor.wait_ready(PATIENCE_S)

    asyncio.run(again())


async def test_what_escaped_from_a_killed_supervisor_is_ended_by_the_next(tmp_path: Path) -> None:
    lines: list[str] = []
    escaped = subprocess.Popen(  # noqa: ASYNC220 - it returns at once
        [sys.executable, "-c", "import time; time.sleep(600)"], env={**os.environ, MARK: str(tmp_path)}
    )
    async with make_supervisor(tmp_path, only=["ingest"], say=lambda _, line: lines.append(line)) as supervisor:
        await supervisor.wait_ready(PATIENCE_S)
        assert not psutil.pid_exists(escaped.pid)
    escaped.wait()
    assert any(f"ended {escaped.pid}" in line for line in lines)


async def test_a_taken_port_is_a_sentence_and_nothing_is_left_running(tmp_path: Path) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        settings = LocalSettings(
            kafka_port=port, kafka_controller_port=free_port({port}), common=CommonSettings(home=tmp_path)
        )
        with pytest.raises(LocalError, match=f"Port {port} of Kafka is in use by process {os.getpid()}"):
            async with Supervisor(settings, only=[], embed_kafka=True, command=service, topics=no_topics):
                pytest.fail("it started although the port is taken")
    assert marked(tmp_path) == []


@pytest.mark.kafka
@pytest.mark.timeout(600)
async def test_kafka_is_started_given_its_topics_and_started_again(tmp_path: Path) -> None:
    async with make_supervisor(tmp_path, only=["ingest"], kafka=True) as supervisor:
        await supervisor.wait_ready(PATIENCE_S)
        assert "irisloop.ingest.frame.captured.v1.ingest.dlq" in await topics_of(supervisor)
        supervisor.kill("kafka", signal.SIGKILL)
        await until(lambda: not supervisor.is_ready("kafka"))
        await supervisor.wait_ready(PATIENCE_S)
        assert "irisloop.ingest.frame.captured.v1" in await topics_of(supervisor)
        assert supervisor.processes()["kafka"]["restarts"] == 1
        assert 50 < supervisor.memory_mb()["kafka"] < 500
    assert marked(tmp_path) == []


async def topics_of(supervisor: Supervisor) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=supervisor.bootstrap_servers)
    await admin.start()
    try:
        names: list[str] = await admin.list_topics()
        return names
    finally:
        await admin.close()
