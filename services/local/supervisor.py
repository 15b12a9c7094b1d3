"""The supervisor: starts the embedded Kafka and the services, keeps them running, and leaves nothing behind.

Everything starts at once, so that Kafka's boot and the services' imports overlap; each service says itself what it
still waits for.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import asdict, replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from services.local.errors import LocalError
from services.local.jars import KAFKA_VERSION, class_path
from services.local.kafka import EmbeddedKafka
from services.local.layout import HOST, SERVICES
from services.local.logs import LogFile, readable
from services.local.ports import Ports, choose_ports, replica_name
from services.local.processes import MARK, Backoff, Child, ProcessSpec, kill_orphans, pss_mb
from services.local.settings import LocalSettings
from services.local.state import DeploymentState, HomeLock, ProcessState, write_state

if TYPE_CHECKING:
    import httpx

KAFKA: Final = "kafka"
LOOK_S: Final = 0.2
MEASURE_S: Final = 5.0
PROBE_TIMEOUT_S: Final = 2.0
NOT_LISTENING: Final = "its start"

Command = Callable[[str], Sequence[str]]
Say = Callable[[str, str], None]
"""Told of every log line: the process's name and the line, readable; the supervisor's own name is `irisloop`."""


def service_command(service: str) -> list[str]:
    """How a service is started: the same as by hand."""
    return [sys.executable, "-m", f"services.{service}"]


async def apply_topics(bootstrap_servers: str, settings: LocalSettings) -> None:
    """Create what is declared and missing on the broker."""
    from services.common.bus.topics import apply

    await apply(settings.common.kafka.model_copy(update={"bootstrap_servers": bootstrap_servers}))


class Supervisor(AbstractAsyncContextManager["Supervisor"]):
    """One deployment on this machine, from entering the context to leaving it."""

    def __init__(
        self,
        settings: LocalSettings,
        *,
        only: Sequence[str] = SERVICES,
        replicas: Mapping[str, int] | None = None,
        free_ports: bool = False,
        embed_kafka: bool | None = None,
        say: Say = lambda _name, _line: None,
        command: Command = service_command,
        topics: Callable[[str, LocalSettings], Awaitable[None]] = apply_topics,
    ) -> None:
        """`embed_kafka` None means: unless the user named a broker. `command` and `topics` are for programs of other
        shape than the six services.
        """
        self.settings = settings
        self.bootstrap_servers = settings.common.kafka.bootstrap_servers
        self._services = tuple(only)
        self._replicas = dict(replicas or {})
        self._free_ports = free_ports
        self._embed = not settings.own_kafka if embed_kafka is None else embed_kafka
        self._say = say
        self._command = command
        self._apply_topics = topics
        self._children: dict[str, Child] = {}
        self._logs: dict[str, LogFile] = {}
        self._ports = Ports({}, {})
        self._stack = AsyncExitStack()
        self._began = time.monotonic()
        self._ready_s = 0.0
        self._topics = "topics to be created"
        self._broker_down: str = "Kafka to answer"
        self._watchers: list[asyncio.Task[None]] = []
        self._followers: list[asyncio.Task[None]] = []
        self._runs: list[asyncio.Task[None]] = []
        self._state = DeploymentState(home=str(settings.home))

    # ---- what others ask ----

    @property
    def state(self) -> DeploymentState:
        """Everything as it is now."""
        processes = {name: child.state for name, child in self._children.items()}
        return replace(self._state, processes=processes, ready_s=self._ready_s)

    def processes(self) -> dict[str, dict[str, Any]]:
        """Each process by name: pid, state, restarts, pss_mb, lag, waiting_for and ports."""
        return {name: asdict(child.state) for name, child in self._children.items()}

    def is_ready(self, name: str) -> bool:
        """Whether the process serves what it is for."""
        return self._children[name].state.ready

    def address(self, name: str) -> str:
        """host:port of a service's (or a replica's) gRPC."""
        return f"{HOST}:{self._ports.grpc[name]}"

    def url(self, name: str) -> str:
        """Base URL of a service's HTTP."""
        return f"http://{HOST}:{self._ports.http[name]}"

    def waiting_for(self) -> str:
        """What keeps the deployment from being ready; "" when it is."""
        reasons = [
            f"{name}: {child.state.waiting_for or child.state.state}"
            for name, child in self._children.items()
            if not child.state.ready
        ]
        return "; ".join(reasons or [self._topics] * bool(self._topics))

    async def wait_ready(self, timeout: float = 60.0) -> float:
        """Return when everything is ready, with the seconds since the start. Raises `LocalError` naming what is not."""
        deadline = time.monotonic() + timeout
        while reason := self.waiting_for():
            if time.monotonic() > deadline:
                raise LocalError(f"Not ready after {timeout:.0f} s, waiting for {reason}.")
            await asyncio.sleep(LOOK_S / 2)
        self._ready_s = self._ready_s or time.monotonic() - self._began
        return self._ready_s

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process as if from outside. Raises `LocalError` when it does not run now."""
        if name not in self._children or not self._children[name].send(number):
            raise LocalError(f"{name} does not run now.")

    def memory_mb(self) -> dict[str, float]:
        """PSS of each process and of the supervisor itself (`irisloop`), measured now."""
        measured = {name: pss_mb(child.state.pid) for name, child in self._children.items() if child.state.pid}
        return measured | {"irisloop": max(0.0, pss_mb(os.getpid()) - sum(measured.values()))}

    # ---- start and stop ----

    async def __aenter__(self) -> Supervisor:
        """Check the machine, take the lock, start everything; readiness comes later. Raises `LocalError`."""
        async with AsyncExitStack() as stack:
            self._began = time.monotonic()
            await self._claim(stack)
            self._build_children(await stack.enter_async_context(_client()))
            group = await stack.enter_async_context(asyncio.TaskGroup())
            self._followers = [group.create_task(work()) for work in (self._follow_logs, self._write_states)]
            self._watchers = [group.create_task(work()) for work in (self._measure, self._keep_topics)]
            self._runs = [group.create_task(child.run(), name=name) for name, child in self._children.items()]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Stop everything."""
        try:
            await self.stop()
        finally:
            for follower in self._followers:
                follower.cancel()
            await self._stack.aclose()
            self._print_logs()
            self._save(running=False)

    async def stop(self) -> None:
        """Drain and end the services, then Kafka; whoever does not end in time is killed."""
        for watcher in self._watchers:
            watcher.cancel()
        services = [run for run in self._runs if run.get_name() != KAFKA]
        for name, child in self._children.items():
            if name != KAFKA:
                child.stop()
        if services:
            await asyncio.wait(services)
        if KAFKA in self._children:
            self._children[KAFKA].stop()
        if self._runs:
            await asyncio.wait(self._runs)

    def kill_now(self) -> None:
        """End everything at once, without a drain."""
        for child in self._children.values():
            child.kill_now()

    async def _claim(self, stack: AsyncExitStack) -> None:
        settings = self.settings
        _check_disk(settings)
        stack.enter_context(HomeLock(settings.run_folder))
        for orphan in await asyncio.to_thread(kill_orphans, settings.home):
            self._say("irisloop", f"ended {orphan}, left over from a supervisor that was killed")
        self._ports = await asyncio.to_thread(self._choose_ports)
        if self._embed:
            self.bootstrap_servers = f"{HOST}:{self._ports.kafka}"
        self._state = replace(
            self._state,
            supervisor_pid=os.getpid(),
            started_at=time.time(),
            bootstrap_servers=self.bootstrap_servers,
            embedded_kafka=self._embed,
            kafka_version=KAFKA_VERSION if self._embed else "",
            metrics_port=self._ports.metrics,
            sql_port=self._ports.sql,
            running=True,
        )

    def _choose_ports(self) -> Ports:
        return choose_ports(
            self.settings, self._services, self._replicas, free_ports=self._free_ports, kafka=self._embed
        )

    # ---- the processes ----

    def _build_children(self, client: httpx.AsyncClient) -> None:
        specs = [self._kafka_spec()] if self._embed else []
        specs += [
            self._service_spec(service, number, client)
            for service in self._services
            for number in range(self._replicas.get(service, 1))
        ]
        limit = self.settings.log_mb << 20
        self._logs = {spec.name: LogFile(self.settings.log_folder / f"{spec.name}.log", limit) for spec in specs}
        for log in self._logs.values():
            log.skip()
        self._children = {
            spec.name: Child(spec, self._logs[spec.name], drain_s=self.settings.drain_s, backoff=Backoff())
            for spec in specs
        }

    def _kafka_spec(self) -> ProcessSpec:
        kafka = EmbeddedKafka(
            self.settings.home / "kafka",
            port=self._ports.kafka,
            controller_port=self._ports.kafka_controller,
            heap_mb=self.settings.kafka_heap_mb,
            durability=self.settings.common.durability,
        )

        async def command() -> Sequence[str]:
            jars = await asyncio.to_thread(
                class_path,
                self.settings.cache,
                repository=self.settings.maven_repository,
                say=lambda line: self._say("irisloop", line),
            )
            await asyncio.to_thread(kafka.prepare, jars)
            return kafka.command(jars)

        async def probe() -> str:
            self._broker_down = "" if await _answers(HOST, self._ports.kafka) else "its port to answer"
            return self._broker_down

        environment = kafka.environment() | {MARK: str(self.settings.home)}
        return ProcessSpec(KAFKA, command, probe, environment, grpc_port=0, http_port=0)

    def _service_spec(self, service: str, number: int, client: httpx.AsyncClient) -> ProcessSpec:
        name = replica_name(service, number)
        url = f"{self.url(name)}/readyz"

        async def command() -> Sequence[str]:
            return self._command(service)

        async def probe() -> str:
            return await _readiness(client, url)

        return ProcessSpec(
            name,
            command,
            probe,
            self._environment(service, number),
            http_port=self._ports.http[name],
            grpc_port=self._ports.grpc[name],
        )

    def _environment(self, service: str, number: int) -> dict[str, str]:
        """What a child is told; the rest it inherits, so that every setting of the user reaches it."""
        name, prefix = replica_name(service, number), f"IRISLOOP_{service.upper()}__"
        told = {
            MARK: str(self.settings.home),
            "IRISLOOP_HOME": str(self.settings.home),
            "IRISLOOP_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap_servers,
            "IRISLOOP_REPLICA": str(number),
            f"{prefix}HTTP_PORT": str(self._ports.http[name]),
            f"{prefix}GRPC_PORT": str(self._ports.grpc[name]),
            "PYTHONUNBUFFERED": "1",
            "MALLOC_ARENA_MAX": "2",
        }
        told |= {f"IRISLOOP_ADDRESSES__{s.upper()}": self.address(s) for s in self._services}
        if service == "serving" and number == 0 and self._ports.metrics:
            told[f"{prefix}METRICS_PORT"] = str(self._ports.metrics)
        if service == "monitor" and number == 0:
            told[f"{prefix}SQL_PORT"] = str(self._ports.sql)
        return {**os.environ, **told}

    # ---- what goes on beside them ----

    async def _keep_topics(self) -> None:
        """Create the topics once Kafka answers; try again until it worked."""
        while True:
            if not self._embed or not self._broker_down:
                try:
                    await self._apply_topics(self.bootstrap_servers, self.settings)
                    self._topics = ""
                    return
                except Exception as error:  # whatever a dying broker does to a client must not end the supervisor
                    self._topics = f"topics to be created on {self.bootstrap_servers} ({error})"
            await asyncio.sleep(LOOK_S)

    async def _follow_logs(self) -> None:
        while True:
            self._print_logs()
            await asyncio.sleep(LOOK_S)

    def _print_logs(self) -> None:
        for name, log in self._logs.items():
            for line in log.new_lines():
                self._say(name, readable(line))
            log.bound()

    async def _write_states(self) -> None:
        told: dict[str, str] = {}
        while True:
            for name, child in self._children.items():
                told[name] = self._announce(child.state, told.get(name, ""))
            if not self._ready_s and not self.waiting_for():
                self._ready_s = time.monotonic() - self._began
                self._say("irisloop", f"everything is ready after {self._ready_s:.1f} s")
            self._save(running=True)
            await asyncio.sleep(LOOK_S)

    def _announce(self, state: ProcessState, before: str) -> str:
        """Say what changed since `before`; returns what to compare with next time. Waiting is shown, not told."""
        words = {
            "ready": f"is ready (process {state.pid})",
            "stopped": f"is stopped{f', {state.waiting_for}' * bool(state.waiting_for)}",
            "restarting": state.waiting_for,
        }.get(state.state, "")
        if words and words != before:
            self._say("irisloop", f"{state.name} {words}")
        return words or before

    def _save(self, *, running: bool) -> None:
        with suppress(OSError):  # a full disk must not end what runs
            write_state(self.settings.run_folder, replace(self.state, running=running))

    async def _measure(self) -> None:
        from services.local.lag import LagReader

        async with LagReader(self.bootstrap_servers, self.settings.common) as reader:
            while True:
                await asyncio.sleep(MEASURE_S)
                lags = {} if self._topics else await _quietly(reader.by_service())
                for name, child in self._children.items():
                    pss = await asyncio.to_thread(pss_mb, child.state.pid) if child.state.pid else 0.0
                    child.note(pss_mb=pss, lag=lags.get(name))


