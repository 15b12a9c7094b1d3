"""How this project's clients talk to Kafka: the defaults of the kit, opening and closing, in one place."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final
from zlib import crc32

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import ConsumerStoppedError, KafkaError

from services.common.bus.api import Record, Topic
from services.common.bus.drafts import make_record
from services.common.errors import Unavailable
from services.common.metrics import BUS_NOISE
from services.common.settings import KafkaSettings
from services.common.telemetry import log

ENVELOPE_BYTES: Final = 1 << 20
"""Room for keys, headers and a dead letter's additions on top of a topic's largest message."""
LARGEST_REQUEST: Final = 12 << 20
BATCH_BYTES: Final = 256 << 10
"""A producer's batch; a larger message makes a batch of its own."""
FETCH_BYTES: Final = 16 << 20
SMALLEST_FETCH: Final = 512 << 10
LARGEST_FETCH: Final = 2 << 20
"""Of one partition at once: the broker sends a larger message whole, alone, so it bounds memory and not messages."""
GATHER_BYTES: Final = 256 << 10
"""So much ends a linger early."""
NEVER_MS: Final = 24 * 3_600_000
"""A slow handler is no reason to lose a partition: liveness is the heartbeat's matter."""
CLOSE_S: Final = 3.0

BROKER_ERRORS: Final = (KafkaError, ConsumerStoppedError, OSError, TimeoutError, AssertionError)
"""What the client raises when the broker is away; its own broken invariants (AssertionError) too."""


def common_options(settings: KafkaSettings, client_id: str) -> dict[str, Any]:
    """Where the broker is and how the connection is secured."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": client_id,
        "security_protocol": settings.security_protocol,
        "metadata_max_age_ms": 60_000,
    }
    if "SASL" in settings.security_protocol:
        options["sasl_mechanism"] = settings.sasl_mechanism
        options["sasl_plain_username"] = settings.sasl_username
        options["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    if "SSL" in settings.security_protocol:
        context = ssl.create_default_context(cafile=str(settings.ssl_cafile) if settings.ssl_cafile else None)
        if settings.ssl_certfile:
            context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile)
        options["ssl_context"] = context
    return options


def make_consumer(
    settings: KafkaSettings, client_id: str, topics: Sequence[Topic[Any]], **options: Any
) -> AIOKafkaConsumer:
    """A consumer from the beginning, of committed records, that commits only when told to."""
    largest = max((topic.max_message_bytes for topic in topics), default=0) + ENVELOPE_BYTES
    defaults: dict[str, Any] = {
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "fetch_max_wait_ms": 100,
        "fetch_max_bytes": max(FETCH_BYTES, largest),
        "max_partition_fetch_bytes": min(LARGEST_FETCH, max(SMALLEST_FETCH, largest // 4)),
        "max_poll_interval_ms": NEVER_MS,
        "rebalance_timeout_ms": 30_000,
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 1_000,
    }
    return AIOKafkaConsumer(**common_options(settings, client_id), **{**defaults, **options})


def instance_id(group: str, replica: int, topics: Sequence[Topic[Any]]) -> str:
    """A static member's name: the same after a kill, another one when it listens to other topics.

    The broker gives a static member that comes back its old partitions, whatever it subscribes to now.
    """
    return f"{group}.{replica}.{crc32(' '.join(sorted(topic.name for topic in topics)).encode()):08x}"


def make_producer(settings: KafkaSettings, client_id: str, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer of messages as large as any topic takes."""
    defaults: dict[str, Any] = {
        "enable_idempotence": True,
        "acks": "all",
        "max_request_size": LARGEST_REQUEST,
        "max_batch_size": BATCH_BYTES,
        "linger_ms": 0,
    }
    return AIOKafkaProducer(**common_options(settings, client_id), **{**defaults, **options})


def lingering(linger_ms: int) -> dict[str, Any]:
    """A consumer's options with which the broker gathers records for so long before it answers a fetch."""
    return {"fetch_max_wait_ms": linger_ms, "fetch_min_bytes": GATHER_BYTES} if linger_ms else {}


async def start(client: Any) -> None:
    """Start a producer or consumer. Raises `Unavailable`, leaving nothing open."""
    try:
        await client.start()
    except BROKER_ERRORS as error:
        await close(client)
        raise Unavailable(f"Kafka does not answer: {error}", reason="KAFKA_AWAY") from error
    except BaseException:
        await close(client)
        raise


async def close(client: Any, patience_s: float = CLOSE_S) -> None:
    """Close what may be broken already: politely, and when that takes too long, by force."""
    try:
        async with asyncio.timeout(patience_s):
            await client.stop()
    except (*BROKER_ERRORS, RuntimeError) as error:
        log.info("client_closed_by_force", error=repr(error))
        await _cut_off(client)
    finally:
        _hear_out_transaction(client)
        connections: Any = getattr(client, "client", None) or client._client
        connections._conns = Shut(connections._conns)


