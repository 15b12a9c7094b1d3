"""Between messages and nouns."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2 as pb

from services.common.errors import InvalidMessage
from services.labeling import codec
from tests.unit.labeling.world import START


def test_times_keep_their_microseconds_both_ways() -> None:
    for at in (START, START + 1, START + 999_999, 0):
        assert codec.micros(codec.timestamp(at)) == at
        assert codec.instant(codec.moment(at)) == at
    assert codec.micros(Timestamp(seconds=1, nanos=1_999)) == 1_000_001
    assert codec.moment(0) == datetime(1970, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "label",
    [
        pb.Label(),
        pb.Label(class_name="x" * 129),
        pb.Label(class_name="coat", box=pb.Box(x=1, y=1, width=0, height=4)),
        pb.Label(class_name="coat", polygon=pb.Polygon(points=[0, 0, 1, 1])),
        pb.Label(class_name="coat", polygon=pb.Polygon(points=[0, 0, 1, 1, 2, 2, 3])),
    ],
)
def test_a_label_that_says_nothing_is_refused(label: pb.Label) -> None:
    with pytest.raises(InvalidMessage):
        codec.labels([label])


def test_geometry_goes_both_ways() -> None:
    messages = [
        pb.Label(class_name="coat", box=pb.Box(x=1.5, y=2, width=3, height=4)),
        pb.Label(class_name="boot", polygon=pb.Polygon(points=[0, 0, 4, 0, 2, 3.5])),
        pb.Label(class_name="shirt"),
    ]
    assert [codec.label_message(label) for label in codec.labels(messages)] == messages


def test_an_asset_without_its_object_is_refused() -> None:
    with pytest.raises(InvalidMessage):
        codec.asset(ingest_pb2.Asset(id="a", camera_id="gate-1"))
