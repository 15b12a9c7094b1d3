"""What wrong labels have in common: since when, which classes, which cameras, what time of day, and who gave them."""

from __future__ import annotations

from math import log

from services.monitor.domain.case import Case
from services.monitor.domain.events import Scope, Shape
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.scope import explain, quarter
from services.monitor.domain.labels import Joined, Pair, change_point
from services.monitor.domain.model import ModelWatch

ANNOTATOR = "annotator"
_SURE = 100.0  # Somebody is doubted when chance would speak so against them once in so many times, at most.


def date_labels(watch: ModelWatch, case: Case, pairs: set[Pair]) -> None:
    """When the labels changed: at the first label of a confused pair after the likeliest split."""
    entries = watch.book.choose(lambda e: e.version == case.version)
    case.began_at = change_point(entries, lambda e: e.confused and e.pair in pairs) or case.detected_at
    case.shape = Shape.SUDDEN


def read_scope(watch: ModelWatch, case: Case, board: Board, now: float) -> None:
    """Say what the wrong labels since the change have in common; who is doubted already stays the explanation."""
    if case.scope.kind == ANNOTATOR and case.scope.value in watch.doubted:
        return
    scope = _explain(watch, case, board)
    if scope.kind == ANNOTATOR and doubt(watch, case, board, now):
        return
    if (scope.kind, scope.value) != (case.scope.kind, case.scope.value):
        case.note(now, "opened" if not case.history else "scope", why=str(scope))
    case.scope = scope


def doubt(watch: ModelWatch, case: Case, board: Board, now: float) -> bool:
    """Whether the wrong labels are one annotator's, whose labels are then left out; the incident says so."""
    found = _explain(watch, case, board, log(_SURE))
    if found.kind != ANNOTATOR:
        return False
    watch.doubted[found.value] = now
    case.note(now, "annotator doubted", why=f"{found.inside_hit} of {found.inside} labels of {found.value} contradict")
    if not case.alarmed:
        case.scope = found
    return True


def _explain(watch: ModelWatch, case: Case, board: Board, least: float = 0.0) -> Scope:
    since = case.began_at
    entries = watch.book.choose(
        lambda e: e.version == case.version and e.captured_at >= since and e.annotator not in watch.doubted
    )
    found = explain([(_attributes(e, board), e.wrong) for e in entries], least)
    if found is None or found.kind == "class":
        names = ", ".join(case.class_names) or (found.value if found else "")
        return Scope("class", names) if names else Scope("model", "", len(entries), sum(e.wrong for e in entries))
    return found


def _attributes(label: Joined, board: Board) -> dict[str, str]:
    given = {ANNOTATOR: label.annotator} if label.annotator else {}
    own = {"camera": label.camera_id, "class": label.truth, "hour": quarter(label.captured_at)}
    return {**board.labels(label.camera_id), **own, **given}
