"""Starts a service in order, keeps it answering, and stops it in order within ten seconds.

The servers come first, so that /healthz, /readyz and gRPC health answer while the rest is still waited for.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from services.common import telemetry
from services.common.crowds import allow_many_files
from services.common.errors import IrisloopError, Transient
from services.common.readiness import waiting_for
from services.common.servers import CannotStart, GrpcFront, Servers
from services.common.settings import MAX_MESSAGE_BYTES, ServiceSettings
from services.common.telemetry import log

if TYPE_CHECKING:
    import grpc.aio
    from fastapi import FastAPI

DRAIN_S: Final = 10.0
RETRY_S: Final = (0.1, 3.0)
COLLECT_AFTER: Final = (10_000, 20, 50)
EXIT_FAILED: Final = 1
EXIT_CONFIG: Final = 78
"""sysexits.h EX_CONFIG: starting again will not help before a person changes something."""


@dataclass
class Application:
    """A service, wired and not yet started."""

    name: str
    settings: ServiceSettings
    resources: Sequence[AbstractAsyncContextManager[Any]] = ()
    """Entered in order, left in reverse; one whose entering raises `Transient` is tried again."""
    tasks: Mapping[str, Callable[[], Awaitable[None]]] = field(default_factory=dict)
    """Run together until the stop; one that fails takes the process down."""
    http: FastAPI | None = None
    """From `create_http`; a plain one with health and metrics when None."""
    grpc: Callable[[grpc.aio.Server], None] | None = None
    """Adds the servicers."""
    max_message_bytes: int = MAX_MESSAGE_BYTES
    """Largest gRPC message, either way."""
    front: GrpcFront | None = None
    """Takes the gRPC port; grpcio then stands behind it."""
    wrap: Callable[[Any], Any] | None = None
    """An ASGI application around `http`, for routes that FastAPI would be too slow for."""
    ready: Sequence[Callable[[], str]] = ()
    """Each says what it waits for, or ""."""


def main(build: Callable[[], Application]) -> None:
    """Run the service until SIGTERM or SIGINT, then exit: 0 stopped, 1 failed, 78 a person has to change something."""
    import uvloop

    allow_many_files()
    code = uvloop.run(_run(build))
    sys.stdout.flush()
    sys.exit(code)


async def _run(build: Callable[[], Application]) -> int:
    from pydantic import ValidationError

    try:
        application = build()
        telemetry.configure(application.settings.common, application.name)
        _spare_the_collector()
        code = await Runtime(application).run()
    except ValidationError as error:
        return _refuse(f"The settings are not valid: {_problems(error)}.")
    except (CannotStart, IrisloopError) as error:
        return _refuse(str(error))
    _arm("ending the process", code or EXIT_FAILED)  # a thread that never ends must not keep it
    return code


def _spare_the_collector() -> None:
    """What is made until now stays to the end: the garbage collector need not walk through it, nor after each 700
    objects, which is every few dozen messages.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _refuse(sentence: str) -> int:
    sys.stderr.write(f"{sentence}\n")
    return EXIT_CONFIG


def _problems(error: Any) -> str:
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].lower()}" for problem in error.errors()
    )


