"""Which ports the processes of one machine listen on, and who is in the way when one is taken."""

from __future__ import annotations

import random
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil

from services.local.errors import LocalError
from services.local.layout import GRPC_PORTS, HOST, HTTP_PORTS, SQL_PORT
from services.local.settings import LocalSettings

FREE_RANGE: Final = (20_000, 32_000)
"""Below what the kernel gives to outgoing connections: those could take a port while its service restarts."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one deployment; `http` and `grpc` by process name (`serving`, `serving-1`, ...)."""

    http: Mapping[str, int]
    grpc: Mapping[str, int]
    kafka: int = 0
    kafka_controller: int = 0
    metrics: int = 0
    """Serving's third port; 0 for none."""
    sql: int = 0
    """Monitor's third port; 0 for none."""


def replica_name(service: str, number: int) -> str:
    """The name of a replica's process: the service's own for the first."""
    return service if number == 0 else f"{service}-{number}"


def choose_ports(
    settings: LocalSettings, services: Sequence[str], replicas: Mapping[str, int], *, free_ports: bool, kafka: bool
) -> Ports:
    """Ports for the services, each with its number of replicas; further replicas always get free ones.

    Raises `LocalError` naming who holds a port, unless `free_ports` lets another be taken.
    """
    chooser = _Chooser(free_ports)
    names = [(service, number) for service in services for number in range(replicas.get(service, 1))]
    return Ports(
        http={replica_name(s, n): chooser.choose(s, HTTP_PORTS.get(s, 0) if n == 0 else 0) for s, n in names},
        grpc={replica_name(s, n): chooser.choose(s, GRPC_PORTS.get(s, 0) if n == 0 else 0) for s, n in names},
        kafka=chooser.choose("Kafka", settings.kafka_port) if kafka else 0,
        kafka_controller=chooser.choose("Kafka's controller", settings.kafka_controller_port) if kafka else 0,
        metrics=chooser.choose("serving", settings.metrics_port) if "serving" in services else 0,
        sql=chooser.choose("monitor", SQL_PORT) if "monitor" in services else 0,
    )


@dataclass(slots=True)
class _Chooser:
    free_ports: bool
    chosen: set[int] = field(default_factory=set)

    def choose(self, wanted_by: str, port: int) -> int:
        if port and port not in self.chosen and is_free(port):
            self.chosen.add(port)
            return port
        if port and not self.free_ports:
            raise LocalError(
                f"Port {port} of {wanted_by} is in use by {holder_of(port)}. "
                "Stop it, or let Irisloop pick other ports: irisloop up --free-ports"
            )
        other = free_port(self.chosen)
        self.chosen.add(other)
        return other


def free_port(taken: set[int]) -> int:
    """A port that nobody listens on and that is not among `taken`."""
    low, high = FREE_RANGE
    start = random.randrange(low, high)
    for offset in range(high - low):
        port = low + (start - low + offset) % (high - low)
        if port not in taken and is_free(port):
            return port
    raise LocalError(f"No port between {low} and {high} is free on {HOST}.")


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def holder_of(port: int) -> str:
    """Who listens on the port, as far as this user may see."""
    try:
        connections = psutil.net_connections(kind="inet")
    except (psutil.AccessDenied, OSError):
        connections = []
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
            return _describe(connection.pid)
    return "another program"


def _describe(pid: int | None) -> str:
    if pid is None:
        return "a program of another user"
    try:
        command = " ".join(psutil.Process(pid).cmdline()) or psutil.Process(pid).name()
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid} ({command[:80]})"
