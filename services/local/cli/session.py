"""What every command needs: settings, the addresses of what runs, a console, and a way to wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from services.common.errors import IrisloopError, Unavailable
from services.local.layout import HOST, HTTP_PORTS
from services.local.state import DeploymentState, read_state

if TYPE_CHECKING:
    import httpx
    from rich.console import Console

    from services.common.settings import CommonSettings
    from services.local.settings import LocalSettings

T = TypeVar("T")
HTTP_TIMEOUT_S: Final = 30.0
CALL_S: Final = 30.0
PIPE_WIDTH: Final = 200
"""Columns where there is no terminal: what another program reads is not folded."""


@dataclass(frozen=True, slots=True)
class Session:
    """One command's view of the deployment."""

    settings: LocalSettings
    state: DeploymentState

    def address(self, service: str) -> str:
        """host:port of a service's gRPC: what the environment says, else what runs here, else the default."""
        common = self.settings.common
        named = "addresses" in common.model_fields_set and service in common.addresses.model_fields_set
        process = self.state.processes.get(service)
        if not named and process is not None and process.grpc_port:
            return f"{HOST}:{process.grpc_port}"
        return str(getattr(common.addresses, service))

    def url(self, service: str) -> str:
        """Base URL of a service's HTTP, beside its gRPC."""
        process = self.state.processes.get(service)
        port = process.http_port if process is not None and process.http_port else HTTP_PORTS[service]
        return f"http://{self.address(service).rpartition(':')[0]}:{port}"

    def common(self) -> CommonSettings:
        """The shared settings with the broker that runs here."""
        common = self.settings.common
        if self.settings.own_kafka or not self.state.bootstrap_servers:
            return common
        kafka = common.kafka.model_copy(update={"bootstrap_servers": self.state.bootstrap_servers})
        return common.model_copy(update={"kafka": kafka})

    @asynccontextmanager
    async def stub(self, service: str, make: Callable[[Any], T]) -> AsyncIterator[T]:
        """A stub of a service's gRPC."""
        from services.common.grpc import channel

        async with channel(self.address(service)) as opened:
            yield make(opened)

    async def call(self, service: str, method: Callable[..., Any], request: Any, *, timeout_s: float = CALL_S) -> Any:
        """Call a stub's method. Raises our errors, in words for a person when nobody answers."""
        from services.common.grpc import call

        try:
            return await call(method, request, timeout_s=timeout_s)
        except Unavailable as error:
            raise self.silent(service, self.address(service), str(error)) from error

    def silent(self, service: str, where: str, detail: str = "") -> Unavailable:
        """The sentence about a service that does not answer."""
        process = self.state.processes.get(service)
        if not self.state.running:
            return Unavailable(f"{service} does not answer at {where}: nothing runs here. Start it with `irisloop up`.")
        if process is not None and process.waiting_for:
            return Unavailable(f"{service} is not ready, it waits for {process.waiting_for}. Try again in a moment.")
        return Unavailable(
            f"{service} does not answer at {where}{f' ({detail})' * bool(detail)}. See `irisloop logs {service}`."
        )

    @asynccontextmanager
    async def http(self, service: str) -> AsyncIterator[httpx.AsyncClient]:
        """A client of a service's HTTP; use `answer_of` on what it returns."""
        import httpx

        try:
            async with httpx.AsyncClient(base_url=self.url(service), timeout=HTTP_TIMEOUT_S, trust_env=False) as client:
                yield client
        except httpx.TransportError as error:
            raise self.silent(service, self.url(service)) from error


def answer_of(response: httpx.Response) -> Any:
    """The JSON of an answer. Raises `IrisloopError` with the service's own sentence when it refused."""
    if response.is_success:
        return response.json() if response.content else {}
    try:
        error = response.json()["error"]
        raise IrisloopError(error["message"], field=error.get("field", ""), reason=error.get("reason", ""))
    except (ValueError, KeyError, TypeError):
        raise IrisloopError(f"{response.request.url} answers {response.status_code}.") from None


def open_session() -> Session:
    """Read the settings and what is written down about the deployment. Raises `LocalError` for odd settings."""
    from pydantic import ValidationError

    from services.local.errors import LocalError
    from services.local.settings import LocalSettings

    try:
        settings = LocalSettings()
    except ValidationError as error:
        first = error.errors()[0]
        prefix = "IRISLOOP_LOCAL__" if error.title == LocalSettings.__name__ else "IRISLOOP_"
        name = prefix + "__".join(str(part).upper() for part in first["loc"])
        raise LocalError(f"The setting {name} is not valid: {first['msg']}.") from error
    return Session(settings, read_state(settings.home))


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; the first of several errors counts."""
    import logging

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # commands say it in their own sentence
    try:
        return asyncio.run(work)
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first plain error of a group, however deep."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def console() -> Console:
    """Where answers go."""
    import sys

    from rich.console import Console

    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)


def complain(text: str) -> None:
    """One sentence to the error output."""
    import typer

    typer.echo(f"irisloop: {text}", err=True)


def show_json(value: Any) -> None:
    """For programs."""
    import json

    import typer

    typer.echo(json.dumps(value, indent=2, default=str))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    """For people; `nothing` is said when there are no rows."""
    from rich.table import Table

    if not rows:
        console().print(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console().print(table)


def ask_registry(pick: Callable[[Any], Any], request: Any) -> Any:
    """The answer of the call that `pick` takes of registry's stub."""
    session = open_session()

    async def ask() -> Any:
        from irisloop.registry.v1 import registry_pb2_grpc

        async with session.stub("registry", registry_pb2_grpc.RegistryServiceStub) as stub:
            return await session.call("registry", pick(stub), request)

    return wait_for(ask())
