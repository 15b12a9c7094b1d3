"""What ingest does with frames and questions, whatever road they came by."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from services.common import metrics
from services.common.errors import NotFound
from services.ingest.domain.assets import Asset, Camera, Judged, Outcome, Rejection
from services.ingest.domain.frames import Frame, check_camera_id, check_tags
from services.ingest.domain.pages import Page, check_limit
from services.ingest.domain.ports import Inspector, Ledger, Objects
from services.ingest.errors import ContentGone
from services.ingest.gate import Gate


@dataclass(frozen=True, slots=True)
class Ingest:
    """The use cases, with what they need; `portion_bytes` bounds one transaction's frames."""

    inspector: Inspector
    objects: Objects
    ledger: Ledger
    gate: Gate
    clock: Callable[[], datetime]
    portion_bytes: int

    async def store_frames(self, frames: Sequence[Frame], *, wait: bool = True) -> list[Outcome]:
        """An outcome for each frame, in order; durable on return, and the same frames again change nothing.

        Objects are written before the rows that name them: a crash between leaves bytes that nobody names, and the
        redelivered frame finds them there. Raises `Overloaded` when there is no room and `wait` is false.
        """
        outcomes: list[Outcome] = []
        async with self.gate.store(sum(len(frame.image) for frame in frames), wait=wait):
            for portion in _portions(frames, self.portion_bytes):
                verdicts = await self.inspector.inspect(portion)
                digests = await self._keep(portion)
                judged = [Judged(*three) for three in zip(portion, verdicts, digests, strict=True)]
                outcomes += await self.ledger.store(judged)
        _count(outcomes, frames)
        return outcomes

    async def _keep(self, frames: Sequence[Frame]) -> list[str]:
        """The digest of each frame's bytes, kept whether good or bad; empty for no bytes."""
        digests = iter(await self.objects.put_many([frame.image for frame in frames if frame.image]))
        return [next(digests) if frame.image else "" for frame in frames]

    async def get_asset(self, asset_id: str) -> Asset:
        """Raises `UnknownAsset`."""
        return await self.ledger.asset(asset_id)

    async def get_content(self, asset_id: str) -> tuple[Asset, bytes]:
        """The asset and its original bytes. Raises `UnknownAsset`, `ContentGone`."""
        asset = await self.ledger.asset(asset_id)
        try:
            return asset, await self.objects.get(asset.object.digest)
        except NotFound as error:
            raise ContentGone(f"The bytes of asset {asset_id} are gone.", field="asset_id") from error

    async def list_assets(self, *, camera_id: str, since: datetime | None, cursor: str, limit: int) -> Page[Asset]:
        """Newest first; with `since` (by time of storing) oldest first."""
        return await self.ledger.assets(camera_id=camera_id, since=since, cursor=cursor, limit=check_limit(limit))

    async def list_rejections(
        self, *, camera_id: str, since: datetime | None, cursor: str, limit: int
    ) -> tuple[Page[Rejection], Mapping[str, int]]:
        """A page, ordered as `list_assets`, and how many there are of each reason over all pages."""
        page = await self.ledger.rejections(camera_id=camera_id, since=since, cursor=cursor, limit=check_limit(limit))
        return page, await self.ledger.rejection_counts(camera_id=camera_id, since=since)

    async def list_cameras(self, *, site: str, tags: Mapping[str, str], cursor: str, limit: int) -> Page[Camera]:
        """By id."""
        return await self.ledger.cameras(site=site, tags=tags, cursor=cursor, limit=check_limit(limit))

    async def put_camera(self, camera_id: str, site: str, tags: Mapping[str, str]) -> Camera:
        """Register a camera or change its site and tags."""
        return await self.ledger.put_camera(check_camera_id(camera_id), site, check_tags(tags), self.clock())

    async def delete_asset(self, asset_id: str, *, reason: str, by: str) -> None:
        """Forget an asset; its object goes too unless another asset has the same bytes. Raises `UnknownAsset`."""
        async with self.gate.remove():
            await self.ledger.delete_asset(asset_id, reason=reason, by=by, at=self.clock())
            await self._remove_objects()

    async def finish_removals(self) -> None:
        """Remove the objects that a killed process had noted and not yet removed."""
        async with self.gate.remove():
            await self._remove_objects()

    async def _remove_objects(self) -> None:
        digests = await self.ledger.removals()
        for digest in digests:
            await self.objects.delete(digest)
        if digests:
            await self.ledger.removed(digests)


def _portions(frames: Sequence[Frame], size: int) -> Iterator[Sequence[Frame]]:
    """Cut before the bytes exceed `size`; a portion has at least one frame."""
    start, total = 0, 0
    for index, frame in enumerate(frames):
        if total and total + len(frame.image) > size:
            yield frames[start:index]
            start, total = index, 0
        total += len(frame.image)
    if start < len(frames):
        yield frames[start:]


def _count(outcomes: Sequence[Outcome], frames: Sequence[Frame]) -> None:
    for outcome in outcomes:
        metrics.INGEST_FRAMES.labels(outcome.status.value).inc()
        if outcome.reason is not None:
            metrics.INGEST_REJECTIONS.labels(outcome.reason.value).inc()
    metrics.INGEST_BYTES.inc(sum(len(frame.image) for frame in frames))
    metrics.INGEST_BATCH.observe(len(frames))
