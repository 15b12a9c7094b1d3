"""What people and scripts ask the monitor: the contract's messages as JSON (snake_case)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from fastapi import APIRouter, Query
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor import queries
from services.monitor.inbound.json import as_json, stamp


def routes(reader: queries.Reader) -> APIRouter:
    """The router; times are RFC 3339."""
    router = APIRouter(prefix="/api/v1", tags=["monitor"])

    @router.get("/status")
    async def status(model: str = "") -> dict[str, Any]:
        return as_json(await reader.status(pb.GetStatusRequest(model=model)))

    @router.get("/incidents")
    async def incidents(
        model: str = "", limit: int = 100, since: datetime | None = None, open: bool = False
    ) -> dict[str, Any]:
        request = pb.ListIncidentsRequest(model=model, limit=limit, since=stamp(since), open=open)
        return as_json(await reader.incidents(request))

    @router.get("/decisions")
    async def decisions(model: str = "", limit: int = 100, since: datetime | None = None) -> dict[str, Any]:
        return as_json(await reader.decisions(pb.ListDecisionsRequest(model=model, limit=limit, since=stamp(since))))

    @router.get("/challenges")
    async def challenges(model: str = "") -> dict[str, Any]:
        return {"challenges": [{**as_json(one), "left_out": out} for one, out in await reader.challenges(model)]}

    @router.get("/accuracy")
    async def accuracy(
        model: str, version: str = "", role: str = "", since: datetime | None = None, until: datetime | None = None
    ) -> dict[str, Any]:
        request = pb.GetAccuracyRequest(model=model, version=version, role=role, to=stamp(until))
        if since is not None:
            getattr(request, "from").FromDatetime(since)
        return as_json(await reader.accuracy(request))

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
            since=stamp(since), until=stamp(until), limit=limit,
        )  # fmt: skip
        return as_json(await reader.quality(request))

    return router
