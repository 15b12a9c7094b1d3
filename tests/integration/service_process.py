"""One service as a process on its own home; may be killed and started again."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from services.common.settings import KafkaSettings
from tests.integration.ingest_house import REPOSITORY, START_S
from tests.ports import free_port


@dataclass
class ServiceProcess:
    """`python -m services.<name>`."""

    name: str
    home: Path
    kafka: KafkaSettings
    environment: Mapping[str, str] = field(default_factory=dict)
    """More settings."""
    http_port: int = field(default_factory=free_port)
    grpc_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start it; `ready` waits for it."""
        own = {
            "IRISLOOP_HOME": str(self.home),
            "IRISLOOP_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            f"IRISLOOP_{self.name.upper()}__HTTP_PORT": str(self.http_port),
            f"IRISLOOP_{self.name.upper()}__GRPC_PORT": str(self.grpc_port),
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto" / "gen")]),
        }
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home / "log.txt").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{self.name}"],
                env=os.environ | own | dict(self.environment),
                cwd=REPOSITORY,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.process

    def log(self) -> str:
        """What it said last."""
        return (self.home / "log.txt").read_text()[-3000:]

    async def ready(self) -> None:
        """Wait until it says that it is ready."""
        deadline = time.monotonic() + START_S
        async with httpx.AsyncClient() as client:
            while time.monotonic() < deadline:
                assert self.process is not None
                assert self.process.poll() is None, f"{self.name} ended: {self.log()}"
                try:
                    if (await client.get(f"http://127.0.0.1:{self.http_port}/readyz")).status_code == 200:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        raise TimeoutError(f"{self.name} is not ready: {self.log()}")

    def kill(self) -> None:
        """SIGKILL, if it still runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
