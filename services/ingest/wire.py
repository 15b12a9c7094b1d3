"""Ingest's dataclasses as protobuf and back; used by the roads in and by the ledger, which keeps protobuf rows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2 as pb

from services.common.errors import InvalidMessage
from services.ingest.domain.assets import Asset, Camera, Rejection, Stored
from services.ingest.domain.exif import Exif
from services.ingest.domain.frames import Sampled
from services.ingest.domain.inspection import Reason
from services.ingest.domain.pixels import Statistics

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS: Final = (-62_135_596_800, 253_402_300_799)
"""The years 1 to 9999, what a Timestamp may hold."""
_REASONS: Final = {reason: pb.RejectionReason.Value(f"REJECTION_REASON_{reason.value}") for reason in Reason}
_REASONS_BACK: Final = {number: reason for reason, number in _REASONS.items()}


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970, of an aware time."""
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The aware time, UTC."""
    return EPOCH + timedelta(microseconds=micros)


def to_timestamp(moment: datetime) -> Timestamp:
    """The same moment; a hand-written `Timestamp.FromDatetime`, five times as quick."""
    since = moment - EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def from_timestamp(timestamp: Timestamp, field: str) -> datetime:
    """The aware time, UTC. Raises `InvalidMessage` outside the years 1 to 9999."""
    if not (_SECONDS[0] <= timestamp.seconds <= _SECONDS[1] and 0 <= timestamp.nanos <= 999_999_999):
        raise InvalidMessage(f"{field} is no time between the years 1 and 9999.", field=field, reason="TIME_ODD")
    return EPOCH + timedelta(seconds=timestamp.seconds, microseconds=timestamp.nanos // 1_000)


def parse_time(text: str, field: str) -> datetime:
    """An RFC 3339 time with its offset, as UTC. Raises `InvalidMessage`."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise InvalidMessage(
        f"{field} {text[:64]!r} is no RFC 3339 time such as 2030-01-31T12:00:00Z.", field=field, reason="TIME_ODD"
    )


def asset_to_proto(asset: Asset) -> pb.Asset:
    """As it travels in `asset stored`."""
    return pb.Asset(
        id=asset.id,
        camera_id=asset.camera_id,
        captured_at=to_timestamp(asset.captured_at),
        stored_at=to_timestamp(asset.stored_at),
        object=_object_to_proto(asset.object),
        width=asset.width,
        height=asset.height,
        exif=None if asset.exif is None else _exif_to_proto(asset.exif),
        statistics=_statistics_to_proto(asset.statistics),
        duplicate_of=asset.duplicate_of,
        meta=asset.meta,
        historical=asset.historical,
        sampled=None if asset.sampled is None else _sampled_to_proto(asset.sampled),
    )


def asset_from_proto(message: pb.Asset) -> Asset:
    """The inverse of `asset_to_proto`."""
    return Asset(
        id=message.id,
        camera_id=message.camera_id,
        captured_at=from_timestamp(message.captured_at, "captured_at"),
        stored_at=from_timestamp(message.stored_at, "stored_at"),
        object=_object_from_proto(message.object),
        width=message.width,
        height=message.height,
        exif=_exif_from_proto(message.exif) if message.HasField("exif") else None,
        statistics=_statistics_from_proto(message.statistics),
        duplicate_of=message.duplicate_of,
        meta=dict(message.meta),
        historical=message.historical,
        sampled=sampled_from_proto(message.sampled) if message.HasField("sampled") else None,
    )


def rejection_to_proto(rejection: Rejection) -> pb.Rejection:
    """As it travels in `frame rejected`."""
    return pb.Rejection(
        id=rejection.id,
        camera_id=rejection.camera_id,
        captured_at=to_timestamp(rejection.captured_at),
        rejected_at=to_timestamp(rejection.rejected_at),
        reason=_REASONS[rejection.reason],
        detail=rejection.detail,
        object=_object_to_proto(rejection.object),
        origin=rejection.origin,
    )


def rejection_from_proto(message: pb.Rejection) -> Rejection:
    """The inverse of `rejection_to_proto`."""
    return Rejection(
        id=message.id,
        camera_id=message.camera_id,
        captured_at=from_timestamp(message.captured_at, "captured_at"),
        rejected_at=from_timestamp(message.rejected_at, "rejected_at"),
        reason=_REASONS_BACK[message.reason],
        detail=message.detail,
        object=_object_from_proto(message.object),
        origin=message.origin,
    )


def camera_to_proto(camera: Camera) -> pb.Camera:
    """As it travels in `camera changed`."""
    return pb.Camera(
        id=camera.id,
        site=camera.site,
        tags=camera.tags,
        registered_at=to_timestamp(camera.registered_at),
        last_frame_at=None if camera.last_frame_at is None else to_timestamp(camera.last_frame_at),
        frames=camera.frames,
    )


def sampled_from_proto(message: pb.Sampled) -> Sampled:
    """As it came, unchecked."""
    return Sampled(message.propensity, message.prediction_id, message.model, message.version, tuple(message.reasons))


def _sampled_to_proto(sampled: Sampled) -> pb.Sampled:
    return pb.Sampled(
        propensity=sampled.propensity,
        prediction_id=sampled.prediction_id,
        model=sampled.model,
        version=sampled.version,
        reasons=sampled.reasons,
    )


def _object_to_proto(stored: Stored) -> pb.StoredObject:
    return pb.StoredObject(digest=stored.digest, size_bytes=stored.size_bytes, content_type=stored.content_type)


def _object_from_proto(message: pb.StoredObject) -> Stored:
    return Stored(message.digest, message.size_bytes, message.content_type)


def _statistics_to_proto(statistics: Statistics) -> pb.PixelStatistics:
    return pb.PixelStatistics(
        brightness=statistics.brightness,
        contrast=statistics.contrast,
        sharpness=statistics.sharpness,
        red=statistics.red,
        green=statistics.green,
        blue=statistics.blue,
        underexposed=statistics.underexposed,
        overexposed=statistics.overexposed,
        frame_difference=statistics.frame_difference,
    )


def _statistics_from_proto(message: pb.PixelStatistics) -> Statistics:
    return Statistics(
        brightness=message.brightness,
        contrast=message.contrast,
        sharpness=message.sharpness,
        red=message.red,
        green=message.green,
        blue=message.blue,
        underexposed=message.underexposed,
        overexposed=message.overexposed,
        frame_difference=message.frame_difference if message.HasField("frame_difference") else None,
    )


def _exif_to_proto(exif: Exif) -> pb.Exif:
    return pb.Exif(
        brand=exif.brand,
        model=exif.model,
        exposure_seconds=exif.exposure_seconds,
        aperture_f_number=exif.aperture_f_number,
        iso=exif.iso,
        taken_at=exif.taken_at,
        latitude=exif.latitude,
        longitude=exif.longitude,
    )


def _exif_from_proto(message: pb.Exif) -> Exif:
    return Exif(
        brand=message.brand,
        model=message.model,
        exposure_seconds=message.exposure_seconds if message.HasField("exposure_seconds") else None,
        aperture_f_number=message.aperture_f_number if message.HasField("aperture_f_number") else None,
        iso=message.iso if message.HasField("iso") else None,
        taken_at=message.taken_at,
        latitude=message.latitude if message.HasField("latitude") else None,
        longitude=message.longitude if message.HasField("longitude") else None,
    )
