"""What is written comes back the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from services.common.errors import InvalidMessage
from services.ingest.domain.assets import Asset, Rejection, Stored
from services.ingest.domain.exif import Exif
from services.ingest.domain.frames import Sampled
from services.ingest.domain.inspection import Reason
from services.ingest.domain.pixels import Statistics
from services.ingest.wire import (
    asset_from_proto,
    asset_to_proto,
    from_micros,
    from_timestamp,
    rejection_from_proto,
    rejection_to_proto,
    to_micros,
    to_timestamp,
)
from tests.unit.ingest.pictures import NOW

LEVELS = Statistics(0.5, 0.25, 0.125, 0.5, 0.5, 0.5, 0.0, 1.0)


@pytest.mark.parametrize("exif", [None, Exif(), Exif("a", "b", 0.5, 2.0, 100, "2029-01-01T00:00:00", 1.0, -1.0)])
@pytest.mark.parametrize("difference", [None, 0.0, 0.5])
def test_an_asset_comes_back_as_it_was(exif: Exif | None, difference: float | None) -> None:
    levels = Statistics(0.5, 0.25, 0.125, 0.5, 0.5, 0.5, 0.0, 1.0, difference)
    asset = Asset("1", "c", NOW, NOW, Stored("d", 3, "image/png"), 5, 6, exif, levels, "2", {"a": "b"}, True)
    assert asset_from_proto(asset_to_proto(asset)) == asset
    sampled = replace(asset, sampled=Sampled(0.125, "p", "m", "7", ("share", "drift")))
    assert asset_from_proto(asset_to_proto(sampled)) == sampled


@pytest.mark.parametrize("reason", Reason)
def test_a_rejection_comes_back_with_its_reason(reason: Reason) -> None:
    rejection = Rejection("1", "c", NOW, NOW, reason, "why", Stored("", 0, ""), "http")
    assert rejection_from_proto(rejection_to_proto(rejection)) == rejection


@pytest.mark.parametrize("year", [1, 1969, 1970, 2030, 9999])
def test_times_keep_their_microseconds(year: int) -> None:
    moment = datetime(year, 6, 1, 2, 3, 4, 567_891, tzinfo=UTC)
    assert from_timestamp(to_timestamp(moment), "t") == moment
    assert from_micros(to_micros(moment)) == moment
    official = Timestamp()
    official.FromDatetime(moment)
    assert to_timestamp(moment) == official


@pytest.mark.parametrize("timestamp", [Timestamp(seconds=2**61), Timestamp(seconds=-(2**61)), Timestamp(nanos=-1)])
def test_times_out_of_range_are_refused(timestamp: Timestamp) -> None:
    with pytest.raises(InvalidMessage):
        from_timestamp(timestamp, "t")


def test_times_of_other_zones_are_the_same_moment() -> None:
    from datetime import timezone

    moment = NOW.astimezone(timezone(timedelta(hours=5)))
    assert to_micros(moment) == to_micros(NOW)
    assert to_timestamp(moment) == to_timestamp(NOW)
