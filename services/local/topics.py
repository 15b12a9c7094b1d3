"""Creates on a broker what `proto/topics.yaml` declares: topics and their dead letters."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from services.common.errors import Unavailable
from services.common.settings import CommonSettings
from services.local.errors import LocalError

if TYPE_CHECKING:
    from aiokafka.admin import AIOKafkaAdminClient

    from services.common.bus.api import Topic

ENVELOPE_BYTES: Final = 64 << 10
"""What a batch and its headers add to the largest value."""
DEAD_LETTER_BYTES: Final = 1 << 20
"""A dead letter may be this much larger than its origin, or it would block the partition for ever."""
DEAD_LETTER_MS: Final = 30 * 24 * 3600 * 1000
SMALL_SEGMENT_BYTES: Final = 16 << 20
TOPIC_ALREADY_EXISTS: Final = 36
START_TIMEOUT_MS: Final = 5_000
REPLICATION: Final = {"laptop": 1, "cluster": 3}


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be on the broker."""

    name: str
    partitions: int
    config: dict[str, str]


def plans(size: str = "laptop") -> list[TopicPlan]:
    """All topics with their dead letters; `size` (laptop, cluster) decides the partitions of camera-keyed topics."""
    from irisloop.topics import CAMERA_PARTITIONS, TOPICS

    return [plan for topic in TOPICS for plan in _plans_of(topic, topic.partitions or CAMERA_PARTITIONS[size])]


def _plans_of(topic: Topic[Any], partitions: int) -> list[TopicPlan]:
    largest = topic.max_message_bytes + ENVELOPE_BYTES
    config = {"max.message.bytes": str(largest)}
    if topic.compacted:
        config |= {"cleanup.policy": "compact", "segment.bytes": str(SMALL_SEGMENT_BYTES)}
    else:
        config |= {"retention.ms": str(topic.retention_ms), "retention.bytes": str(topic.retention_bytes)}
    if topic.log_append_time:
        config["message.timestamp.type"] = "LogAppendTime"
    services = dict.fromkeys(consumer.service for consumer in topic.consumers if consumer.mode != "every-instance")
    letters = {"max.message.bytes": str(largest + DEAD_LETTER_BYTES), "retention.ms": str(DEAD_LETTER_MS)}
    return [
        TopicPlan(topic.name, partitions, config),
        *(TopicPlan(f"{topic.name}.{service}.dlq", 1, letters) for service in services),
    ]


async def apply(settings: CommonSettings, size: str = "laptop") -> list[str]:
    """Create the topics that are missing; returns their names. Raises `Unavailable` when no broker answers.

    What is there is left alone: a topic's partitions cannot shrink, and an operator may have changed its retention.
    """
    from aiokafka.admin import NewTopic

    async with admin(settings) as client:
        there = set(await client.list_topics())
        missing = [plan for plan in plans(size) if plan.name not in there]
        if not missing:
            return []
        topics = [
            NewTopic(plan.name, plan.partitions, REPLICATION[size], topic_configs=plan.config) for plan in missing
        ]
        _raise_refused((await client.create_topics(topics)).topic_errors)
    return [plan.name for plan in missing]


def _raise_refused(errors: Sequence[Sequence[Any]]) -> None:
    refused = [error for error in errors if error[1] not in (0, TOPIC_ALREADY_EXISTS)]
    if refused:
        name, code, *rest = refused[0]
        raise LocalError(f"Kafka refused to create {name}: {rest[0] if rest and rest[0] else f'error {code}'}.")


@asynccontextmanager
async def admin(settings: CommonSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client of the broker in the settings. Raises `Unavailable` when it does not answer."""
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.errors import KafkaError

    servers = settings.kafka.bootstrap_servers
    client = AIOKafkaAdminClient(request_timeout_ms=START_TIMEOUT_MS, **client_options(settings))
    try:
        await client.start()
        yield client
    except KafkaError as error:
        raise Unavailable(f"Kafka at {servers} does not answer: {error}. Start it with `irisloop up`.") from error
    finally:
        await client.close()


def client_options(settings: CommonSettings) -> dict[str, Any]:
    """What every aiokafka client needs to reach the broker."""
    from aiokafka.helpers import create_ssl_context

    kafka = settings.kafka
    options: dict[str, Any] = {"bootstrap_servers": kafka.bootstrap_servers}
    options["security_protocol"] = kafka.security_protocol
    if "SSL" in kafka.security_protocol:
        files = {"cafile": kafka.ssl_cafile, "certfile": kafka.ssl_certfile, "keyfile": kafka.ssl_keyfile}
        options["ssl_context"] = create_ssl_context(**{n: str(f) for n, f in files.items() if f})
    if "SASL" in kafka.security_protocol:
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": kafka.sasl_username,
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return options
