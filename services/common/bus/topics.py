"""Creates the topics of `proto/topics.yaml` and their dead-letter topics, and brings their settings up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from irisloop.topics import CAMERA_PARTITIONS, TOPICS

from services.common.bus.api import Topic
from services.common.bus.connection import BROKER_ERRORS, ENVELOPE_BYTES, common_options
from services.common.bus.deadletter import ROOM_BYTES, dead_letter_topics
from services.common.errors import Unavailable
from services.common.settings import KafkaSettings

Size = Literal["laptop", "cluster"]

DEAD_LETTERS_MS: Final = 30 * 24 * 3_600_000
SEGMENT_MS: Final = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A topic as it should be."""

    name: str
    partitions: int
    config: dict[str, str]


def wanted_topics(size: Size = "laptop") -> list[Wanted]:
    """Every topic of the project, dead letters included."""
    plain = [Wanted(topic.name, topic.partitions or CAMERA_PARTITIONS[size], config_of(topic)) for topic in TOPICS]
    letters = [
        Wanted(
            name,
            1,
            {
                "cleanup.policy": "delete",
                "retention.ms": str(DEAD_LETTERS_MS),
                "max.message.bytes": str(origin.max_message_bytes + ENVELOPE_BYTES + ROOM_BYTES),
            },
        )
        for name, origin in dead_letter_topics()
    ]
    return plain + letters


def config_of(topic: Topic[Any]) -> dict[str, str]:
    """The broker's settings of a topic; the largest message leaves room for key and headers."""
    config = {
        "cleanup.policy": "compact" if topic.compacted else "delete",
        "max.message.bytes": str(topic.max_message_bytes + ENVELOPE_BYTES // 4),
        "message.timestamp.type": "LogAppendTime" if topic.log_append_time else "CreateTime",
    }
    if topic.compacted:
        return {**config, "min.cleanable.dirty.ratio": "0.3", "segment.ms": str(SEGMENT_MS)}
    return {**config, "retention.ms": str(topic.retention_ms), "retention.bytes": str(topic.retention_bytes)}


async def apply(settings: KafkaSettings, *, size: Size = "laptop", replication: int = 1) -> list[str]:
    """Make what is missing; returns the names of the topics made. Partitions are never taken away or added.

    Raises `Unavailable` when the broker does not answer.
    """
    admin = AIOKafkaAdminClient(**common_options(settings, "irisloop-topics"))
    try:
        await admin.start()
        present = set(await admin.list_topics())
        wanted = wanted_topics(size)
        missing = [topic for topic in wanted if topic.name not in present]
        if missing:
            await admin.create_topics(
                [NewTopic(topic.name, topic.partitions, replication, topic_configs=topic.config) for topic in missing]
            )
        changed = [topic for topic in wanted if topic.name in present]
        if changed:
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic.name, topic.config) for topic in changed]
            )
        return [topic.name for topic in missing]
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka does not answer at {settings.bootstrap_servers}: {error}") from error
    finally:
        await admin.close()


async def missing_topics(settings: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Which of the topics are not there. Raises `Unavailable`."""
    admin = AIOKafkaAdminClient(**common_options(settings, "irisloop-topics"))
    try:
        await admin.start()
        present = set(await admin.list_topics())
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka does not answer at {settings.bootstrap_servers}: {error}") from error
    finally:
        await admin.close()
    return sorted(set(names) - present)
