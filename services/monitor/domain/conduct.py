"""How an incident is opened, understood, decided on and closed: once a second of event time, for each model."""

from __future__ import annotations

from collections.abc import Iterator

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case, read_cause, read_shape
from services.monitor.domain.deciding import decide, refuse_once
from services.monitor.domain.events import Cause, DriftFound, Evidence, Finding, Harm, State
from services.monitor.domain.fault import report
from services.monitor.domain.fleet import missing
from services.monitor.domain.fleet.alike import movers
from services.monitor.domain.fleet.assess import assess
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.gather import gather
from services.monitor.domain.fleet.suspicion import ANNOTATOR, hears_out, read_scope
from services.monitor.domain.harm import baseline_until, read_labels
from services.monitor.domain.labels import cost
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.outlook import read_outlook
from services.monitor.domain.policy import Policy
from services.monitor.domain.probing import ask, judge
from services.monitor.domain.recurring import end, leave, read_recurrence
from services.monitor.domain.revising import revise
from services.monitor.domain.risk import Count
from services.monitor.domain.telling import alert, say, tell_outlook, what


def tick(watch: ModelWatch, board: Board, now: float, policy: Policy) -> Iterator[Finding]:
    """Whatever is to be said about a model at event time `now`."""
    watch.ledger.expire(now)
    seen = (watch.looks, watch.labels.labels, len(board.commands))
    if seen != watch.gathered:
        watch.gathered = seen
        gather(watch, board, now, policy)
        yield from assess(watch, board, now)
    yield from revise(watch, now, policy)
    for case in list(watch.cases):
        yield from _go_on(watch, case, board, now, policy)


