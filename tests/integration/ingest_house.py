"""A real Kafka and a real ingest process, for ingest's integration tests and its benchmark."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services.common.bus import topics
from services.common.errors import Unavailable
from services.common.settings import KafkaSettings
from services.local.jars import class_path
from services.local.kafka import EmbeddedKafka
from services.local.settings import LocalSettings
from tests.ports import free_port

START_S = 120.0
REPOSITORY = Path(__file__).parents[2]


@dataclass
class KafkaProcess:
    """The embedded broker; may be killed and started again on its data."""

    folder: Path
    prefix: Sequence[str] = ()
    """Goes before its command line."""
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        local = LocalSettings()
        self._jars = class_path(local.cache, repository=local.maven_repository)
        self._kafka = EmbeddedKafka(self.folder, free_port(), free_port())

    @property
    def settings(self) -> KafkaSettings:
        """For clients."""
        return KafkaSettings(bootstrap_servers=self._kafka.bootstrap_servers)

    def start(self) -> None:
        """Start it; `ready` waits for it."""
        self._kafka.prepare(self._jars)
        with (self.folder / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, *self._kafka.command(self._jars)],
                env=self._kafka.environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def ready(self) -> None:
        """Wait until it answers and has all topics."""
        deadline = time.monotonic() + START_S
        while True:
            try:
                await topics.apply(self.settings)
                return
            except Unavailable:
                assert self.process is not None
                said = (self.folder / "log.txt").read_text()[-3000:]
                assert self.process.poll() is None, f"Kafka ended: {said}"
                assert time.monotonic() < deadline, f"Kafka is not ready: {said}"
            await asyncio.sleep(0.2)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()


@asynccontextmanager
async def running_broker(folder: Path, *, prefix: Sequence[str] = ()) -> AsyncIterator[KafkaProcess]:
    """The embedded broker with all topics, killed when the block ends."""
    broker = KafkaProcess(folder, prefix)
    broker.start()
    try:
        await broker.ready()
        yield broker
    finally:
        broker.kill()


@asynccontextmanager
async def running_kafka(folder: Path, *, prefix: Sequence[str] = ()) -> AsyncIterator[KafkaSettings]:
    """The same for those who only need to reach it."""
    async with running_broker(folder, prefix=prefix) as broker:
        yield broker.settings


@dataclass
class IngestProcess:
    """`python -m services.ingest` on its own home; may be killed and started again."""

    home: Path
    kafka: KafkaSettings
    prefix: Sequence[str] = ()
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.http_port}"

    def start(self) -> None:
        """Start it; `ready` waits for it."""
        environment = os.environ | {
            "IRISLOOP_HOME": str(self.home),
            "IRISLOOP_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "IRISLOOP_INGEST__HTTP_PORT": str(self.http_port),
            "IRISLOOP_INGEST__GRPC_PORT": str(self.grpc_port),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto" / "gen")]),
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "services.ingest"],
                env=environment,
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    async def ready(self) -> None:
        """Wait until it says that it is ready."""
        deadline = time.monotonic() + START_S
        async with httpx.AsyncClient() as client:
            while time.monotonic() < deadline:
                assert self.process is not None
                assert self.process.poll() is None, f"ingest ended: {(self.home / 'log.txt').read_text()[-3000:]}"
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.1)
        raise TimeoutError(f"ingest is not ready: {(self.home / 'log.txt').read_text()[-3000:]}")

    def kill(self) -> None:
        """SIGKILL, as a power user would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@asynccontextmanager
async def running_ingest(
    home: Path, kafka: KafkaSettings, *, prefix: Sequence[str] = ()
) -> AsyncIterator[IngestProcess]:
    """A ready ingest, stopped when the block ends."""
    ingest = IngestProcess(home, kafka, prefix)
    ingest.start()
    try:
        await ingest.ready()
        yield ingest
    finally:
        if ingest.process is not None and ingest.process.poll() is None:
            ingest.kill()
