"""Answers what labels say of a model's versions: counts are read under the judge's lock, numbers made outside of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.errors import InvalidMessage
from services.monitor import wire_quality as wire
from services.monitor.domain.engine import Engine
from services.monitor.domain.quality.book import HOUR, Cell, TruthBook
from services.monitor.domain.quality.detection import Compared, measure_boxes
from services.monitor.domain.quality.doubt import doubt_about, doubts
from services.monitor.domain.quality.labelfree import Calibration, answered, calibrate, estimate
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
    counts = judge.look(lambda engine: _read(engine, request))
    cells = sorted(
        {*counts.drawn, *counts.rest, *counts.traffic, *counts.doubtful}, key=lambda cell: (-cell.hour, cell)
    )
    limit = request.limit or _LIMIT
    segments = [_segment(cell, counts) for cell in cells[:limit]]
    return pb.GetQualityResponse(segments=segments, labels=counts.account, left_out=max(len(cells) - limit, 0))


@dataclass(frozen=True, slots=True)
class _Counts:
    """What was read: labels of uniform draws, the others, predictions by segment, and those of which confidence says
    nothing, by the reason; calibrations by (version, role).
    """

    drawn: dict[Cell, Tally]
    rest: dict[Cell, Tally]
    traffic: dict[Cell, list[tuple[int, int]]]
    doubtful: dict[Cell, dict[str, tuple[int, int]]]
    calibrations: dict[tuple[str, str], Calibration]
    lost: set[tuple[str, str]]
    account: pb.LabelAccount
    alpha: float
    boxes: dict[Cell, list[Compared]]


def _read(engine: Engine, request: pb.GetQualityRequest) -> _Counts:
    book, chosen, together = engine.truth, _chosen(request, engine.truth.since()), _together(request.by)
    if request.model not in engine.models and not any(cell.model == request.model for cell in book.cells):
        raise UnknownModel(f"nothing has been heard of model {request.model!r}", field="model")
    traffic, doubtful = _predictions(engine, request.model, chosen, together)
    return _Counts(
        drawn=book.sum(lambda cell: cell.drawn and chosen(cell), together),
        rest={} if request.uniform_only else book.sum(lambda cell: not cell.drawn and chosen(cell), together),
        traffic=traffic,
        doubtful=doubtful,
        calibrations=_calibrations(book, request.model),
        lost=set(book.lost),
        account=wire.account_message(book),
        alpha=engine.policy.quality.alpha,
        boxes=_boxes(book, lambda cell: (cell.drawn or not request.uniform_only) and chosen(cell), together),
    )


def _boxes(
    book: TruthBook, chosen: Callable[[Cell], bool], together: Callable[[Cell], Cell]
) -> dict[Cell, list[Compared]]:
    found: dict[Cell, list[Compared]] = {}
    for cell, frame in book.compared(chosen):
        found.setdefault(together(cell), []).append(frame)
    return found


def _predictions(
    engine: Engine, model: str, chosen: Callable[[Cell], bool], together: Callable[[Cell], Cell]
) -> tuple[dict[Cell, list[tuple[int, int]]], dict[Cell, dict[str, tuple[int, int]]]]:
    """Counts by segment: of which confidence tells, and of which it does not, by the reason."""
    watch = engine.models.get(model)
    known = doubts(watch.incidents) if watch else []
    traffic: dict[Cell, list[tuple[int, int]]] = {}
    doubtful: dict[Cell, dict[str, tuple[int, int]]] = {}
    for cell, (number, scores) in engine.traffic.chosen(chosen).items():
        why = doubt_about(cell, known)
        if not why:
            traffic.setdefault(together(cell), []).append((number, scores))
            continue
        reasons = doubtful.setdefault(together(cell), {})
        before = reasons.get(why, (0, 0))
        reasons[why] = (before[0] + number, before[1] + scores)
    return traffic, doubtful


def _calibrations(book: TruthBook, model: str) -> dict[tuple[str, str], Calibration]:
    found: dict[tuple[str, str], list[Tally]] = {}
    for cell, tally in book.cells.items():
        if cell.model == model and cell.drawn:
            found.setdefault((cell.version, cell.role), []).append(tally)
    return {key: calibrate(tallies) for key, tallies in found.items()}


def _segment(cell: Cell, counts: _Counts) -> pb.Quality:
    drawn, rest = counts.drawn.get(cell, Tally()), counts.rest.get(cell, Tally())
    calibration = counts.calibrations.get((cell.version, cell.role), Calibration(0))
    free = estimate(counts.traffic.get(cell, ()), calibration, counts.doubtful.get(cell, {}))
    whole = (cell.model, cell.version) not in counts.lost
    found = risk(drawn, counts.alpha)
    message = wire.risk_message(found, 1.0 - counts.alpha, whole, answered(drawn, free.predictions))
    rest.add(drawn)
    boxes = measure_boxes(counts.boxes[cell]) if cell in counts.boxes else None
    return wire.quality_message(cell, measure(rest), message, free, boxes)


def _chosen(request: pb.GetQualityRequest, since: int) -> Callable[[Cell], bool]:
    first = max(wire.micros(request.since), since) // HOUR
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
