"""Records become frames, or dead letters: the contract of `frame captured` in both of its forms."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import FRAME_CAPTURED

from services.common.bus.api import Record
from services.common.errors import InvalidMessage
from services.ingest.domain.frames import Sampled
from services.ingest.inbound.kafka import decode, frame_of
from services.ingest.wire import to_timestamp
from tests.unit.ingest.pictures import NOW, jpeg

JPEG = (("content-type", b"image/jpeg"),)
PROTOBUF = (("content-type", b"application/protobuf"),)


def record(
    value: bytes = b"",
    headers: tuple[tuple[str, bytes], ...] = JPEG,
    *,
    key: bytes | None = b"gate-1",
    offset: int = 7,
    timestamp: datetime = NOW,
) -> Record:
    return Record(FRAME_CAPTURED.name, 3, offset, timestamp, key, value, headers)


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def captured(**fields: object) -> bytes:
    return pb.FrameCaptured(**{"camera_id": "gate-1", "image": b"x", **fields}).SerializeToString()  # type: ignore[arg-type]  # any field


def test_a_plain_image_needs_only_a_key_and_a_content_type() -> None:
    frame = frame_of(decode(record(jpeg())))
    assert (frame.camera_id, frame.image, frame.captured_at) == ("gate-1", jpeg(), NOW)
    assert frame.origin == f"{FRAME_CAPTURED.name}/3/7"


def test_headers_of_a_plain_image_are_heard() -> None:
    headers = (
        ("Content-Type", b"image/PNG; q=1"),
        ("captured-at", b"2030-01-31T13:59:30.5+02:00"),
        ("ce_id", b"42"),
        ("meta-Line", "süd".encode()),
        ("traceparent", TRACE.encode()),
    )
    delivery = decode(record(b"x", headers))
    frame = frame_of(delivery)
    assert frame.captured_at == datetime(2030, 1, 31, 11, 59, 30, 500_000, tzinfo=UTC)
    assert (delivery.ce_id, frame.meta, frame.traceparent) == ("42", {"Line": "süd"}, TRACE)


@pytest.mark.parametrize("cloudevents", [(), (("ce_id", b"1"), ("ce_source", b"camera/7"), ("ce_type", b"x"))])
def test_protobuf_is_taken_with_and_without_cloudevents(cloudevents: tuple[tuple[str, bytes], ...]) -> None:
    moment = NOW - timedelta(seconds=2)
    value = captured(image=jpeg(), captured_at=to_timestamp(moment), meta={"lane": "2"})
    frame = frame_of(decode(record(value, PROTOBUF + cloudevents, key=None)))
    assert (frame.camera_id, frame.image, frame.captured_at, frame.meta) == ("gate-1", jpeg(), moment, {"lane": "2"})


def test_a_record_read_again_has_the_same_id_and_any_other_another() -> None:
    ids = [
        frame_of(decode(one)).id
        for one in (
            record(b"x"),
            record(b"x"),
            record(b"x", offset=8),
            record(b"x", timestamp=NOW + timedelta(milliseconds=1)),
        )
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


BROKEN = {
    "no content type": record(b"x", ()),
    "empty content type": record(b"x", (("content-type", b""),)),
    "unknown content type": record(b"x", (("content-type", b"image/gif"),)),
    "content type that is not text": record(b"x", (("content-type", b"\xff\xfe"),)),
    "no key": record(b"x", key=None),
    "empty key": record(b"x", key=b""),
    "key that is not text": record(b"x", key=b"\xff\xfe"),
    "camera id with a space": record(b"x", key=b"gate 1"),
    "camera id with a slash first": record(b"x", key=b"/gate"),
    "camera id with a slash last": record(b"x", key=b"gate/"),
    "camera id that is too long": record(b"x", key=b"a" * 129),
    "camera id with a line break": record(b"x", key=b"gate\n"),
    "captured-at without a zone": record(b"x", (*JPEG, ("captured-at", b"2030-01-31T12:00:00"))),
    "captured-at that is no time": record(b"x", (*JPEG, ("captured-at", b"now"))),
    "captured-at before the year 1": record(b"x", (*JPEG, ("captured-at", b"0001-01-01T00:00:00+23:00"))),
    "too many meta": record(b"x", (*JPEG, *((f"meta-{n}", b"x") for n in range(33)))),
    "meta value that is too long": record(b"x", (*JPEG, ("meta-a", b"x" * 1025))),
    "meta key that is too long": record(b"x", (*JPEG, ("meta-" + "a" * 65, b"x"))),
    "meta without a name": record(b"x", (*JPEG, ("meta-", b"x"))),
    "ce_id that is too long": record(b"x", (*JPEG, ("ce_id", b"x" * 257))),
    "bytes that are no protobuf": record(b"\x0a\xff\xff\xff", PROTOBUF),
    "an image called protobuf": record(jpeg(), PROTOBUF),
    "protobuf without a camera": record(captured(camera_id=""), PROTOBUF),
    "protobuf with an odd camera": record(captured(camera_id="ä"), PROTOBUF),
    "protobuf of another content type": record(captured(content_type="video/mp4"), PROTOBUF),
    "protobuf with a time out of range": record(captured(captured_at={"seconds": 2**60}), PROTOBUF),
    "protobuf with too long meta": record(captured(meta={"a": "x" * 1025}), PROTOBUF),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_record_that_breaks_the_contract_is_refused_with_a_sentence(kind: str) -> None:
    with pytest.raises(InvalidMessage) as caught:
        decode(BROKEN[kind])
    assert str(caught.value)


@pytest.mark.parametrize("camera_id", ["a", "gate-1", "import/birds", "A.b_c-d/1/2", "a" * 128, "0"])
def test_ids_of_the_contract_are_taken(camera_id: str) -> None:
    assert decode(record(b"x", key=camera_id.encode())).key == camera_id


def test_how_an_input_was_sampled_goes_with_the_frame() -> None:
    sampled = pb.Sampled(propensity=0.25, prediction_id="p", model="m", version="7", reasons=["share", "drift"])
    frame = frame_of(decode(record(captured(sampled=sampled), PROTOBUF)))
    assert frame.sampled == Sampled(0.25, "p", "m", "7", ("share", "drift"))
    assert frame_of(decode(record(captured(), PROTOBUF))).sampled is None


@pytest.mark.parametrize("propensity", [0.0, -0.5, 1.0000001, float("nan"), float("inf")])
def test_a_propensity_that_is_no_probability_above_zero_is_refused(propensity: float) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        decode(record(captured(sampled=pb.Sampled(propensity=propensity)), PROTOBUF))
    assert refusal.value.field == "sampled.propensity"


@pytest.mark.parametrize("fields", [{"model": "m" * 257}, {"reasons": ["r"] * 9}, {"reasons": ["r" * 257]}])
def test_more_said_of_a_sample_than_is_kept_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        decode(record(captured(sampled=pb.Sampled(propensity=1.0, **fields)), PROTOBUF))
    assert refusal.value.field == "sampled"
