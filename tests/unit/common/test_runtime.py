"""A service starts in order, answers while it waits, and stops in order within ten seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc.aio
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.errors import IrisloopError, Unavailable
from services.common.runtime import Application, Runtime
from services.common.servers import CannotStart
from services.common.settings import CommonSettings, ServiceSettings
from tests.waiting import PATIENCE_S, until


def settings(**fields: Any) -> ServiceSettings:
    return ServiceSettings(common=CommonSettings(), **fields)


class Part:
    """A resource that notes what happens to it."""

    def __init__(self, name: str, notes: list[str], failures: list[Exception] | None = None) -> None:
        self._name = name
        self._notes = notes
        self._failures = failures or []

    async def __aenter__(self) -> Self:
        if self._failures:
            raise self._failures.pop(0)
        self._notes.append(f"enter {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._notes.append(f"leave {self._name}")


def noting(name: str, notes: list[str]) -> Callable[[], Awaitable[None]]:
    async def task() -> None:
        notes.append(f"run {name}")
        try:
            await asyncio.Event().wait()
        finally:
            notes.append(f"end {name}")

    return task


class Running:
    """A runtime at work, and what its doors say."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.task = asyncio.create_task(runtime.run())

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"http://127.0.0.1:{self.runtime.ports['http_port']}{path}")

    async def health(self) -> int:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.runtime.ports['grpc_port']}") as opened:
            stub = health_pb2_grpc.HealthStub(opened)
            return int((await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)).status)

    async def until(self, status: int) -> httpx.Response:
        async def answered() -> httpx.Response | None:
            answer = await self.get("/readyz") if self.runtime.ports else None
            return answer if answer is not None and answer.status_code == status else None

        found: httpx.Response = await until(answered, what=f"{status} of /readyz")
        return found

    async def stop(self) -> int:
        self.runtime.stop()
        return await self.task


@asynccontextmanager
async def running(application: Application) -> AsyncIterator[Running]:
    started = Running(Runtime(application))
    try:
        yield started
    finally:
        started.runtime.stop()
        await asyncio.gather(started.task, return_exceptions=True)


async def test_resources_are_entered_in_order_and_left_in_reverse_after_the_tasks() -> None:
    notes: list[str] = []
    parts = [Part("database", notes), Part("bus", notes)]
    application = Application("sample", settings(), parts, {"relay": noting("relay", notes)})
    async with running(application) as service:
        await service.until(200)
        assert await service.stop() == 0
    assert notes == ["enter database", "enter bus", "run relay", "end relay", "leave bus", "leave database"]


async def test_the_doors_answer_while_a_resource_is_waited_for() -> None:
    notes: list[str] = []
    away: list[Exception] = [Unavailable("Kafka at 127.0.0.1:9092 does not answer.") for _ in range(1000)]
    async with running(Application("sample", settings(), [Part("bus", notes, away)])) as service:
        answer = await service.until(503)
        assert (await service.get("/healthz")).status_code == 200
        assert await service.health() == health_pb2.HealthCheckResponse.NOT_SERVING
        async with asyncio.timeout(PATIENCE_S):
            while "Kafka" not in answer.json()["waiting_for"]:
                answer = await service.until(503)
        away.clear()
        await service.until(200)
        assert notes == ["enter bus"]


async def test_readiness_and_grpc_health_follow_what_the_service_waits_for() -> None:
    waits = ["labeling", "labeling", ""]
    application = Application("sample", settings(), ready=[lambda: waits[0], lambda: waits[1], lambda: waits[2]])
    async with running(application) as service:
        async with asyncio.timeout(PATIENCE_S):
            while (answer := await service.until(503)).json()["waiting_for"] != "labeling":
                pass
        waits[2] = "registry"
        assert (await service.until(503)).json()["waiting_for"] == "labeling; registry"
        assert answer.status_code == 503
        waits[:] = ["", "", ""]
        await service.until(200)
        async with asyncio.timeout(PATIENCE_S):
            while await service.health() != health_pb2.HealthCheckResponse.SERVING:
                await asyncio.sleep(0.02)


async def test_a_part_that_cannot_say_how_it_is_keeps_the_service_unready_and_answering() -> None:
    def fail() -> str:
        raise ValueError("a defect")

    async with running(Application("sample", settings(), ready=[fail])) as service:
        async with asyncio.timeout(PATIENCE_S):
            while "a defect" not in (await service.until(503)).json()["waiting_for"]:
                pass
        assert (await service.get("/healthz")).status_code == 200


async def test_a_task_that_fails_takes_the_service_down_in_order() -> None:
    notes: list[str] = []

    async def fail() -> None:
        raise ValueError("a defect")

    tasks = {"fail": fail, "other": noting("other", notes)}
    async with running(Application("sample", settings(), [Part("bus", notes)], tasks)) as service:
        assert await service.task == 1
    assert notes == ["enter bus", "run other", "end other", "leave bus"]


async def test_a_task_may_end_by_itself() -> None:
    async def once() -> None:
        return

    async with running(Application("sample", settings(), tasks={"once": once})) as service:
        await service.until(200)
        assert not service.task.done()
        assert await service.stop() == 0


