"""Timestamps of the contracts, and the monitor's seconds since 1970."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp


def seconds(stamp: Timestamp) -> float:
    """A timestamp as seconds since 1970, exact to the microsecond."""
    return stamp.seconds + stamp.nanos // 1000 / 1e6


def stamp(at: float) -> Timestamp:
    """The inverse of `seconds`."""
    micros = round(at * 1e6)
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)


def moment(at: float) -> datetime:
    """Seconds since 1970 as an aware datetime."""
    return stamp(at).ToDatetime(tzinfo=UTC)
