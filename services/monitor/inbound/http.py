"""What people and scripts ask the monitor: the contract's messages as JSON (snake_case)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Query
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor import queries


def routes(reader: queries.Reader) -> APIRouter:
    """The router; times are RFC 3339."""
    router = APIRouter(prefix="/api/v1", tags=["monitor"])

    @router.get("/status")
    async def status(model: str = "") -> dict[str, Any]:
        return _json(await reader.status(pb.GetStatusRequest(model=model)))

    @router.get("/incidents")
    async def incidents(model: str = "", limit: int = 100, since: datetime | None = None) -> dict[str, Any]:
        return _json(await reader.incidents(pb.ListIncidentsRequest(model=model, limit=limit, since=_stamp(since))))

    @router.get("/decisions")
    async def decisions(model: str = "", limit: int = 100, since: datetime | None = None) -> dict[str, Any]:
        return _json(await reader.decisions(pb.ListDecisionsRequest(model=model, limit=limit, since=_stamp(since))))

    @router.get("/challenges")
    async def challenges(model: str = "") -> dict[str, Any]:
        return {"challenges": [{**_json(one), "left_out": out} for one, out in await reader.challenges(model)]}

    @router.get("/accuracy")
    async def accuracy(
        model: str, version: str = "", role: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, Any]:
        request = pb.GetAccuracyRequest(model=model, version=version, role=role, to=_stamp(until))
        if since is not None:
            getattr(request, "from").FromDatetime(since)
        return _json(await reader.accuracy(request))

    @router.get("/quality")
    async def quality(
        model: str,
        version: str = "",
        role: str = "",
        camera_id: str = "",
        by: str = "",
        uniform_only: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = Query(default=100, ge=1, le=1000),
    ) -> dict[str, Any]:
        request = pb.GetQualityRequest(
            model=model, version=version, role=role, camera_id=camera_id, by=by, uniform_only=uniform_only,
            since=_stamp(since), until=_stamp(until), limit=limit,
        )  # fmt: skip
        return _json(await reader.quality(request))

    return router


def _stamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp


def _json(message: Message) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
