"""Assets, rejections and cameras as ingest knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from services.ingest.domain.exif import Exif
from services.ingest.domain.frames import Frame, Sampled
from services.ingest.domain.inspection import Reason, Verdict
from services.ingest.domain.pixels import Statistics


@dataclass(frozen=True, slots=True)
class Stored:
    """Bytes in the object store: lower-case hex SHA-256 (empty for no bytes), size, and what they are."""

    digest: str
    size_bytes: int
    content_type: str


@dataclass(frozen=True, slots=True)
class Asset:
    """A stored frame; times are aware, UTC; `duplicate_of` is the first asset with the same bytes, or empty; `sampled`
    says how an input of a client's call came to be one.
    """

    id: str
    camera_id: str
    captured_at: datetime
    stored_at: datetime
    object: Stored
    width: int
    height: int
    exif: Exif | None
    statistics: Statistics
    duplicate_of: str
    meta: Mapping[str, str]
    historical: bool
    sampled: Sampled | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A frame refused by a rule; its original bytes are kept. `origin` is topic/partition/offset, or `http`."""

    id: str
    camera_id: str
    captured_at: datetime
    rejected_at: datetime
    reason: Reason
    detail: str
    object: Stored
    origin: str


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera; `revision` counts registrations and changes by hand, `thumbnail` is the last frame's (256 bytes)."""

    id: str
    registered_at: datetime
    site: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    last_frame_at: datetime | None = None
    frames: int = 0
    revision: int = 1
    thumbnail: bytes | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """A frame, the verdict on it, and the digest of its bytes in the object store (empty for no bytes)."""

    frame: Frame
    verdict: Verdict
    digest: str


class Status(Enum):
    """What became of a frame; `duplicate` is stored too, on an object that another asset had before."""

    STORED = "stored"
    DUPLICATE = "duplicate"
    REDELIVERED = "redelivered"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one frame; `id` is its asset's or its rejection's."""

    id: str
    status: Status
    digest: str
    captured_at: datetime
    reason: Reason | None = None
    detail: str = ""
