"""Creates the topics of `proto/topics.yaml` and their dead-letter topics, and brings their settings up to date."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, for_code
from irisloop.topics import CAMERA_PARTITIONS, TOPICS

from services.common.bus.api import Topic
from services.common.bus.connection import BROKER_ERRORS, ENVELOPE_BYTES, common_options
from services.common.bus.deadletter import ROOM_BYTES, dead_letter_topics
from services.common.errors import Conflict, Unavailable
from services.common.settings import KafkaSettings

Size = Literal["laptop", "cluster"]

DEAD_LETTERS_MS: Final = 30 * 24 * 3_600_000
SEGMENT_MS: Final = 24 * 3_600_000
OF_THE_TOPIC: Final = 1
"""ConfigSource of a setting that a topic has of its own (DYNAMIC_TOPIC_CONFIG), not from the broker or a default."""


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


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply` did: topics made, topics whose settings it changed, and what it left as it was, in words."""

    created: list[str]
    changed: list[str]
    warnings: list[str]


async def apply(settings: KafkaSettings, *, size: Size = "laptop", replication: int = 1) -> Applied:
    """Make what is missing, and bring the settings that are declared up to date; others of a topic's stay.

    Partitions are never taken away or added: a topic with another number is named in `warnings`. Raises `Unavailable`
    when the broker does not answer, and `Conflict` naming each topic that it refused.
    """
    admin = AIOKafkaAdminClient(**common_options(settings, "irisloop-topics"))
    try:
        await admin.start()
        present = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
        wanted = wanted_topics(size)
        missing = [topic for topic in wanted if topic.name not in present]
        if missing:
            made = [NewTopic(one.name, one.partitions, replication, topic_configs=one.config) for one in missing]
            answer = await admin.create_topics(made)
            _check("made", [(error[0], error[1], error[2]) for error in answer.topic_errors])
        changed = await _configure(admin, [topic for topic in wanted if topic.name in present])
        warnings = [
            f"{one.name} has {present[one.name]} partitions, {one.partitions} are declared"
            for one in wanted
            if present.get(one.name, one.partitions) != one.partitions
        ]
        return Applied([topic.name for topic in missing], changed, warnings)
    except BROKER_ERRORS as error:
        raise Unavailable(f"Kafka does not answer at {settings.bootstrap_servers}: {error}") from error
    finally:
        await admin.close()


async def _configure(admin: AIOKafkaAdminClient, topics: Sequence[Wanted]) -> list[str]:
    """Change what differs. The request replaces all of a topic's own settings, so those of operators go with it."""
    if not topics:
        return []
    (found,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, one.name) for one in topics])
    own = {
        name: {entry[0]: entry[1] for entry in entries if entry[3] == OF_THE_TOPIC}
        for _, _, _, name, entries in found.resources
    }
    changed = [one for one in topics if own.get(one.name, {}) | one.config != own.get(one.name)]
    if changed:
        (answer,) = await admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, one.name, own.get(one.name, {}) | one.config) for one in changed]
        )
        _check("changed", [(name, code, message) for code, message, _, name in answer.resources])
    return [one.name for one in changed]


def _check(done: str, answers: Iterable[tuple[str, int, str | None]]) -> None:
    refused = [
        f"{name} ({message or for_code(code).__name__})"
        for name, code, message in answers
        if code not in (NoError.errno, TopicAlreadyExistsError.errno)
    ]
    if refused:
        raise Conflict(f"Kafka would not have these topics {done}: {', '.join(refused)}", reason="TOPICS_REFUSED")
