"""CloudEvents 1.0 in Kafka's binary mode, and where a key's records go.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

from aiokafka.partitioner import murmur2
from google.protobuf.message import DecodeError, Message

from services.common.bus.api import PROTOBUF, Delivery, Event, Record, Topic
from services.common.bus.drafts import make_delivery
from services.common.errors import InvalidMessage
from services.common.telemetry import continued, current_traceparent

M = TypeVar("M", bound=Message)

Headers = list[tuple[str, bytes]]

NAMESPACE: Final = uuid.UUID("6f0cbd4e-6ef5-5a52-9f5c-0c0b3c1d7a10")
REPLAY_FOR: Final = "irisloop-replay-for"
CAMERA_PREFIX: Final = "camera/"
CONTENT_TYPE: Final = PROTOBUF.encode()


@dataclass(frozen=True, slots=True)
class Raw:
    """A record to be sent as it is; the key decides about its partition when that is None (the first without a key)."""

    topic: str
    key: bytes | None
    value: bytes
    headers: Headers
    partition: int | None = None


def derive_id(*parts: str) -> str:
    """uuid5 of the parts (RFC 9562): the same cause gives the same id, whoever derives it.

    Written out, because `uuid.uuid5` and its text take three times as long, and every event derives an id or two.
    """
    name = "\x1f".join(parts).encode()
    digest = bytearray(hashlib.sha1(NAMESPACE.bytes + name, usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


@lru_cache(maxsize=8192)
def partition_of(key: str, partitions: int) -> int:
    """murmur2 of the key without a leading `camera/`, as Kafka's Java client hashes."""
    return int(murmur2(key.removeprefix(CAMERA_PREFIX).encode()) & 0x7FFFFFFF) % partitions


_types: dict[str, bytes] = {}


def _type_of(topic: Topic[Any]) -> bytes:
    found = _types.get(topic.name)
    if found is None:
        found = _types[topic.name] = topic.message.DESCRIPTOR.full_name.encode()
    return found


def headers_of(event: Event[Message], source: str) -> Headers:
    """The event's headers; its trace is its own, else that of the work in hand."""
    at = event.ce_time
    return [
        ("content-type", CONTENT_TYPE),
        ("ce_specversion", b"1.0"),
        ("ce_id", event.ce_id.encode()),
        ("ce_source", source.encode()),
        ("ce_type", _type_of(event.topic)),
        ("ce_time", (at if at.tzinfo is UTC else at.astimezone(UTC)).isoformat().encode()),
        ("traceparent", (event.traceparent or current_traceparent()).encode()),
    ]


def decode(record: Record, topic: Topic[M]) -> Delivery[M]:
    """The delivery that a record holds. Raises `InvalidMessage` naming the header or field at fault."""
    headers, value = _opened(record, topic)
    ce_id = _text(headers.get("ce_id"), "ce_id") or derive_id(record.topic, str(record.partition), str(record.offset))
    return make_delivery(
        record,
        _text(record.key, "key"),
        value,
        ce_id,
        _time(headers.get("ce_time"), record),
        _text(headers.get("ce_source"), "ce_source"),
        continued(_text(headers.get("traceparent"), "traceparent"), ce_id),
    )


def decode_briefly(record: Record, topic: Topic[M]) -> Delivery[M]:
    """As `decode`, for a handler that wants the value alone: id, key and source are empty, the time is the record's.
    Raises `InvalidMessage`.
    """
    headers, value = _opened(record, topic)
    trace = _text(headers.get("traceparent"), "traceparent")
    return make_delivery(record, "", value, "", record.timestamp, "", trace)


def _opened(record: Record, topic: Topic[M]) -> tuple[dict[str, bytes], M]:
    """Headers and value."""
    headers = dict(record.headers)
    if len(headers) != len(record.headers):
        headers = dict(reversed(record.headers))  # of two of one name the first counts
    content_type = headers.get("content-type", CONTENT_TYPE)
    if content_type != CONTENT_TYPE:
        raise InvalidMessage(f"content-type is {content_type[:80]!r}, expected {PROTOBUF}", field="content-type")
    expected = _type_of(topic)
    kind = headers.get("ce_type", expected)
    if kind != expected:
        raise InvalidMessage(f"ce_type is {kind[:80]!r}, expected {expected.decode()}", field="ce_type")
    try:
        return headers, topic.message.FromString(record.value)
    except DecodeError as error:
        reason = f"the value is no {expected.decode()}: {error}"
        raise InvalidMessage(reason, field="value", reason="NOT_PROTOBUF") from error


def _text(value: bytes | None, name: str) -> str:
    try:
        return value.decode() if value else ""
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"{name} is not UTF-8: {value[:80]!r}" if value else name, field=name) from error


def _time(value: bytes | None, record: Record) -> datetime:
    if not value:
        return record.first_seen
    try:
        at = datetime.fromisoformat(value.decode())
    except ValueError as error:
        raise InvalidMessage(f"ce_time is {value[:80]!r}, expected RFC 3339", field="ce_time") from error
    return at if at.tzinfo else at.replace(tzinfo=UTC)