class Shut(dict[Any, Any]):
    """A closed client's connections by node. aiokafka closes those that there are: one that was being made meanwhile is
    closed here as it comes, for nobody else would.
    """

    def __setitem__(self, node: Any, connection: Any) -> None:
        """A connection that came too late."""
        connection.close()
        super().__setitem__(node, connection)


def hear_out(future: asyncio.Future[Any]) -> None:
    """Take note of a failure that was told elsewhere already, so that asyncio does not tell it again."""
    if future.done() and not future.cancelled():
        future.exception()


def _hear_out_transaction(client: Any) -> None:
    transaction = getattr(getattr(client, "_txn_manager", None), "_transaction_waiter", None)
    if transaction is not None:
        hear_out(transaction)
    for batches in getattr(getattr(client, "_message_accumulator", None), "_batches", {}).values():
        for batch in batches:
            hear_out(batch._drain_waiter)


async def _cut_off(client: Any) -> None:
    """Close sockets and end tasks, so that nothing of the client works on, and nobody waits for it."""
    connections: Any = getattr(client, "client", None) or client._client
    with suppress(*BROKER_ERRORS, RuntimeError):
        async with asyncio.timeout(CLOSE_S):
            await connections.close()
    accumulator, sender = getattr(client, "_message_accumulator", None), getattr(client, "_sender", None)
    if accumulator is not None:
        accumulator.fail_all(KafkaError("the producer was closed"))
    coordinator, fetcher = getattr(client, "_coordinator", None), getattr(client, "_fetcher", None)
    tasks = [
        getattr(sender, "_sender_task", None),
        getattr(fetcher, "_fetch_task", None),
        *(
            getattr(coordinator, name, None)
            for name in ("_coordination_task", "_heartbeat_task", "_commit_refresh_task")
        ),
    ]
    alive = [task for task in tasks if task is not None and not task.done()]
    for task in alive:
        task.cancel()
    if alive:
        await asyncio.wait(alive, timeout=CLOSE_S)


def check_alive(consumer: AIOKafkaConsumer) -> None:
    """A fetcher that died says so to nobody: `getmany` would be empty for ever. Raises `KafkaError`."""
    task = consumer._fetcher.error_future
    if task.done():
        raise KafkaError("the consumer's fetcher died")


async def wait_for_topics(consumer: AIOKafkaConsumer, names: Sequence[str], say: Any) -> None:
    """Wait until all topics are there; `say` is told which one is not."""
    while missing := sorted(set(names) - set(await consumer.topics())):
        say(f"the topic {missing[0]}, which `irisloop topics apply` makes")
        await asyncio.sleep(0.5)
    say("")


def record_of(found: Any) -> Record:
    """aiokafka's record as ours."""
    return make_record(
        found.topic,
        found.partition,
        found.offset,
        datetime.fromtimestamp(found.timestamp / 1000.0, UTC),
        found.key,
        found.value or b"",
        found.headers,
    )


NOISE: Final = {
    "Got error produce response on topic-partition": "txn-retry",
    "Marking the coordinator dead": "coordinator",
    "Group Coordinator Request failed": "coordinator",
    "Heartbeat send request failed": "coordinator",
    "Heartbeat failed": "coordinator",
    "OffsetCommit failed": "coordinator",
    "Error sending": "connection",
    "Failed fetch messages": "connection",
    "Failed fetch offsets": "connection",
    "Unable connect to": "connection",
    "Unable to request metadata": "connection",
    "Unable to update metadata": "connection",
    "Connect attempt to": "connection",
    "Got error produce response": "connection",
    "Cannot send": "connection",
    "Could not send": "connection",
    "Topic %s is not available": "connection",
    "Topic %s not found": "connection",
    "Failed to close connection": "connection",
    "Timed out sending": "connection",
    "Broken pipe": "connection",
}
"""What aiokafka says, once a request, while a broker restarts or a transaction follows another quickly: counted."""


class NoiseFilter(logging.Filter):
    """Counts what the bus handles and says in its own words; lets the rest through."""

    def filter(self, record: logging.LogRecord) -> bool:
        """False for a line that says nothing new."""
        text = str(record.msg)
        kind = next((kind for start, kind in NOISE.items() if text.startswith(start)), "")
        if kind:
            BUS_NOISE.labels(kind).inc()
        return not kind


_FILTER: Final = NoiseFilter()


def silence_noise() -> None:
    """Put the filter on aiokafka's loggers; twice is once."""
    for name in (
        "aiokafka",
        "aiokafka.client",
        "aiokafka.cluster",
        "aiokafka.conn",
        "aiokafka.consumer.fetcher",
        "aiokafka.consumer.group_coordinator",
        "aiokafka.producer.sender",
    ):
        logging.getLogger(name).addFilter(_FILTER)