async def test_a_stop_while_a_resource_is_waited_for_leaves_those_entered() -> None:
    notes: list[str] = []

    entering = asyncio.Event()

    class Slow(Part):
        async def __aenter__(self) -> Self:
            notes.append("wait")
            entering.set()
            await asyncio.Event().wait()
            return self

    async with running(Application("sample", settings(), [Part("database", notes), Slow("bus", notes)])) as service:
        await asyncio.wait_for(entering.wait(), PATIENCE_S)
        assert await service.stop() == 0
    assert notes == ["enter database", "wait", "leave database"]


async def test_a_resource_that_no_waiting_mends_is_a_sentence() -> None:
    notes: list[str] = []
    broken: list[Exception] = [IrisloopError("The database is damaged.")]
    parts = [Part("database", notes), Part("catalogue", notes, broken)]
    with pytest.raises(IrisloopError, match="The database is damaged"):
        await Runtime(Application("sample", settings(), parts)).run()
    assert notes == ["enter database", "leave database"]


@pytest.mark.parametrize("what", ["http_port", "grpc_port", "metrics_port"])
async def test_a_port_in_use_is_a_sentence_that_names_it(what: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"cannot listen on 127.0.0.1:{port}.*in use.*{what.upper()}"):
            await Runtime(Application("sample", settings(**{what: port}))).run()


async def test_metrics_have_a_port_of_their_own_when_asked_for() -> None:
    async with running(Application("sample", settings(metrics_port=0))) as service:
        await service.until(200)
        service.runtime.ports["http_port"] = service.runtime.ports["metrics_port"]
        assert "irisloop_common_ready_state" in (await service.get("/metrics")).text


# ---- real processes and real signals ----

SERVICE = """
import asyncio, os, sys, time
from pydantic_settings import SettingsConfigDict
from services.common.errors import IrisloopError
from services.common.runtime import Application, main
from services.common import runtime
from services.common.settings import ServiceSettings

runtime.DRAIN_S = 1.0

class SampleSettings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="IRISLOOP_SAMPLE__")
    how: str = "well"

class Part:
    async def __aenter__(self): return self
    async def __aexit__(self, *exc):
        if how == "stuck resource": await asyncio.sleep(600)
        print("resource left", flush=True)

async def work():
    print("at work", flush=True)
    if how == "fails": raise ValueError("a defect")
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        if how == "stuck loop": time.sleep(600)
        raise

def build():
    global how
    settings = SampleSettings()
    how = settings.how
    if how == "wrong": raise IrisloopError("The policy file does not say what to keep.")
    return Application("sample", settings, [Part()], {"work": work})

main(build)
"""


class Process:
    def __init__(self, folder: Path, **environment: str) -> None:
        script = folder / "sample.py"
        script.write_text(textwrap.dedent(SERVICE), encoding="utf-8")
        clean = {name: value for name, value in os.environ.items() if not name.startswith("IRISLOOP_")}
        self._child = subprocess.Popen(
            [sys.executable, str(script)],
            env={**clean, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def at_work(self) -> None:
        assert self._child.stdout is not None
        assert any("at work" in line for line in self._child.stdout)

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self._child.communicate(timeout=PATIENCE_S)
        return self._child.returncode, out, err

    def close(self) -> None:
        self._child.kill()
        self._child.communicate()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    made: list[Process] = []

    def run(**environment: str) -> Process:
        made.append(Process(tmp_path, **environment))
        return made[-1]

    yield run
    for process in made:
        process.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_process_in_order(start: Callable[..., Process], number: signal.Signals) -> None:
    process = start()
    process.at_work()
    process.send(number)
    process.send(number)
    code, out, err = process.end()
    assert (code, err) == (0, "")
    assert "resource left" in out
    assert "service_stopped" in out


@pytest.mark.parametrize(("how", "step"), [("stuck resource", "leaving Part"), ("stuck loop", "task work to end")])
def test_what_hangs_is_named_and_the_process_ends_all_the_same(
    start: Callable[..., Process], how: str, step: str
) -> None:
    process = start(IRISLOOP_SAMPLE__HOW=how)
    process.at_work()
    process.send(signal.SIGTERM)
    code, out, _ = process.end()  # it would hang for ten minutes
    assert code == 1
    assert "service_hung" in out
    assert step in out


def test_a_failed_task_ends_the_process_with_code_1_and_its_error_in_the_log(start: Callable[..., Process]) -> None:
    code, out, _ = start(IRISLOOP_SAMPLE__HOW="fails").end()
    assert code == 1
    assert "task_failed" in out
    assert "a defect" in out


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"IRISLOOP_SAMPLE__HTTP_PORT": "ninety"}, "http_port"),
        ({"IRISLOOP_SAMPLE__HOW": "wrong"}, "The policy file does not say what to keep."),
    ],
)
def test_what_a_person_has_to_change_is_one_sentence_and_code_78(
    start: Callable[..., Process], environment: dict[str, str], sentence: str
) -> None:
    code, _, err = start(**environment).end()
    assert code == 78
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert "Traceback" not in err
