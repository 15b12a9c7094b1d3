"""How this project's clients talk to Kafka: the defaults of the kit, in one place."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.common.bus.api import Record, Topic
from services.common.settings import KafkaSettings

ENVELOPE_BYTES: Final = 1 << 20
"""Room for keys, headers and a dead letter's additions on top of a topic's largest message."""
LARGEST_REQUEST: Final = 10 << 20
FETCH_BYTES: Final = 24 << 20
NEVER_MS: Final = 24 * 3_600_000
"""A slow handler is no reason to lose a partition: liveness is the heartbeat's matter."""

BROKER_ERRORS: Final = (KafkaError, OSError, TimeoutError)


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
        "max_partition_fetch_bytes": largest,
        "max_poll_interval_ms": NEVER_MS,
        "rebalance_timeout_ms": 30_000,
        "session_timeout_ms": 10_000,
        "heartbeat_interval_ms": 1_000,
    }
    return AIOKafkaConsumer(**common_options(settings, client_id), **{**defaults, **options})


def make_producer(settings: KafkaSettings, client_id: str, **options: Any) -> AIOKafkaProducer:
    """An idempotent producer of messages as large as any topic takes."""
    defaults: dict[str, Any] = {
        "enable_idempotence": True,
        "acks": "all",
        "max_request_size": LARGEST_REQUEST,
        "max_batch_size": 128 << 10,
        "linger_ms": 0,
    }
    return AIOKafkaProducer(**common_options(settings, client_id), **{**defaults, **options})


def record_of(found: Any) -> Record:
    """aiokafka's record as ours."""
    return Record(
        found.topic,
        found.partition,
        found.offset,
        datetime.fromtimestamp(found.timestamp / 1000.0, UTC),
        found.key,
        found.value or b"",
        tuple(found.headers),
    )
