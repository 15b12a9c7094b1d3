"""A real Kafka for tests: the embedded broker in a temporary folder, killed and started again when a test says so."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from services.common.settings import CommonSettings, KafkaSettings
from services.local.jars import class_path
from services.local.kafka import EmbeddedKafka
from services.local.settings import LocalSettings
from tests.ports import free_port

START_S = 120.0


class Broker:
    """One embedded Kafka; its data outlives `kill`."""

    def __init__(self, folder: Path) -> None:
        """Nothing runs before `start`."""
        self._jars = class_path(LocalSettings().cache)
        self._kafka = EmbeddedKafka(folder, port=free_port(), controller_port=free_port())
        self._log = folder.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, replica: int = 0) -> CommonSettings:
        """For a bus of that replica."""
        return CommonSettings(kafka=KafkaSettings(bootstrap_servers=self._kafka.bootstrap_servers), replica=replica)

    def start(self) -> None:
        """Start and wait until the port answers."""
        self._kafka.prepare(self._jars)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._kafka.command(self._jars), env=self._kafka.environment(), stdout=log, stderr=log
            )
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self._kafka.port)) == 0:
                    return
            assert self._process.poll() is None, self._log.read_text()[-2000:]
            time.sleep(0.1)
        raise AssertionError(f"Kafka did not start in {START_S} s")

    def kill(self) -> None:
        """SIGKILL; the data stays."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
