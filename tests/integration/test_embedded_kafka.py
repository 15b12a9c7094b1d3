"""The embedded broker as a process: formatted, healed, killed, started again."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from services.local.errors import LocalError
from services.local.jars import class_path
from services.local.kafka import METADATA_LOG, EmbeddedKafka
from services.local.ports import free_port
from services.local.settings import LocalSettings
from tests.waiting import PATIENCE_S, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

LARGE = 9 << 20


@pytest.fixture(scope="module")
def jars() -> list[Path]:
    return class_path(LocalSettings().cache)


def broker_in(folder: Path, durability: str = "process") -> EmbeddedKafka:
    port = free_port(set())
    return EmbeddedKafka(
        folder,
        port=port,
        controller_port=free_port({port}),
        durability="power" if durability == "power" else "process",
    )


@contextmanager
def running(kafka: EmbeddedKafka, jars: list[Path]) -> Iterator[subprocess.Popen[bytes]]:
    with (kafka.folder / "log").open("ab") as log:
        process = subprocess.Popen(kafka.command(jars), env=kafka.environment(), stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or answers(kafka.port), what="Kafka")
        assert process.poll() is None, (kafka.folder / "log").read_text()
        yield process
    finally:
        process.kill()
        process.wait()


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


@asynccontextmanager
async def producer_to(kafka: EmbeddedKafka) -> AsyncIterator[AIOKafkaProducer]:
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, max_request_size=12 << 20, enable_idempotence=True
    ) as producer:
        yield producer


async def create(kafka: EmbeddedKafka, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await admin.start()
    await admin.create_topics([NewTopic(name, 1, 1)])
    await admin.close()


async def values_of(kafka: EmbeddedKafka, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(
        topic,
        bootstrap_servers=kafka.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        max_partition_fetch_bytes=12 << 20,
    )
    async with asyncio.timeout(PATIENCE_S), consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def test_data_and_cluster_id_survive_a_kill_on_other_ports_too(tmp_path: Path, jars: list[Path]) -> None:
    kafka = broker_in(tmp_path / "kafka")
    cluster_id = kafka.prepare(jars)
    with running(kafka, jars):
        await create(kafka, "kept")
        async with producer_to(kafka) as producer:
            await producer.send_and_wait("kept", b"x" * LARGE)
            await producer.send_and_wait("kept", b"small")
    again = broker_in(tmp_path / "kafka")
    assert again.prepare(jars) == cluster_id
    with running(again, jars):
        first, second = await values_of(again, "kept", 2)
        assert (len(first), second) == (LARGE, b"small")


async def test_a_broker_that_lost_its_meta_properties_is_healed_with_its_data(tmp_path: Path, jars: list[Path]) -> None:
    kafka = broker_in(tmp_path / "kafka")
    cluster_id = kafka.prepare(jars)
    with running(kafka, jars):
        await create(kafka, "kept")
        async with producer_to(kafka) as producer:
            await producer.send_and_wait("kept", b"one")
    (kafka.data / "meta.properties").write_text("")
    assert kafka.prepare(jars) == cluster_id
    with running(kafka, jars):
        assert await values_of(kafka, "kept", 1) == [b"one"]


async def test_transactions_work_at_once_and_aborted_ones_are_not_seen(tmp_path: Path, jars: list[Path]) -> None:
    kafka = broker_in(tmp_path / "kafka", "power")
    kafka.prepare(jars)
    assert "log.flush.interval.messages=1\n" in (kafka.folder / "server.properties").read_text()
    with running(kafka, jars):
        await create(kafka, "paid")
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id="t") as producer:
            await producer.begin_transaction()
            await producer.send_and_wait("paid", b"aborted")
            await producer.abort_transaction()
            async with producer.transaction():
                await producer.send_and_wait("paid", b"committed")
        assert await values_of(kafka, "paid", 1) == [b"committed"]


def test_an_interrupted_format_is_done_again(tmp_path: Path, jars: list[Path]) -> None:
    kafka = broker_in(tmp_path / "kafka")
    (kafka.folder / "data.unfinished").mkdir(parents=True)
    (kafka.folder / "data.unfinished" / "bootstrap.checkpoint").write_bytes(b"half")
    cluster_id = kafka.prepare(jars)
    assert f"cluster.id={cluster_id}" in (kafka.data / "meta.properties").read_text()
    assert not (kafka.folder / "data.unfinished").exists()
    assert (kafka.data / "bootstrap.checkpoint").stat().st_size > 4


def test_an_empty_data_folder_is_formatted_with_the_cluster_id_that_was_written_down(
    tmp_path: Path, jars: list[Path]
) -> None:
    kafka = broker_in(tmp_path / "kafka")
    kafka.data.mkdir(parents=True)
    (kafka.folder / "cluster.id").write_text("MkU3OEVBNTcwNTJENDM2Qk\n")
    assert kafka.prepare(jars) == "MkU3OEVBNTcwNTJENDM2Qk"
    assert "cluster.id=MkU3OEVBNTcwNTJENDM2Qk" in (kafka.data / "meta.properties").read_text()


def test_a_folder_of_another_cluster_is_refused_in_a_sentence(tmp_path: Path) -> None:
    kafka = broker_in(tmp_path / "kafka")
    (kafka.data / METADATA_LOG).mkdir(parents=True)
    (kafka.folder / "cluster.id").write_text("MkU3OEVBNTcwNTJENDM2Qk\n")
    (kafka.data / "meta.properties").write_text("version=1\ncluster.id=AAAAAAAAAAAAAAAAAAAAAA\nnode.id=1\n")
    with pytest.raises(LocalError, match="two Kafka folders were mixed"):
        kafka.prepare([])


def test_messages_without_metadata_are_refused_in_a_sentence_and_left_alone(tmp_path: Path) -> None:
    kafka = broker_in(tmp_path / "kafka")
    (kafka.data / "some-topic-0").mkdir(parents=True)
    with pytest.raises(LocalError, match="cannot be read"):
        kafka.prepare([])
    assert (kafka.data / "some-topic-0").is_dir()
