"""What people look at, over HTTP: explanations, predictions, pictures and the report."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from irisloop.monitor.v1 import monitor_pb2 as pb
from pydantic import AnyHttpUrl

from services.common.errors import InvalidMessage
from services.monitor.domain.history import Span
from services.monitor.inbound.json import as_json, stamp
from services.monitor.inbound.turns import Turns
from services.monitor.queries import Reader
from services.monitor.views import pictures
from services.monitor.views.charts import Asked
from services.monitor.views.page import page
from services.monitor.views.report import gather

_DAY_S: Final = 86_400.0
Kind = Literal["channels", "quality", "confusion", "calibration"]
Form = Literal["svg", "png"]
Channels = Annotated[list[str] | None, Query(max_length=8)]


def view_routes(reader: Reader) -> APIRouter:
    """The router; times are RFC 3339, `until` is now and `since` a day before it unless given."""
    router = APIRouter(prefix="/api/v1", tags=["monitor"])
    turns = Turns()

    @router.get("/explanations/{incident_id}")
    async def explanation(incident_id: str) -> dict[str, Any]:
        return as_json(await reader.explain(pb.ExplainIncidentRequest(id=incident_id)))

    @router.get("/predictions")
    async def predictions(
        model: str = "",
        version: str = "",
        role: str = "",
        camera_id: str = "",
        class_name: str = "",
        min_score: float | None = None,
        max_score: float | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = Query(default=100, ge=1, le=1000),
        page_token: str = "",
    ) -> dict[str, Any]:
        request = pb.ListPredictionsRequest(
            model=model, version=version, role=role, camera_id=camera_id, class_name=class_name, min_score=min_score,
            max_score=max_score, since=stamp(since), until=stamp(until), limit=limit, page_token=page_token,
        )  # fmt: skip
        return as_json(await reader.predictions(request))

    @router.get("/plots/{kind}.{form}", response_class=Response)
    async def plot(
        kind: Kind,
        form: Form,
        model: str,
        camera_id: str = "",
        version: str = "",
        channel: Channels = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Response:
        asked = Asked(model, _span(since, until), camera_id, version, tuple(channel or ()))
        async with turns.one():
            drawn = await pictures.plot(reader.judge, reader.history, kind, form, asked)
        return Response(drawn, media_type=pictures.FORMS[form])

    @router.get("/report", response_class=Response)
    async def report(
        model: str,
        camera_id: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        assets_url: AnyHttpUrl | None = None,
    ) -> Response:
        asked = Asked(model, _span(since, until), camera_id)
        async with turns.one():
            found = await gather(reader.judge, reader.history, asked)
            text = await asyncio.to_thread(page, found, time.time(), str(assets_url or ""))
        return Response(text, media_type="text/html")

    return router


def _span(since: datetime | None, until: datetime | None) -> Span:
    end = until.timestamp() if until is not None else time.time()
    begin = since.timestamp() if since is not None else end - _DAY_S
    try:
        return Span(begin, end)
    except ValueError as error:
        raise InvalidMessage(f"{error}.", field="since") from error
