"""Decides, against what is already known, what becomes of a batch of judged frames: the heart of promise 4.

Pure: the ledger reads what this needs, calls `settle`, and writes what it says, all in one transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.ingest.domain.assets import Asset, Camera, Judged, Outcome, Rejection, Status, Stored
from services.ingest.domain.images import sniff
from services.ingest.domain.inspection import Picture, Refusal
from services.ingest.domain.pixels import differences

UNKNOWN_CONTENT = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Known:
    """What the ledger already holds that concerns a batch.

    `frames`: ids of its frames that were stored or rejected before; `originals`: digest -> the first asset with these
    bytes; `cameras`: its cameras that are registered.
    """

    frames: Collection[str]
    originals: Mapping[str, str]
    cameras: Mapping[str, Camera]


@dataclass(slots=True)
class Settlement:
    """What to write: `assets` and `rejections` with the traceparent of each, the cameras' new rows, and which are new.

    `outcomes` has one entry for each frame of the batch, in order.
    """

    outcomes: list[Outcome] = field(default_factory=list)
    assets: list[tuple[Asset, str]] = field(default_factory=list)
    rejections: list[tuple[Rejection, str]] = field(default_factory=list)
    cameras: dict[str, Camera] = field(default_factory=dict)
    registered: list[str] = field(default_factory=list)


def settle(batch: Sequence[Judged], known: Known, *, at: datetime, historical_after: timedelta) -> Settlement:
    """Drop what is redelivered, name what is a duplicate, and chain each camera's frames in the batch's order."""
    settlement = Settlement()
    seen = set(known.frames)
    originals = dict(known.originals)
    change = _differences(batch, known)
    good: dict[str, list[tuple[datetime, bytes]]] = {}
    for judged in batch:
        frame, verdict = judged.frame, judged.verdict
        if frame.id in seen:
            settlement.outcomes.append(_outcome(judged, Status.REDELIVERED))
            continue
        seen.add(frame.id)
        if isinstance(verdict, Refusal):
            settlement.rejections.append((_rejection(judged, verdict, at), frame.traceparent))
            settlement.outcomes.append(_outcome(judged, Status.REJECTED, verdict))
            continue
        first = originals.setdefault(judged.digest, frame.id)
        asset = _asset(judged, verdict, "" if first == frame.id else first, change.get(frame.id), at, historical_after)
        settlement.assets.append((asset, frame.traceparent))
        settlement.outcomes.append(_outcome(judged, Status.DUPLICATE if asset.duplicate_of else Status.STORED))
        good.setdefault(frame.camera_id, []).append((frame.captured_at, verdict.thumbnail))
    for camera_id, frames in good.items():
        _count(settlement, known.cameras.get(camera_id), camera_id, frames, at)
    return settlement


def _differences(batch: Sequence[Judged], known: Known) -> dict[str, float | None]:
    """Frame id -> difference to its camera's frame before, for the frames that become assets."""
    chains: dict[str, dict[str, bytes]] = {}
    for judged in batch:
        frame, verdict = judged.frame, judged.verdict
        if isinstance(verdict, Picture) and frame.id not in known.frames:
            chains.setdefault(frame.camera_id, {}).setdefault(frame.id, verdict.thumbnail)
    change: dict[str, float | None] = {}
    for camera_id, chain in chains.items():
        camera = known.cameras.get(camera_id)
        before = camera.thumbnail if camera is not None else None
        change.update(zip(chain, differences(before, list(chain.values())), strict=True))
    return change


def _asset(
    judged: Judged, picture: Picture, duplicate_of: str, change: float | None, at: datetime, historical_after: timedelta
) -> Asset:
    frame = judged.frame
    return Asset(
        id=frame.id,
        camera_id=frame.camera_id,
        captured_at=frame.captured_at,
        stored_at=at,
        object=Stored(judged.digest, len(frame.image), picture.content_type),
        width=picture.width,
        height=picture.height,
        exif=picture.exif,
        statistics=picture.statistics._replace(frame_difference=change),
        duplicate_of=duplicate_of,
        meta=frame.meta,
        historical=frame.arrived_at - frame.captured_at > historical_after,
        sampled=frame.sampled,
    )


def _rejection(judged: Judged, refusal: Refusal, at: datetime) -> Rejection:
    frame = judged.frame
    return Rejection(
        id=frame.id,
        camera_id=frame.camera_id,
        captured_at=frame.captured_at,
        rejected_at=at,
        reason=refusal.reason,
        detail=refusal.detail,
        object=Stored(judged.digest, len(frame.image), sniff(frame.image) or UNKNOWN_CONTENT),
        origin=frame.origin,
    )


def _outcome(judged: Judged, status: Status, refusal: Refusal | None = None) -> Outcome:
    frame = judged.frame
    if refusal is None:
        return Outcome(frame.id, status, judged.digest, frame.captured_at)
    return Outcome(frame.id, status, judged.digest, frame.captured_at, refusal.reason, refusal.detail)


def _count(
    settlement: Settlement,
    camera: Camera | None,
    camera_id: str,
    frames: Sequence[tuple[datetime, bytes]],
    at: datetime,
) -> None:
    """The camera after its good frames, given as (event time, thumbnail) in order; it is registered by its first."""
    if camera is None:
        camera = Camera(id=camera_id, registered_at=at)
        settlement.registered.append(camera_id)
    times = [moment for moment, _ in frames] + ([camera.last_frame_at] if camera.last_frame_at is not None else [])
    settlement.cameras[camera_id] = replace(
        camera, last_frame_at=max(times), frames=camera.frames + len(frames), thumbnail=frames[-1][1]
    )