class Runtime:
    """One application on its way from start to stop."""

    def __init__(self, application: Application) -> None:
        """Nothing happens before `run`. Make it inside the event loop."""
        self._application = application
        self._stop = asyncio.Event()
        self._failed = False
        self._wait = "the start"
        self._step = "starting"
        self._watchdog: threading.Timer | None = None
        self._starting: asyncio.Task[Any] | None = None
        self.ports: dict[str, int] = {}

    def stop(self) -> None:
        """Begin to stop, as a signal does; a second call while stopping changes nothing."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._wait = "the stop to end"
        self._watchdog = _arm(lambda: self._step, EXIT_FAILED)
        if self._starting is not None:
            self._starting.cancel()

    def waiting_for(self) -> str:
        """What keeps the service from being ready, in words; "" when it is."""
        if self._wait:
            return self._wait
        return waiting_for(self._application.ready)

    async def run(self) -> int:
        """Start, work until the stop, stop. Returns the exit code. Raises `CannotStart`, or a resource's error."""
        servers = self._servers()
        self.ports = await servers.start()
        log.info("service_listening", **self.ports)
        with _signals(self._on_signal):
            try:
                await self._work(servers)
            finally:
                self.stop()
                self._step = "closing the servers"
                await servers.stop()
                if self._watchdog is not None:
                    self._watchdog.cancel()
        log.info("service_stopped", failed=self._failed)
        return EXIT_FAILED if self._failed else 0

    def _servers(self) -> Servers:
        from services.common.grpc import create_grpc
        from services.common.http import create_http

        application = self._application
        http = application.http or create_http(application.name)
        http.state.waits.insert(0, self.waiting_for)
        return Servers(
            application.name,
            application.settings,
            http,
            create_grpc(application.grpc, max_message_bytes=application.max_message_bytes),
            self.waiting_for,
            application.front,
            application.wrap,
        )

    async def _work(self, servers: Servers) -> None:
        """Enter the resources, run the tasks until the stop, leave the resources."""
        async with AsyncExitStack() as stack:
            if await self._enter_all(stack):
                self._wait = ""
                log.info("service_started")
                await self._run_tasks(servers)
            self._step = "leaving the resources"

    async def _enter_all(self, stack: AsyncExitStack) -> bool:
        """In this very task, as task groups inside of resources want it; a stop cancels what is being entered."""
        task = asyncio.current_task()
        assert task is not None
        self._starting = task
        try:
            for resource in self._application.resources:
                await self._enter(stack, resource)
        except asyncio.CancelledError:
            if not self._stop.is_set():
                raise
            task.uncancel()
        finally:
            self._starting = None
        return not self._stop.is_set()

    async def _enter(self, stack: AsyncExitStack, resource: AbstractAsyncContextManager[Any]) -> None:
        name = type(resource).__name__
        self._step = f"entering {name}"
        self._wait = f"{name} to start"
        delay = RETRY_S[0]
        while True:
            try:
                managed = self._leaving(resource)
                await managed.__aenter__()
                stack.push_async_exit(managed)
                return
            except Transient as error:
                self._wait = str(error)
                log.warning("resource_waits", resource=name, error=str(error), reason=error.reason, retry_in_s=delay)
            await asyncio.sleep(delay)
            delay = min(delay * 2, RETRY_S[1])

    def _leaving(self, resource: AbstractAsyncContextManager[Any]) -> AbstractAsyncContextManager[Any]:
        return _Noted(resource, self._note_step)

    def _note_step(self, step: str) -> None:
        self._step = step

    async def _run_tasks(self, servers: Servers) -> None:
        tasks = [
            asyncio.create_task(self._run_task(name, run), name=name) for name, run in self._application.tasks.items()
        ]
        await self._stop.wait()
        self._step = "letting calls and tasks end"
        closing = asyncio.create_task(servers.stop())
        for task in tasks:
            task.cancel()
        for task in tasks:
            self._step = f"task {task.get_name()} to end"
            await asyncio.wait([task])
        self._step = "letting calls end"
        await closing

    async def _run_task(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:
            self._failed = True
            log.error("task_failed", task=name, error=repr(error), exc_info=error)
            self.stop()

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            return  # Ctrl-C reaches the whole group, and the supervisor's SIGTERM follows; the drain is bounded anyway
        log.info("service_stops", signal=signal.Signals(number).name)
        self.stop()


class _Noted(AbstractAsyncContextManager[Any]):
    """A resource that says that it is being left, so that a stop that hangs can be explained."""

    def __init__(self, resource: AbstractAsyncContextManager[Any], note: Callable[[str], None]) -> None:
        self._resource = resource
        self._note = note

    async def __aenter__(self) -> Any:
        return await self._resource.__aenter__()

    async def __aexit__(self, *exc: Any) -> bool | None:
        self._note(f"leaving {type(self._resource).__name__}")
        return await self._resource.__aexit__(*exc)


@contextmanager
def _signals(handle: Callable[[int], None]) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def _arm(step: str | Callable[[], str], code: int) -> threading.Timer:
    """Exit hard in ten seconds, saying what hung; a thread of its own, since the loop may be what hangs."""

    def give_up() -> None:
        log.error("service_hung", step=step if isinstance(step, str) else step(), seconds=DRAIN_S)
        sys.stdout.flush()
        os._exit(code)

    timer = threading.Timer(DRAIN_S, give_up)
    timer.daemon = True
    timer.start()
    return timer
