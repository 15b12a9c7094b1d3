"""Asks ingest about assets that labeling has not heard of, or no longer keeps."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import grpc.aio
from irisloop.ingest.v1 import ingest_pb2, ingest_pb2_grpc

from services.common.errors import NotFound
from services.common.grpc import call, channel
from services.labeling import codec
from services.labeling.domain.model import Asset


class IngestDirectory:
    """`AssetDirectory` over gRPC; an async context manager, because a channel belongs to a running loop."""

    def __init__(self, address: str) -> None:
        """`address` is host:port of ingest's gRPC."""
        self._address = address
        self._channel: grpc.aio.Channel | None = None

    async def __aenter__(self) -> Self:
        """Connects when it is first used."""
        self._channel = channel(self._address)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Disconnect."""
        if self._channel is not None:
            await self._channel.close()

    async def find(self, asset_id: str) -> Asset | None:
        """None when ingest has no such asset."""
        if self._channel is None:
            return None
        stub: ingest_pb2_grpc.IngestServiceAsyncStub = ingest_pb2_grpc.IngestServiceStub(self._channel)
        try:
            answer = await call(stub.GetAsset, ingest_pb2.GetAssetRequest(asset_id=asset_id))
        except NotFound:
            return None
        return codec.asset(answer.asset)
