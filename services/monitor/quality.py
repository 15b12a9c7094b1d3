"""Answers what labels say of a model's versions: counts are read under the judge's lock, numbers made outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.errors import InvalidMessage
from services.monitor import wire_quality as wire
from services.monitor.domain.engine import Engine
from services.monitor.domain.quality.book import HOUR, Cell
from services.monitor.domain.quality.measures import measure, risk
from services.monitor.domain.quality.tally import Tally
from services.monitor.errors import UnknownModel
from services.monitor.handlers import Judge

BY: Final = ("", "camera", "hour")
_LIMIT: Final = 100
_MOST: Final = 1000
_ALL_HOURS: Final = -1


async def answer(judge: Judge, request: pb.GetQualityRequest) -> pb.GetQualityResponse:
    """Segments by version, role and what is asked for, the newest hour first. Raises `UnknownModel`,
    `InvalidMessage`.
    """
    if request.by not in BY:
        raise InvalidMessage("`by` is camera, hour or empty.", field="by")
    if not 0 <= request.limit <= _MOST:
        raise InvalidMessage(f"`limit` is 1 to {_MOST}.", field="limit")
    return await asyncio.to_thread(_answer, judge, request)


def _answer(judge: Judge, request: pb.GetQualityRequest) -> pb.GetQualityResponse:
    chosen, together = _chosen(request), _together(request.by)

    def view(engine: Engine) -> tuple[dict[Cell, Tally], dict[Cell, Tally], set[tuple[str, str]], pb.LabelAccount]:
        book = engine.truth
        if request.model not in engine.models and not any(cell.model == request.model for cell in book.cells):
            raise UnknownModel(f"nothing has been heard of model {request.model!r}", field="model")
        drawn = book.sum(lambda cell: cell.drawn and chosen(cell), together)
        rest = {} if request.uniform_only else book.sum(lambda cell: not cell.drawn and chosen(cell), together)
        return drawn, rest, set(book.lost), wire.account_message(book)

    drawn, rest, lost, account = judge.look(view)
    cells = sorted({*drawn, *rest}, key=lambda cell: (-cell.hour, cell))
    limit = request.limit or _LIMIT
    alpha = judge.look(lambda engine: engine.policy.quality.alpha)
    segments = [
        _segment(cell, drawn.get(cell, Tally()), rest.get(cell, Tally()), alpha, (cell.model, cell.version) not in lost)
        for cell in cells[:limit]
    ]
    return pb.GetQualityResponse(segments=segments, labels=account, left_out=max(len(cells) - limit, 0))


def _segment(cell: Cell, drawn: Tally, rest: Tally, alpha: float, whole: bool) -> pb.Quality:
    found = risk(drawn, alpha)
    rest.add(drawn)
    return wire.quality_message(cell, measure(rest), found, 1.0 - alpha, whole)


def _chosen(request: pb.GetQualityRequest) -> Callable[[Cell], bool]:
    first = wire.micros(request.since) // HOUR
    until = -(-wire.micros(request.until) // HOUR) if request.HasField("until") else None

    def chosen(cell: Cell) -> bool:
        return (
            cell.model == request.model
            and request.version in ("", cell.version)
            and request.role in ("", cell.role)
            and request.camera_id in ("", cell.camera_id)
            and first <= cell.hour
            and (until is None or cell.hour < until)
        )

    return chosen


def _together(by: str) -> Callable[[Cell], Cell]:
    def key(cell: Cell) -> Cell:
        return cell._replace(
            camera_id=cell.camera_id if by == "camera" else "",
            hour=cell.hour if by == "hour" else _ALL_HOURS,
            drawn=False,
        )

    return key
