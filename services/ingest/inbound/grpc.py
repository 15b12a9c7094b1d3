"""`irisloop.ingest.v1.IngestService`: decode, call a handler, encode."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import grpc
import grpc.aio
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.ingest.v1 import ingest_pb2_grpc

from services.common.grpc import principal
from services.ingest.handlers import Ingest
from services.ingest.wire import asset_to_proto, camera_to_proto, from_timestamp, rejection_to_proto

Context = grpc.aio.ServicerContext[Any, Any]


class IngestServicer(ingest_pb2_grpc.IngestServiceServicer):
    """Answers for what ingest owns."""

    def __init__(self, ingest: Ingest) -> None:
        """The handlers that every road calls."""
        self._ingest = ingest

    async def ListAssets(self, request: pb.ListAssetsRequest, context: Context) -> pb.ListAssetsResponse:
        """Newest first; with `since` oldest first."""
        page = await self._ingest.list_assets(
            camera_id=request.camera_id, since=_since(request), cursor=request.cursor, limit=request.limit
        )
        return pb.ListAssetsResponse(assets=map(asset_to_proto, page.rows), next_cursor=page.next_cursor)

    async def GetAsset(self, request: pb.GetAssetRequest, context: Context) -> pb.GetAssetResponse:
        """One asset."""
        return pb.GetAssetResponse(asset=asset_to_proto(await self._ingest.get_asset(request.asset_id)))

    async def GetAssetContent(self, request: pb.GetAssetContentRequest, context: Context) -> pb.GetAssetContentResponse:
        """The original bytes."""
        asset, content = await self._ingest.get_content(request.asset_id)
        return pb.GetAssetContentResponse(content=content, content_type=asset.object.content_type)

    async def DeleteAsset(self, request: pb.DeleteAssetRequest, context: Context) -> pb.DeleteAssetResponse:
        """Forget an asset, in the name of the caller."""
        await self._ingest.delete_asset(request.asset_id, reason=request.reason, by=principal(context))
        return pb.DeleteAssetResponse()

    async def ListRejections(self, request: pb.ListRejectionsRequest, context: Context) -> pb.ListRejectionsResponse:
        """A page, and how many there are of each reason."""
        page, counts = await self._ingest.list_rejections(
            camera_id=request.camera_id, since=_since(request), cursor=request.cursor, limit=request.limit
        )
        return pb.ListRejectionsResponse(
            rejections=map(rejection_to_proto, page.rows), next_cursor=page.next_cursor, counts=counts
        )

    async def ListCameras(self, request: pb.ListCamerasRequest, context: Context) -> pb.ListCamerasResponse:
        """By id."""
        page = await self._ingest.list_cameras(site="", tags={}, cursor=request.cursor, limit=request.limit)
        return pb.ListCamerasResponse(cameras=map(camera_to_proto, page.rows), next_cursor=page.next_cursor)

    async def PutCamera(self, request: pb.PutCameraRequest, context: Context) -> pb.PutCameraResponse:
        """Register a camera or change its site and tags."""
        camera = await self._ingest.put_camera(request.id, request.site, dict(request.tags))
        return pb.PutCameraResponse(camera=camera_to_proto(camera))


def _since(request: pb.ListAssetsRequest | pb.ListRejectionsRequest) -> datetime | None:
    since: Timestamp = request.since
    return from_timestamp(since, "since") if request.HasField("since") else None