def _check_disk(settings: LocalSettings) -> None:
    """Make the folders. Raises `LocalError` when the disk is full or the folder not ours to write."""
    try:
        for folder in (settings.run_folder, settings.log_folder):
            folder.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(settings.home).free >> 20
        (settings.run_folder / "written").write_text("")
    except OSError as error:
        raise LocalError(
            f"The folder {settings.home} cannot be used: {error.strerror or error}. Set IRISLOOP_HOME to one that can."
        ) from error
    if free_mb < settings.min_free_mb:
        raise LocalError(
            f"The disk of {settings.home} has {free_mb:,} MiB left, less than {settings.min_free_mb:,} MiB: "
            "free some, set IRISLOOP_HOME to another disk, or lower IRISLOOP_LOCAL__MIN_FREE_MB."
        )


async def _quietly(lags: Coroutine[Any, Any, dict[str, int]]) -> dict[str, int]:
    """The lags, or none: a figure in a table is no reason to end what runs."""
    try:
        return await lags
    except Exception:
        return {}


def _client() -> httpx.AsyncClient:
    import httpx

    return httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, trust_env=False)


async def _readiness(client: httpx.AsyncClient, url: str) -> str:
    import httpx

    try:
        answer = await client.get(url)
    except httpx.ConnectError:
        return NOT_LISTENING
    except httpx.HTTPError:
        return "an answer to /readyz"
    if answer.status_code == 200:
        return ""
    try:
        return str(answer.json()["waiting_for"]) or "it does not say what"
    except (ValueError, KeyError, TypeError):
        return f"/readyz answers {answer.status_code}"


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
