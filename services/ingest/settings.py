"""Ingest's settings, from the environment `IRISLOOP_INGEST__<FIELD>`."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.common.settings import ServiceSettings
from services.ingest.domain.inspection import Limits

MIB = 1024 * 1024


class IngestSettings(ServiceSettings):
    """Limits of a frame, bounds of what is in hand, and where to listen."""

    model_config = SettingsConfigDict(
        env_prefix="IRISLOOP_INGEST__",
        env_nested_delimiter="__",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    http_port: int = Field(default=8110, ge=0, le=65535)
    """HTTP port; 0 takes a free one."""
    grpc_port: int = Field(default=8111, ge=0, le=65535)
    """gRPC port; 0 takes a free one."""
    max_frame_bytes: int = Field(default=8 * MIB, ge=1)
    """A frame of more bytes is refused as TOO_LARGE."""
    max_pixels: int = Field(default=50_000_000, ge=64, le=89_000_000)
    """A frame that declares more pixels is refused undecoded; the bound is where Pillow would warn by itself."""
    min_side_pixels: int = Field(default=8, ge=3)
    """A frame with a shorter side is refused as TOO_SMALL."""
    max_ahead_seconds: float = Field(default=300.0, ge=0)
    """A frame captured further ahead of its arrival is refused as CLOCK."""
    historical_after_seconds: float = Field(default=24 * 3600.0, gt=0)
    """A frame captured longer before its arrival is stored as history and not monitored."""
    max_batch: int = Field(default=1500, ge=1, le=10_000)
    """Records that are taken from Kafka at once; those that come in one moment are stored in one transaction."""
    linger_ms: int = Field(default=40, ge=0, le=1000)
    """How long Kafka may gather frames before it hands them over, milliseconds: with a few cameras of ten frames a
    second, half the work for some twenty milliseconds more. 0 is quickest."""
    max_portion_bytes: int = Field(default=32 * MIB, ge=1)
    """A batch of more bytes is stored in several transactions."""
    max_in_hand_bytes: int = Field(default=256 * MIB, ge=1)
    """Bytes being checked and stored at once; above it Kafka waits and HTTP answers 503."""
    max_request_bytes: int = Field(default=64 * MIB, ge=1)
    """An upload of more bytes is answered 413."""
    max_request_files: int = Field(default=1000, ge=1)
    """An upload of more files is answered 400."""
    workers: int = Field(default=0, ge=0, le=64)
    """Threads that decode and measure; 0 takes one for each core."""

    @property
    def limits(self) -> Limits:
        """The rules that a frame is judged by."""
        return Limits(
            largest=self.max_frame_bytes,
            most_pixels=self.max_pixels,
            smallest_side=self.min_side_pixels,
            ahead=timedelta(seconds=self.max_ahead_seconds),
        )

    @property
    def historical_after(self) -> timedelta:
        """How far before its arrival a frame may be captured and still be monitored."""
        return timedelta(seconds=self.historical_after_seconds)
