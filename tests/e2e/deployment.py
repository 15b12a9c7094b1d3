"""`irisloop up` as a person starts it: a process with its children, and the commands beside it, each a process too."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
READY_S = 180.0
STOP_S = 90.0


@dataclass
class Deployment:
    """What runs on a home, asked through its commands."""

    home: Path
    environment: Mapping[str, str]

    @property
    def log(self) -> Path:
        """What `irisloop up` printed."""
        return self.home / "up.log"

    async def command(self, *arguments: str) -> str:
        """What `irisloop <arguments>` printed; fails with what it complained about."""
        code, out, error = await self.tried(*arguments)
        assert code == 0, f"irisloop {' '.join(arguments)}: {error or out}"
        return out

    async def tried(self, *arguments: str) -> tuple[int, str, str]:
        """The exit code of `irisloop <arguments>`, and what it printed on both outputs."""
        process = await asyncio.create_subprocess_exec(
            *irisloop(*arguments),
            env=dict(self.environment),
            cwd=REPOSITORY,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, error = await process.communicate()
        return process.returncode or 0, out.decode(), error.decode()

    async def json(self, *arguments: str) -> Any:
        """The same, read."""
        return json.loads(await self.command(*arguments, "--json"))

    async def processes(self) -> dict[str, Any]:
        """Each process by name, once all are ready."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            code, out, _ = await self.tried("status", "--json")
            if code == 0:
                found: dict[str, Any] = json.loads(out)["processes"]
                return found
            await asyncio.sleep(0.3)
        raise AssertionError(f"not ready in {READY_S:.0f} s: {self.log.read_text()[-4000:]}")


def irisloop(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "services", *arguments]


def _start(deployment: Deployment) -> subprocess.Popen[bytes]:
    deployment.home.mkdir(parents=True, exist_ok=True)
    command = irisloop("up", "--free-ports", "--no-table")
    with deployment.log.open("ab") as log:
        return subprocess.Popen(command, env=dict(deployment.environment), cwd=REPOSITORY, stdout=log, stderr=log)


@asynccontextmanager
async def up(home: Path, **settings: str) -> AsyncIterator[Deployment]:
    """Kafka and the six services on free ports; stopped as Ctrl-C does it when the block ends."""
    environment = os.environ | settings | {"IRISLOOP_HOME": str(home)}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "proto" / "gen")])
    found = Deployment(home, environment)
    process = await asyncio.to_thread(_start, found)
    try:
        yield found
    finally:
        process.send_signal(signal.SIGINT)
        try:
            await asyncio.to_thread(process.wait, STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert process.returncode == 0, found.log.read_text()[-2000:]
