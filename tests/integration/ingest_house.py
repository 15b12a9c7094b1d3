"""A real Kafka and a real ingest process, for ingest's integration tests and its benchmark."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
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

START_S = 90.0
REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running_kafka(folder: Path, *, prefix: Sequence[str] = ()) -> AsyncIterator[KafkaSettings]:
    """The embedded broker with all topics, until the block ends; `prefix` goes before its command line."""
    local = LocalSettings()
    jars = class_path(local.cache, repository=local.maven_repository)
    kafka = EmbeddedKafka(folder, free_port(), free_port())
    kafka.prepare(jars)
    log = (folder / "log.txt").open("wb")
    process = subprocess.Popen(  # noqa: ASYNC220 - its pipes are files
        [*prefix, *kafka.command(jars)], env=kafka.environment(), stdout=log, stderr=subprocess.STDOUT
    )
    try:
        settings = KafkaSettings(bootstrap_servers=kafka.bootstrap_servers)
        await _apply(settings)
        yield settings
    finally:
        process.kill()
        process.wait()
        log.close()


async def _apply(settings: KafkaSettings) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            await topics.apply(settings)
            return
        except Unavailable:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.2)


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
        return self.process.wait(15)


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
