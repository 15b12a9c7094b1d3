"""Real serving processes on a real Kafka, for serving's integration tests and its benchmark."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Bus
from services.common.settings import KafkaSettings
from tests.integration.ingest_house import REPOSITORY
from tests.ports import free_port
from tests.waiting import until

PARTITIONS = 6
START_S = 120.0


@dataclass
class ServingProcess:
    """`python -m services.serving`; replicas share a home, may be killed and started again."""

    home: Path
    kafka: KafkaSettings
    replica: int = 0
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    metrics_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None
    settings: Mapping[str, str] = field(default_factory=dict)
    """Further ones, by the field's name."""

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def address(self) -> str:
        """Where it answers gRPC."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.home / f"serving-{self.replica}.log"

    def start(self) -> None:
        """Start it; `ready` waits for it."""
        environment = os.environ | {
            "IRISLOOP_HOME": str(self.home),
            "IRISLOOP_REPLICA": str(self.replica),
            "IRISLOOP_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "IRISLOOP_SERVING__HTTP_PORT": str(self.http_port),
            "IRISLOOP_SERVING__GRPC_PORT": str(self.grpc_port),
            "IRISLOOP_SERVING__METRICS_PORT": str(self.metrics_port),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto" / "gen")]),
            **{f"IRISLOOP_SERVING__{name.upper()}": value for name, value in self.settings.items()},
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.serving"],
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
                assert self.process.poll() is None, f"serving ended: {self.log.read_text()[-3000:]}"
                try:
                    if (await client.get(f"{self.url}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        raise TimeoutError(f"serving is not ready: {self.log.read_text()[-3000:]}")

    async def bind(self, model: str, role: str, *cameras: str) -> None:
        """As `irisloop models bind` does."""
        async with httpx.AsyncClient(timeout=60) as client:
            body = {"cameras": list(cameras)}
            (await client.put(f"{self.url}/api/v1/bindings/{model}/{role}", json=body)).raise_for_status()

    async def knows(self, *models: str) -> None:
        """Wait until it has read the bindings of these models, which another replica may have been told."""

        async def read() -> bool:
            async with httpx.AsyncClient(timeout=60) as client:
                found = (await client.get(f"{self.url}/api/v1/bindings")).json()["bindings"]
            return set(models) <= {one["model"] for one in found}

        await until(read, what=f"the bindings of {models}")

    async def revision(self, model: str) -> int:
        """The alias revision that it follows, 0 when there is none."""
        async with httpx.AsyncClient(timeout=60) as client:
            models = (await client.get(f"{self.url}/api/v1/models")).json()["models"]
            return next((one["revision"] for one in models if one["model"] == model), 0)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@asynccontextmanager
async def running_serving(
    home: Path, kafka: KafkaSettings, replica: int = 0, **settings: str
) -> AsyncIterator[ServingProcess]:
    """A ready serving, killed when the block ends."""
    serving = ServingProcess(home, kafka, replica, settings=settings)
    serving.start()
    try:
        await serving.ready()
        yield serving
    finally:
        if serving.process is not None and serving.process.poll() is None:
            serving.kill()


async def predictions(bus: Bus) -> list[pb.Prediction]:
    """Every committed prediction, each partition in its order; nothing is deduplicated here."""
    found = [await bus.read(PREDICTION_MADE, number) for number in range(PARTITIONS)]
    return [pb.PredictionMade.FromString(record.value).prediction for records in found for record in records]


async def followed(serving: ServingProcess, model: str, revision: int) -> None:
    """Wait until it follows that revision."""

    async def reached() -> bool:
        return await serving.revision(model) >= revision

    await until(reached, START_S, what=lambda: f"revision {revision} of {model}: {serving.log.read_text()[-3000:]}")
