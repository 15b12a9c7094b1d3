"""What ingest says: its facts as events, each named by its cause so that it bears the same id when said again."""

from __future__ import annotations

from datetime import datetime

from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import ASSET_DELETED, ASSET_STORED, CAMERA_CHANGED, FRAME_REJECTED

from services.common.bus import derive_id
from services.common.bus.api import Event
from services.ingest.domain.assets import Asset, Camera, Rejection
from services.ingest.wire import asset_to_proto, camera_to_proto, rejection_to_proto, to_timestamp


def asset_stored(asset: Asset, traceparent: str) -> Event[pb.AssetStored]:
    """A good frame is durable; its id is the event's."""
    value = pb.AssetStored(asset=asset_to_proto(asset))
    return Event(ASSET_STORED, asset.camera_id, value, asset.id, asset.captured_at, traceparent)


def frame_rejected(rejection: Rejection, traceparent: str) -> Event[pb.FrameRejected]:
    """A frame broke a rule; its original bytes are durable."""
    value = pb.FrameRejected(rejection=rejection_to_proto(rejection))
    return Event(FRAME_REJECTED, rejection.camera_id, value, rejection.id, rejection.captured_at, traceparent)


def camera_changed(camera: Camera, at: datetime) -> Event[pb.CameraChanged]:
    """A camera was registered, or its site or tags changed; `at` is the time of the cause."""
    value = pb.CameraChanged(camera=camera_to_proto(camera))
    return Event(CAMERA_CHANGED, camera.id, value, derive_id("camera changed", camera.id, str(camera.revision)), at)


def asset_deleted(
    asset_id: str, camera_id: str, digest: str, *, reason: str, by: str, at: datetime
) -> Event[pb.AssetDeleted]:
    """An asset is forgotten; its object goes with it unless another asset has the same bytes."""
    value = pb.AssetDeleted(
        asset_id=asset_id,
        camera_id=camera_id,
        object_digest=digest,
        reason=reason,
        deleted_by=by,
        deleted_at=to_timestamp(at),
    )
    return Event(ASSET_DELETED, camera_id, value, derive_id("asset deleted", asset_id), at)
