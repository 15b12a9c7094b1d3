"""Predictions page by page, by keyset: a page costs the same however far back it is, and new rows shift nothing."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.errors import InvalidMessage
from services.monitor.domain.history import History, Predicted, Wanted
from services.monitor.wire_quality import micros, stamp

_LIMIT: Final = 100
_MOST: Final = 1000


async def list_predictions(history: History, request: pb.ListPredictionsRequest) -> pb.ListPredictionsResponse:
    """One page. Raises `InvalidMessage`, `AnalyticsClosed`."""
    limit = request.limit or _LIMIT
    rows = await history.predictions(_wanted(request, limit + 1))
    answer = pb.ListPredictionsResponse(predictions=[_record(row) for row in rows[:limit]])
    if len(rows) > limit:
        answer.next_page_token = _token(rows[limit - 1])
    return answer


def _wanted(request: pb.ListPredictionsRequest, most: int) -> Wanted:
    if not 0 <= request.limit <= _MOST:
        raise InvalidMessage(f"`limit` is 1 to {_MOST}.", field="limit")
    low = request.min_score if request.HasField("min_score") else 0.0
    high = request.max_score if request.HasField("max_score") else 1.0
    if not 0.0 <= low <= high <= 1.0:
        raise InvalidMessage("`min_score` and `max_score` lie in 0..1, the lower one first.", field="min_score")
    since, until = micros(request.since), micros(request.until)
    if until and until <= since:
        raise InvalidMessage("`since` must lie before `until`.", field="since")
    return Wanted(
        request.model, request.version, request.role, request.camera_id, request.class_name,
        (low, high), since, until, _before(request.page_token), most,
    )  # fmt: skip


def _token(row: Predicted) -> str:
    return base64.urlsafe_b64encode(f"{row.captured_at} {row.id}".encode()).decode().rstrip("=")


def _before(token: str) -> tuple[int, str]:
    if not token:
        return 0, ""
    try:
        text = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True).decode()
        at, _, prediction_id = text.partition(" ")
        return int(at), prediction_id
    except (binascii.Error, ValueError) as error:
        raise InvalidMessage("`page_token` is not one that an answer gave.", field="page_token") from error


def _record(row: Predicted) -> pb.PredictionRecord:
    return pb.PredictionRecord(
        id=row.id,
        asset_id=row.asset_id,
        camera_id=row.camera_id,
        model=row.model,
        version=row.version,
        role=row.role,
        captured_at=stamp(row.captured_at),
        predicted_at=stamp(row.predicted_at),
        class_name=row.class_name,
        score=row.score,
        latency_ms=row.latency_ms,
        error=row.error,
        historical=bool(row.historical),
    )
