"""Ingest's HTTP: decode, call a handler, encode."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Final

from fastapi import FastAPI, Query, Request, Response
from pydantic import AwareDatetime

from services.common.errors import InvalidMessage
from services.common.http import Principal
from services.ingest.domain.assets import Status
from services.ingest.handlers import Ingest
from services.ingest.inbound.uploads import read_frames
from services.ingest.inbound.views import (
    AssetsView,
    AssetView,
    CameraBody,
    CamerasView,
    CameraView,
    RejectionsView,
    RejectionView,
    ResultsView,
    ResultView,
)

IMMUTABLE: Final = "private, max-age=31536000, immutable"
Limit = Annotated[int, Query(ge=0, le=1000)]
FORM: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files", "camera_id"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "camera_id": {"type": "array", "items": {"type": "string"}},
                        "captured_at": {"type": "array", "items": {"type": "string", "format": "date-time"}},
                        "ce_id": {"type": "array", "items": {"type": "string"}},
                        "meta": {"type": "array", "items": {"type": "string", "description": "JSON object of texts"}},
                    },
                }
            }
        },
    }
}


def add_routes(
    app: FastAPI, ingest: Ingest, *, max_files: int, clock: Callable[[], datetime], new_id: Callable[[], str]
) -> None:
    """Add what people and scripts call."""
    _add_upload(app, ingest, max_files, clock, new_id)
    _add_assets(app, ingest)
    _add_cameras(app, ingest)


def _add_upload(
    app: FastAPI, ingest: Ingest, max_files: int, clock: Callable[[], datetime], new_id: Callable[[], str]
) -> None:
    @app.post("/api/v1/frames", openapi_extra=FORM, responses={207: {"model": ResultsView}})
    async def post_frames(request: Request) -> Response:
        """Store many frames at once: 200 when all are in, 207 when some were rejected; a result each, in order."""
        frames = await read_frames(request, max_files=max_files, clock=clock, new_id=new_id)
        outcomes = await ingest.store_frames(frames, wait=False)
        rejected = any(outcome.status is Status.REJECTED for outcome in outcomes)
        body = ResultsView(results=[ResultView.of(outcome) for outcome in outcomes]).model_dump_json()
        return Response(body, 207 if rejected else 200, media_type="application/json")


def _add_assets(app: FastAPI, ingest: Ingest) -> None:
    @app.get("/api/v1/assets")
    async def list_assets(
        camera_id: str = "", limit: Limit = 0, cursor: str = "", since: AwareDatetime | None = None
    ) -> AssetsView:
        """Newest first; with `since` (time of storing) oldest first, so that a reader can follow."""
        page = await ingest.list_assets(camera_id=camera_id, since=since, cursor=cursor, limit=limit)
        return AssetsView(assets=[AssetView.of(asset) for asset in page.rows], next_cursor=page.next_cursor)

    @app.get("/api/v1/assets/{asset_id}")
    async def get_asset(asset_id: str) -> AssetView:
        """One asset."""
        return AssetView.of(await ingest.get_asset(asset_id))

    @app.get("/api/v1/assets/{asset_id}/content")
    async def get_content(asset_id: str) -> Response:
        """The original bytes, as the camera sent them."""
        asset, content = await ingest.get_content(asset_id)
        headers = {
            "cache-control": IMMUTABLE,
            "etag": f'"{asset.object.digest}"',
            "x-content-type-options": "nosniff",
        }
        return Response(content, media_type=asset.object.content_type, headers=headers)

    @app.delete("/api/v1/assets/{asset_id}", status_code=204)
    async def delete_asset(asset_id: str, who: Principal, reason: Annotated[str, Query(max_length=500)] = "") -> None:
        """Forget an asset; its object goes too unless another asset has the same bytes."""
        await ingest.delete_asset(asset_id, reason=reason, by=who)

    @app.get("/api/v1/rejections")
    async def list_rejections(
        camera_id: str = "", limit: Limit = 0, cursor: str = "", since: AwareDatetime | None = None
    ) -> RejectionsView:
        """Refused frames, newest first, and how many there are of each reason."""
        page, counts = await ingest.list_rejections(camera_id=camera_id, since=since, cursor=cursor, limit=limit)
        rows = [RejectionView.of(rejection) for rejection in page.rows]
        return RejectionsView(rejections=rows, next_cursor=page.next_cursor, counts=dict(counts))


def _add_cameras(app: FastAPI, ingest: Ingest) -> None:
    @app.get("/api/v1/cameras")
    async def list_cameras(
        site: str = "",
        tag: Annotated[list[str] | None, Query(description="name=value; repeated, all must fit")] = None,
        limit: Limit = 0,
        cursor: str = "",
    ) -> CamerasView:
        """By id, of one site and with all of these tags when they are given."""
        page = await ingest.list_cameras(site=site, tags=_tags(tag or []), cursor=cursor, limit=limit)
        return CamerasView(cameras=[CameraView.of(camera) for camera in page.rows], next_cursor=page.next_cursor)

    @app.put("/api/v1/cameras/{camera_id:path}")
    async def put_camera(camera_id: str, body: CameraBody) -> CameraView:
        """Register a camera or change its site and tags. The id may hold slashes."""
        return CameraView.of(await ingest.put_camera(camera_id, body.site, body.tags))


def _tags(pairs: list[str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not name or not equals:
            raise InvalidMessage(f"tag {pair[:80]!r} is not name=value.", field="tag", reason="TAG_ODD")
        tags[name] = value
    return tags
