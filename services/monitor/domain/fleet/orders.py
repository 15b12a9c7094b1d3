"""What people want of incidents and plans, carried out at its place in the order of events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from math import inf

from services.monitor.domain.case import Case
from services.monitor.domain.events import Happening, Incident
from services.monitor.domain.fleet.absence import Absence
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.inputs import Commanded, Order
from services.monitor.domain.model import ModelWatch


def carry_out(item: Commanded, board: Board, watches: Iterable[ModelWatch]) -> None:
    """Do as commanded; what an incident is told that is over is noted in its history alone."""
    if item.order is Order.PLAN:
        board.announce(item)
    elif item.order is Order.CANCEL:
        board.cancel(item)
    elif item.order is Order.ACCEPT_GAPS:
        for case in (case for watch in watches for case in watch.cases):
            case.note(item.at, "records missing", item.by, item.why)
    else:
        for watch in watches:
            _of_incident(item, watch)


def _of_incident(item: Commanded, watch: ModelWatch) -> None:
    open_: list[Case | Absence] = [*watch.cases, *watch.absences]
    case = next((c for c in open_ if c.id == item.subject), None)
    what = "acknowledged" if item.order is Order.ACKNOWLEDGE else "muted"
    if case is None or isinstance(case, Absence):
        known = next((i for i in watch.incidents if i.id == item.subject), None)
        if known is not None:
            watch.remember(_noted(known, item, what))
    if case is None:
        return
    if item.order is Order.ACKNOWLEDGE:
        case.acknowledged_at, case.acknowledged_by = item.at, item.by
    else:
        case.muted_until = item.until or inf
    if isinstance(case, Absence):
        case.noted = True
    case.note(item.at, what, item.by, item.why)


def _noted(incident: Incident, item: Commanded, what: str) -> Incident:
    line = Happening(item.at, what, item.by, item.why)
    changed = replace(incident, history=(*incident.history, line))
    if item.order is Order.ACKNOWLEDGE:
        return replace(changed, acknowledged_at=item.at, acknowledged_by=item.by)
    return replace(changed, muted_until=item.until or inf) if not incident.closed_at else changed
