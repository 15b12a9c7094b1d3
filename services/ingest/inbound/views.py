"""What ingest's HTTP answers look like."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from services.ingest.domain.assets import Asset, Camera, Outcome, Rejection


class ResultView(BaseModel):
    """What became of one uploaded file."""

    id: str
    status: Literal["stored", "duplicate", "redelivered", "rejected"]
    reason: str = ""
    detail: str = ""
    object_digest: str
    captured_at: datetime

    @classmethod
    def of(cls, outcome: Outcome) -> ResultView:
        """From a handler's outcome."""
        return cls(
            id=outcome.id,
            status=outcome.status.value,
            reason="" if outcome.reason is None else outcome.reason.value,
            detail=outcome.detail,
            object_digest=outcome.digest,
            captured_at=outcome.captured_at,
        )


class ResultsView(BaseModel):
    """One result a file, in the order of the files."""

    results: list[ResultView]


class ObjectView(BaseModel):
    """Bytes in the object store."""

    digest: str
    size_bytes: int
    content_type: str


class ExifView(BaseModel):
    """What the camera wrote into the file."""

    brand: str
    model: str
    exposure_seconds: float | None
    aperture_f_number: float | None
    iso: int | None
    taken_at: str
    latitude: float | None
    longitude: float | None


class StatisticsView(BaseModel):
    """What the pixels alone say, in 0..1 of full scale."""

    brightness: float
    contrast: float
    sharpness: float
    red: float
    green: float
    blue: float
    underexposed: float
    overexposed: float
    frame_difference: float | None


class SampledView(BaseModel):
    """How an input of a client's call came to be kept."""

    propensity: float
    prediction_id: str
    model: str
    version: str
    reasons: list[str]


class AssetView(BaseModel):
    """A stored frame."""

    id: str
    camera_id: str
    captured_at: datetime
    stored_at: datetime
    object: ObjectView
    width: int
    height: int
    exif: ExifView | None
    statistics: StatisticsView
    duplicate_of: str
    meta: dict[str, str]
    historical: bool
    sampled: SampledView | None

    @classmethod
    def of(cls, asset: Asset) -> AssetView:
        """From the domain's asset."""
        return cls.model_validate(asset, from_attributes=True)


class AssetsView(BaseModel):
    """A page of assets."""

    assets: list[AssetView]
    next_cursor: str


class RejectionView(BaseModel):
    """A frame refused by a rule."""

    id: str
    camera_id: str
    captured_at: datetime
    rejected_at: datetime
    reason: str
    detail: str
    object: ObjectView
    origin: str

    @classmethod
    def of(cls, rejection: Rejection) -> RejectionView:
        """From the domain's rejection."""
        return cls(
            id=rejection.id,
            camera_id=rejection.camera_id,
            captured_at=rejection.captured_at,
            rejected_at=rejection.rejected_at,
            reason=rejection.reason.value,
            detail=rejection.detail,
            object=ObjectView.model_validate(rejection.object, from_attributes=True),
            origin=rejection.origin,
        )


class RejectionsView(BaseModel):
    """A page of rejections, and how many there are of each reason over all pages."""

    rejections: list[RejectionView]
    next_cursor: str
    counts: dict[str, int]


class CameraView(BaseModel):
    """A camera."""

    id: str
    site: str
    tags: dict[str, str]
    registered_at: datetime
    last_frame_at: datetime | None
    frames: int

    @classmethod
    def of(cls, camera: Camera) -> CameraView:
        """From the domain's camera."""
        return cls.model_validate(camera, from_attributes=True)


class CamerasView(BaseModel):
    """A page of cameras."""

    cameras: list[CameraView]
    next_cursor: str


class CameraBody(BaseModel):
    """What can be set on a camera."""

    site: str = Field(default="", max_length=128)
    tags: dict[str, str] = Field(default_factory=dict)
