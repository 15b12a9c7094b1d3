"""The listening side of a process: HTTP and gRPC in the service's own event loop, up before everything else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import uvicorn

from services.common.crowds import AtOnce, Doorkeeper
from services.common.metrics import READY
from services.common.settings import ServiceSettings
from services.common.telemetry import log

if TYPE_CHECKING:
    from fastapi import FastAPI

    from services.common.grpc import GrpcServer

BACKLOG: Final = 1_024
GRACE_S: Final = 3.0
AT_ONCE: Final = 1_000
"""Requests in hand; more are answered 503."""
LOOK_S: Final = 0.1
SWEEPS: Final = 8
"""Looks at the connections within the patience with them."""


class CannotStart(Exception):
    """What keeps the service from starting, in a sentence for the person who started it."""


class GrpcFront(Protocol):
    """Takes the gRPC port instead of grpcio, which then listens behind it on a Unix socket."""

    def start(self, target: str, fallback: str) -> int:
        """Listen on host:port; what it does not serve itself goes to the socket. Returns the port."""

    async def stop(self) -> None:
        """Let calls in hand end within a grace, and close."""


class QuietServer(uvicorn.Server):
    """uvicorn without signal handlers: the runtime has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield


class Servers:
    """HTTP, gRPC and the port of metrics; all of them follow the service's readiness."""

    def __init__(
        self,
        service: str,
        settings: ServiceSettings,
        http: FastAPI,
        grpc: GrpcServer,
        waiting_for: Callable[[], str],
        front: GrpcFront | None = None,
        wrap: Callable[[Any], Any] | None = None,
    ) -> None:
        """Nothing listens before `start`. `wrap` puts an ASGI application around the one of `http`."""
        self._service = service
        self._settings = settings
        self._grpc = grpc
        self._waiting_for = waiting_for
        self._front = front
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        config = uvicorn.Config(
            AtOnce(wrap(http) if wrap is not None else http, AT_ONCE),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            proxy_headers=False,  # nobody is known by an address
            timeout_graceful_shutdown=int(GRACE_S),
        )
        self._http = QuietServer(config)
        http.state.unsent = self._unsent
        self._serving: asyncio.Task[None] | None = None
        self._following: list[asyncio.Task[None]] = []
        self._metrics: Callable[[], None] | None = None
        self._reason = "?"

    async def start(self) -> dict[str, int]:
        """Listen; returns the ports by name. Raises `CannotStart` when a port is taken."""
        listening = listen(self._service, "HTTP", self._settings.host, self._settings.http_port)
        try:
            ports = {"http_port": listening.getsockname()[1], "grpc_port": self._add_grpc_port()}
            if self._settings.metrics_port is not None:
                ports["metrics_port"] = self._serve_metrics(self._settings.metrics_port)
            await self._grpc.server.start()
            if self._front is not None:
                ports["grpc_port"] = self._start_front(self._front)
        except BaseException:
            listening.close()
            await self._grpc.server.stop(None)
            raise
        self._serving = asyncio.create_task(self._http.serve(sockets=[listening]), name="http")
        while not self._http.started and not self._serving.done():
            await asyncio.sleep(0.005)
        self._following = [
            asyncio.create_task(self._follow(), name="readiness"),
            asyncio.create_task(self._look_over(), name="doorkeeper"),
        ]
        return ports

    def _unsent(self) -> int:
        """Bytes of HTTP answers that their clients have not taken; from any thread."""
        return sum(one.transport.get_write_buffer_size() for one in list(self._http.server_state.connections))

    async def stop(self) -> None:
        """Take no new calls, let those in hand end within a grace, and close."""
        for task in self._following:
            task.cancel()
        await self._grpc.set_serving(False)
        self._http.should_exit = True
        if self._front is not None:
            await self._front.stop()
        waits: list[Awaitable[None]] = [self._grpc.server.stop(GRACE_S)]
        if self._serving is not None:
            waits.append(self._serving)
        await asyncio.gather(*waits, return_exceptions=True)
        if self._metrics is not None:
            self._metrics()
        if self._sockets is not None:
            self._sockets.cleanup()

    def _add_grpc_port(self) -> int:
        host, port = self._settings.host, self._settings.grpc_port
        credentials = self._credentials()
        if self._front is not None:
            return self._add_socket(encrypted=credentials is not None)
        if port:
            listen(self._service, "gRPC", host, port).close()  # gRPC's own error names no cause
        try:
            if credentials is not None:
                return self._grpc.server.add_secure_port(f"{host}:{port}", credentials)
            return self._grpc.server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise CannotStart(_taken(self._service, "gRPC", host, port)) from error

    def _add_socket(self, *, encrypted: bool) -> int:
        """Where grpcio listens behind the front; 0, since the front knows the port."""
        if encrypted:
            raise CannotStart(
                f"{self._service}: this gRPC transport does not encrypt. End TLS in front of it, or use grpcio."
            )
        self._sockets = tempfile.TemporaryDirectory(prefix="irisloop-grpc-")
        self._grpc.server.add_insecure_port(f"unix:{self._sockets.name}/grpc.sock")
        return 0

    def _start_front(self, front: GrpcFront) -> int:
        assert self._sockets is not None
        target = f"{self._settings.host}:{self._settings.grpc_port}"
        try:
            return front.start(target, f"{self._sockets.name}/grpc.sock")
        except (OSError, RuntimeError) as error:
            raise CannotStart(f"{self._service} cannot listen on {target} for gRPC: {error}.") from error

    def _credentials(self) -> Any:
        """grpcio's, None without a certificate. Raises `CannotStart` for a file that is not there."""
        import grpc

        settings = self._settings
        if settings.tls_certificate is None or settings.tls_key is None:
            if settings.tls_certificate or settings.tls_key or settings.tls_client_ca:
                raise CannotStart(f"{self._service}: TLS needs both TLS_CERTIFICATE and TLS_KEY.")
            return None
        certificate, key = self._pem(settings.tls_certificate), self._pem(settings.tls_key)
        authorities = self._pem(settings.tls_client_ca) if settings.tls_client_ca else None
        return grpc.ssl_server_credentials([(key, certificate)], authorities, authorities is not None)

    def _pem(self, path: Path) -> bytes:
        try:
            return path.read_bytes()
        except OSError as error:
            raise CannotStart(f"{self._service}: {path} cannot be read: {error.strerror}.") from error

    def _serve_metrics(self, port: int) -> int:
        from prometheus_client import start_http_server

        listen(self._service, "metrics", self._settings.host, port).close()
        server, thread = start_http_server(port, self._settings.host)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join(1.0)

        self._metrics = close
        return int(server.server_port)

    async def _follow(self) -> None:
        while True:
            reason = self._waiting_for()
            if reason != self._reason:
                self._reason = reason
                READY.set(0 if reason else 1)
                await self._grpc.set_serving(not reason)
                if reason:
                    log.info("service_waits", waiting_for=reason)
                else:
                    log.info("service_ready")
            await asyncio.sleep(LOOK_S)

    async def _look_over(self) -> None:
        patience_s = self._settings.connection_patience_s
        doorkeeper = Doorkeeper(lambda: self._http.server_state.connections, patience_s)
        while True:
            await asyncio.sleep(patience_s / SWEEPS)
            doorkeeper.look(asyncio.get_running_loop().time())


def listen(service: str, what: str, host: str, port: int) -> socket.socket:
    """A listening socket. Raises `CannotStart` with a sentence that names the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotStart(_taken(service, what, host, port)) from error
        raise CannotStart(
            f"{service} cannot listen on {host}:{port} for {what}: {os.strerror(error.errno or 0)}."
        ) from error
    return sock


def _taken(service: str, what: str, host: str, port: int) -> str:
    name = f"IRISLOOP_{service.upper()}__{what.upper()}_PORT"
    return f"{service} cannot listen on {host}:{port} for {what}: the port is in use. Stop what uses it, or set {name}."
