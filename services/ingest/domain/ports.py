"""What the handlers need of the outside, as Protocols that `outbound` and the kit implement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.ingest.domain.assets import Asset, Camera, Judged, Outcome, Rejection
from services.ingest.domain.frames import Frame
from services.ingest.domain.inspection import Verdict
from services.ingest.domain.pages import Page


class Inspector(Protocol):
    """Judges frames off the event loop."""

    async def inspect(self, frames: Sequence[Frame]) -> list[Verdict]:
        """A verdict for each frame, in order."""


class Objects(Protocol):
    """Content-addressed bytes."""

    async def put_many(self, blobs: Sequence[bytes]) -> list[str]:
        """The digest of each, in order; durable on return, and the same bytes are kept once."""

    async def get(self, digest: str) -> bytes:
        """Raises `NotFound`."""

    async def delete(self, digest: str) -> None:
        """What is not there is already deleted."""


class Ledger(Protocol):
    """Ingest's memory; each method is one transaction, and its events leave with the commit."""

    async def store(self, batch: Sequence[Judged]) -> list[Outcome]:
        """Settle a batch and say it; an outcome for each frame, in order."""

    async def asset(self, asset_id: str) -> Asset:
        """Raises `UnknownAsset`."""

    async def assets(self, *, camera_id: str, since: datetime | None, cursor: str, limit: int) -> Page[Asset]:
        """Newest first; with `since` (by time of storing) oldest first, so that a reader can follow."""

    async def rejections(self, *, camera_id: str, since: datetime | None, cursor: str, limit: int) -> Page[Rejection]:
        """Ordered as `assets`."""

    async def rejection_counts(self, *, camera_id: str, since: datetime | None) -> Mapping[str, int]:
        """Reason -> how many, over all pages."""

    async def cameras(self, *, site: str, tags: Mapping[str, str], cursor: str, limit: int) -> Page[Camera]:
        """By id; empty `site` and `tags` filter nothing, several tags must all fit."""

    async def put_camera(self, camera_id: str, site: str, tags: Mapping[str, str], at: datetime) -> Camera:
        """Register or change a camera; says `camera changed` only when something changed."""

    async def delete_asset(self, asset_id: str, *, reason: str, by: str, at: datetime) -> None:
        """Forget an asset and note its object for removal if no other asset uses it. Raises `UnknownAsset`."""

    async def removals(self) -> Sequence[str]:
        """Digests of objects to be removed: noted, and not yet done."""

    async def removed(self, digests: Sequence[str]) -> None:
        """These objects are gone."""
