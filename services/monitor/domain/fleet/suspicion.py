"""What wrong labels have in common: since when, which classes, which cameras, what time of day, and who gave them.

A person is named only when chance would hardly speak so against them. Until then their labels count like everybody's,
and the incident waits a while before it may be found harmless: it could be theirs.
"""

from __future__ import annotations

from math import log

from services.monitor.domain.case import Case
from services.monitor.domain.events import Cause, Scope, Shape
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.scope import explain, quarter
from services.monitor.domain.labels import Joined, Pair, change_point
from services.monitor.domain.model import ModelWatch

ANNOTATOR = "annotator"
_SURE = 100.0  # Somebody is doubted when chance would speak so against them once in so many times, at most.
_AGAIN = (
    2.0  # What speaks against somebody grows with the labels, and what chance says does not: so many times as many.
)


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
    case.one_voice = scope.kind == ANNOTATOR and not doubt(watch, case, board, now)
    if case.one_voice:
        scope = _explain(watch, case, board, named=False)
    elif scope.kind == ANNOTATOR:
        return
    if (scope.kind, scope.value) != (case.scope.kind, case.scope.value):
        case.note(now, "opened" if not case.history else "scope", why=str(scope))
    case.scope = scope


def hears_out(case: Case) -> bool:
    """Whether an incident that would be over waits for more labels, as its wrong ones may be one annotator's."""
    labels = case.risk.current_labels if case.risk else 0.0
    if case.cause is not Cause.LABELS or not case.one_voice:
        case.heard = 0.0
        return False
    case.heard = case.heard or labels
    return labels < _AGAIN * case.heard


def doubt(watch: ModelWatch, case: Case, board: Board, now: float, least: float = log(_SURE)) -> bool:
    """Whether the wrong labels are one annotator's, whose labels are then left out; the incident says so. `least`, in
    nats, is how sure that has to be.
    """
    found = _explain(watch, case, board, least=least)
    if found.kind != ANNOTATOR:
        return False
    leave_out(watch, case, found, now, f"{found.inside_hit} of {found.inside} labels of {found.value} contradict")
    return True


def leave_out(watch: ModelWatch, case: Case, annotator: Scope, now: float, why: str) -> None:
    """Labels of this annotator count no more."""
    watch.doubted[annotator.value], watch.listening_since = now, 0.0
    case.note(now, "annotator doubted", why=why)
    if not case.alarmed:
        case.scope = annotator


def _explain(watch: ModelWatch, case: Case, board: Board, *, least: float = 0.0, named: bool = True) -> Scope:
    """What explains the wrong labels best, by `least` nats; with `named`, maybe who gave them."""
    since = min(case.began_at, watch.listening_since or case.began_at) if named else case.began_at
    entries = watch.book.choose(
        lambda e: e.version == case.version and e.captured_at >= since and e.annotator not in watch.doubted
    )
    found = explain([(_attributes(e, board, named), e.wrong) for e in entries], least)
    if found is None or found.kind == "class":
        names = ", ".join(case.class_names) or (found.value if found else "")
        return Scope("class", names) if names else Scope("model", "", len(entries), sum(e.wrong for e in entries))
    return found


def _attributes(label: Joined, board: Board, named: bool) -> dict[str, str]:
    given = {ANNOTATOR: label.annotator} if named and label.annotator else {}
    own = {"camera": label.camera_id, "class": label.truth, "hour": quarter(label.captured_at)}
    return {**board.labels(label.camera_id), **own, **given}
