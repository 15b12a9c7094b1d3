"""Frames from Kafka: `FrameCaptured` as protobuf, or the plain image as any Kafka client can send it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.message import DecodeError
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import FRAME_CAPTURED

from services.common.bus import derive_id
from services.common.bus.api import PROTOBUF, Delivery, Record, Subscription
from services.common.errors import InvalidMessage
from services.common.telemetry import continued
from services.ingest.domain.frames import (
    Frame,
    check_camera_id,
    check_ce_id,
    check_content_type,
    check_meta,
    check_sampled,
)
from services.ingest.handlers import Ingest
from services.ingest.together import Together
from services.ingest.wire import from_timestamp, parse_time, sampled_from_proto, to_micros, to_timestamp

HANDLER: Final = "store-frames"
_META: Final = "meta-"


def subscription(ingest: Ingest, max_batch: int, linger_ms: int) -> Subscription[pb.FrameCaptured]:
    """Stores frames in batches; those of several partitions that come in one moment go together."""
    store = Together(ingest.store_frames)

    async def handle(deliveries: Sequence[Delivery[pb.FrameCaptured]]) -> None:
        await store([frame_of(delivery) for delivery in deliveries])

    return Subscription(FRAME_CAPTURED, HANDLER, handle, decode, max_batch, linger_ms)


def decode(record: Record) -> Delivery[pb.FrameCaptured]:
    """The frame that a record carries, in either form. Raises `InvalidMessage` when it breaks its contract."""
    headers = _texts(record)
    content_type = headers.get("content-type", "")
    if not content_type:
        raise InvalidMessage("The record has no content-type.", field="content_type", reason="CONTENT_TYPE_MISSING")
    is_protobuf = content_type.partition(";")[0].strip().lower() == PROTOBUF
    value = _from_protobuf(record) if is_protobuf else _from_image(record, headers, check_content_type(content_type))
    check_camera_id(value.camera_id)
    check_meta(value.meta)
    if value.HasField("sampled"):
        check_sampled(sampled_from_proto(value.sampled))
    captured_at = (
        from_timestamp(value.captured_at, "captured_at") if value.HasField("captured_at") else record.first_seen
    )
    ce_id = check_ce_id(headers["ce_id"]) if headers.get("ce_id") else derived_ce_id(record)
    return Delivery(
        record=record,
        key=value.camera_id,
        value=value,
        ce_id=ce_id,
        ce_time=captured_at,
        ce_source=headers.get("ce_source", f"camera/{value.camera_id}"),
        traceparent=continued(headers.get("traceparent", ""), ce_id),
    )


def frame_of(delivery: Delivery[pb.FrameCaptured]) -> Frame:
    """The frame of a decoded record; without captured_at, the broker's time of arrival is event time."""
    record, value = delivery.record, delivery.value
    return Frame(
        id=derive_id(delivery.ce_id),
        camera_id=value.camera_id,
        image=value.image,
        captured_at=delivery.ce_time,
        arrived_at=record.timestamp,
        origin=f"{record.topic}/{record.partition}/{record.offset}",
        meta=dict(value.meta),
        traceparent=delivery.traceparent,
        sampled=sampled_from_proto(value.sampled) if value.HasField("sampled") else None,
    )


def derived_ce_id(record: Record) -> str:
    """The id of a frame that brings none: the same for a record read again, another for every other record.

    The broker's time of arrival stands for cluster and topic id, which a record does not carry: a topic made anew
    counts its offsets from 0 again, at another time.
    """
    arrival = str(to_micros(record.timestamp))
    return derive_id("frame", record.topic, str(record.partition), str(record.offset), arrival)


def _texts(record: Record) -> dict[str, str]:
    """Headers as text, the first of a name counting; names in lower case, but for those of meta."""
    texts: dict[str, str] = {}
    try:
        for name, value in record.headers:
            texts.setdefault(name if name.startswith(_META) else name.lower(), value.decode())
    except UnicodeDecodeError as error:
        raise InvalidMessage(f"Header {name[:80]!r} is not UTF-8.", field="headers", reason="HEADER_ODD") from error
    return texts


def _from_protobuf(record: Record) -> pb.FrameCaptured:
    try:
        value = pb.FrameCaptured.FromString(record.value)
    except DecodeError as error:
        raise InvalidMessage(f"The value is no FrameCaptured: {error}", reason="PROTOBUF_BAD") from error
    if value.content_type:
        check_content_type(value.content_type)
    return value


def _from_image(record: Record, headers: dict[str, str], content_type: str) -> pb.FrameCaptured:
    try:
        camera_id = (record.key or b"").decode()
    except UnicodeDecodeError as error:
        raise InvalidMessage("The key is not UTF-8.", field="camera_id", reason="CAMERA_ID_ODD") from error
    fields: dict[str, Any] = {}
    if "captured-at" in headers:
        fields["captured_at"] = to_timestamp(parse_time(headers["captured-at"], "captured-at"))
    return pb.FrameCaptured(
        camera_id=camera_id,
        image=record.value,
        content_type=content_type,
        meta={name[len(_META) :]: value for name, value in headers.items() if name.startswith(_META)},
        **fields,
    )