def _go_on(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> Iterator[Finding]:
    judge(watch, case, board, now, policy)
    seen = _seen_of(watch, case)
    if seen != case.understood:
        case.understood = seen
        _understand(watch, case, board, now, policy)
    yield from ask(watch, case, board, now, policy.probe)
    yield from say(watch, case, now, policy)
    if case.harm is Harm.CROSSED:
        yield from decide(watch, case, now, policy)
    if not case.plan_id:
        yield from _close_if_over(watch, case, board, now, policy)


def _seen_of(watch: ModelWatch, case: Case) -> tuple[int, ...]:
    """What an understanding rests on: the cameras' blocks and states, and the labels."""
    cameras = [watch.cameras[name] for name in case.alarmed if name in watch.cameras]
    blocks = sum(c.trace.first + len(c.trace.times) + 1000 * c.trace.generation for c in cameras)
    parts = (len(cameras), blocks, sum(int(c.state) for c in cameras), watch.book.count, watch.labels.labels)
    return (*parts, int(case.cause), case.requested, int(case.probe.verdict) if case.probe is not None else 0)


def close(watch: ModelWatch, now: float) -> Iterator[Finding]:
    """Another version has taken over: the open incidents are history."""
    leave(watch, now)
    yield from missing.close(watch, now)
    for case in list(watch.cases):
        yield from close_case(watch, case, now, f"version {watch.successor} is the champion")


def _understand(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> None:
    if case.cause is not Cause.LABELS:
        _read_inputs(watch, case, policy)
    elif not case.requested:
        read_scope(watch, case, board, now)
    read_labels(watch, case, board, now, policy)
    read_recurrence(watch, case, now, policy)
    if case.harm is Harm.CROSSED:
        read_outlook(watch, case, policy)


def _read_inputs(watch: ModelWatch, case: Case, policy: Policy) -> None:
    cameras = [watch.cameras[name] for name in case.alarmed if name in watch.cameras]
    if case.state is not State.CONFIRMED:
        elsewhere = {name for other in watch.cases if other is not case for name in other.alarmed}
        watched = [c for c in watch.watched() if c.camera_id not in elsewhere]
        moving = len(movers(watched, cameras, policy.fleet.alike))
        alone = case.scope.kind in ("camera", "cameras", "firmware")
        case.cause = read_cause(case, cameras, len(watched), max(moving, len(case.cameras)), alone)
    if not case.level_since or not case.faults:
        _read_faults(case, cameras)
    if not case.requested:
        read_shape(case, cameras, policy.shape)
    evidence = [e for c in cameras for e in c.evidence(4)]
    case.evidence = sorted(evidence, key=lambda e: (-e.statistic / e.threshold, e.camera_id, e.channel))[:16]


def _read_faults(case: Case, cameras: list[CameraWatch]) -> None:
    """What is broken, anew until the change is complete: half of a change may look like another one."""
    if case.cause is not Cause.CAMERA:
        case.faults = []
        return
    found = [report(camera, case.began_at) for camera in cameras if camera.camera_id in case.cameras]
    case.faults = [fault for fault in found if fault is not None] or case.faults


def _close_if_over(watch: ModelWatch, case: Case, board: Board, now: float, policy: Policy) -> Iterator[Finding]:
    cameras = [watch.cameras[name] for name in case.cameras if name in watch.cameras]
    if (case.harm is Harm.NONE or case.undecidable) and hears_out(case):
        return
    numbers = f"error {case.risk.current_error:.3f} after {case.risk.baseline_error:.3f}" if case.risk else "no labels"
    if case.harm is Harm.NONE:
        yield from refuse_once(watch, case, "harmless", f"harmless: {numbers}", now, policy)
        _take_as_normal(watch, case, board)
        yield from close_case(watch, case, now, f"without harm ({numbers})", tell=not case.is_silent(now))
    elif case.undecidable and not case.suspected and case.harm is Harm.UNKNOWN:
        yield from refuse_once(
            watch, case, "undecided", f"undecided: {numbers}; more labels would not tell", now, policy
        )
        watch.anchor = baseline_until(watch, case)
        _take_as_normal(watch, case, board)
        why = f"more labels would not tell whether it hurts ({numbers}); what comes is held against the error before it"
        yield from close_case(watch, case, now, why, tell=True)
    elif (
        case.cause is not Cause.LABELS
        and case.alarmed
        and all(c.quiet_frames >= policy.harm.clear_frames for c in cameras)
    ):
        for camera in cameras:
            camera.clear()
        yield from close_case(watch, case, now, "the channels are as before")


def _take_as_normal(watch: ModelWatch, case: Case, board: Board) -> None:
    """What a harmless change made of its cameras is normal from now on, also where it has not alarmed yet."""
    explained, learning = watch.explained(), list[str]()
    for camera in watch.cameras.values():
        if explained.get(camera.camera_id, case) is not case:
            continue
        within = board.labels(camera.camera_id).get(case.scope.kind) == case.scope.value or case.scope.kind == "model"
        warned = within and camera.state >= State.WARN and case.cause is not Cause.LABELS
        if warned or (camera.state >= State.ALARM and camera.camera_id in (*case.alarmed, *case.cameras)):
            camera.relearn()
            learning.append(camera.camera_id)
    if learning:
        watch.former.forget(watch.version, learning)
        case.settled = None


def close_case(watch: ModelWatch, case: Case, now: float, why: str, *, tell: bool = False) -> Iterator[Finding]:
    """An incident is over; `tell` of the end also when nobody was told of its begin."""
    case.state, case.closed_at = State.OK, now
    if (tell or case.alerts) and not case.is_silent(now):
        yield alert(case, now, "closed", "ticket", f"{case.scope}: {case.model}'s {what(case)} changed; over: {why}")
    yield from tell_outlook(case, now)
    case.note(now, "closed", why=why)
    other = any(c.cause is Cause.LABELS for c in watch.cases if c is not case)
    if case.cause is Cause.LABELS or (watch.labels.alarmed() and not other):
        watch.labels.forgive(harmless=case.harm is Harm.NONE and case.scope.kind != ANNOTATOR)
    if case.cause is Cause.LABELS and case.scope.kind != ANNOTATOR:
        watch.listening_since = watch.listening_since or case.began_at
    end(watch, case)
    incident = case.news()
    watch.cases.remove(case)
    if incident is not None:
        watch.remember(incident)
        yield DriftFound(now, case.traceparent, incident, case.revision)
    if (ground := watch.grounds.get(case.id)) is not None:
        ground.revision, ground.traceparent = case.revision, case.traceparent


def label_evidence(watch: ModelWatch) -> Evidence | None:
    """The labelled error as one more channel."""
    detector = watch.labels.error
    if detector is None:
        return None
    recent = Count.of(map(cost, watch.labels.recent))
    base = watch.labels.baseline().error
    spread = max((base * (1.0 - base)) ** 0.5, 1e-6)
    return Evidence(
        "labelled_error",
        "",
        detector.name,
        float(detector.statistic()[0]),
        float(detector.threshold()[0]),
        base,
        recent.error,
        (recent.error - base) / spread,
    )
