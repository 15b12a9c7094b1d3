"""The fleet's stage for one model: which alarms are beyond chance, and which incident each of them belongs to."""

from __future__ import annotations

from collections.abc import Sequence

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case, block_seconds, drifted_trace
from services.monitor.domain.events import Cause, Harm, State
from services.monitor.domain.fleet.alike import Direction, cosine, direction, together
from services.monitor.domain.fleet.board import Board, Plan
from services.monitor.domain.fleet.patience import believed
from services.monitor.domain.fleet.scope import of_cameras
from services.monitor.domain.fleet.suspicion import date_labels, read_scope
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import FleetPolicy, Policy
from services.monitor.domain.retraining import derive
from services.monitor.domain.shape import fit

_NEWEST = 20  # wrong labels


def gather(watch: ModelWatch, board: Board, now: float, policy: Policy) -> None:
    """Give every alarm that is beyond chance an incident; what was chance, and is over, is forgotten."""
    _gather_cameras(watch, board, now, policy)
    _gather_labels(watch, board, now, policy)


def _gather_labels(watch: ModelWatch, board: Board, now: float, policy: Policy) -> None:
    labels = watch.labels
    if not labels.alarmed() or any(c.cause is Cause.LABELS for c in watch.cases):
        return
    if watch.cases and _moving_explain(watch):
        return
    if labels.believed(watch.labels_in(policy.fleet.run_length), policy.labels):
        _open_labels(watch, board, now)
    elif labels.is_calm():
        labels.forget()


def _gather_cameras(watch: ModelWatch, board: Board, now: float, policy: Policy) -> None:
    alarmed, explained = watch.alarmed(), watch.explained()
    free = [c for c in alarmed if c.camera_id not in explained]
    if not free:
        return
    steps = {c.camera_id: c.steps for c in alarmed}
    chosen = believed(steps, len(watch.watched()), policy.fleet.run_length)
    for camera in sorted(free, key=lambda c: (c.alarmed_at, c.camera_id)):
        plan = board.plan_for(camera.camera_id, camera.alarmed_at)
        if plan is not None or camera.camera_id in chosen:
            _admit(watch, board, camera, plan, now, policy.fleet)
        elif camera.quiet_frames >= policy.harm.clear_frames:
            camera.clear()


def _admit(
    watch: ModelWatch, board: Board, camera: CameraWatch, plan: Plan | None, now: float, policy: FleetPolicy
) -> None:
    case = _home(watch, board, camera, plan, policy)
    if case is None and _is_young(watch, camera, now, policy):
        return
    case = case or _open(watch, camera, plan, now)
    case.alarmed.append(camera.camera_id)
    case.cameras = sorted({*case.cameras, camera.camera_id})
    case.widened_at, case.last_alarm_at = now, max(case.last_alarm_at, camera.alarmed_at)
    rescope(watch, board, case, now)


def rescope(watch: ModelWatch, board: Board, case: Case, now: float) -> None:
    """What the incident's cameras have in common, beside the others that no other incident explains."""
    elsewhere = {name for other in watch.cases if other is not case for name in other.alarmed}
    watched = {c.camera_id: board.labels(c.camera_id) for c in watch.watched() if c.camera_id not in elsewhere}
    scope = of_cameras(case.alarmed, watched)
    if (scope.kind, scope.value) != (case.scope.kind, case.scope.value):
        case.note(now, "opened" if not case.history else "scope", why=str(scope))
    case.scope = scope


def _home(watch: ModelWatch, board: Board, camera: CameraWatch, plan: Plan | None, policy: FleetPolicy) -> Case | None:
    """The open incident that a camera's alarm is part of, if there is one."""
    if plan is not None:
        return next((c for c in watch.cases if c.plan_id == plan.id), None)
    unsure = next((c for c in watch.cases if c.cause is Cause.LABELS and c.harm is not Harm.CROSSED), None)
    if unsure is not None and _moving_explain(watch):  # The pictures explain it after all.
        unsure.cause, unsure.cameras, unsure.one_voice = Cause.SCENE, [], False
        return unsure
    own = direction(camera)
    found = [(_likeness(watch, board, case, camera, own, policy), case) for case in watch.cases if not case.plan_id]
    best = max(found, key=lambda f: f[0], default=(0.0, None))
    return best[1] if best[0] > 0.0 else None


def _likeness(
    watch: ModelWatch, board: Board, case: Case, camera: CameraWatch, own: Direction, policy: FleetPolicy
) -> float:
    """The cosine of two changes, 0 when they do not belong together: they have to be alike, and near in time or in one
    place. Near is also a camera that had begun to change when the incident's last alarm came: a slow or a small change
    is noticed here days before there.
    """
    if case.cause is Cause.LABELS:
        return 0.0
    cosine_ = cosine(own, _direction(watch, case.alarmed))
    apart = camera.alarmed_at - case.last_alarm_at
    within = board.labels(camera.camera_id).get(case.scope.kind) == case.scope.value or case.scope.kind == "model"
    near = apart <= policy.join_seconds or within
    if cosine_ < policy.alike:
        return 0.0
    return cosine_ if near or _begun(camera) <= case.last_alarm_at else 0.0


def _begun(camera: CameraWatch) -> float:
    """When a camera's change began by its own trace; its alarm where that cannot be told."""
    times, shift, _, _ = drifted_trace([camera])
    found = fit(times, shift, block_seconds([camera]))
    return camera.alarmed_at if found is None else min(found.begin, camera.alarmed_at)


def _is_young(watch: ModelWatch, camera: CameraWatch, now: float, policy: FleetPolicy) -> bool:
    """Whether it is too early to say that a camera changed in a way of its own: another incident has just begun, or had
    not yet when the camera did, and the direction of a change is known after two more blocks.
    """
    since = now - camera.alarmed_at
    settled = since >= policy.settle_seconds and since >= 2.0 * block_seconds([camera])
    others = [case for case in watch.cases if case.cause is not Cause.LABELS and not case.plan_id]
    if settled or not others:
        return False
    begun = _begun(camera)
    return any(
        abs(camera.alarmed_at - case.last_alarm_at) <= policy.join_seconds or begun <= case.last_alarm_at
        for case in others
    )


def _direction(watch: ModelWatch, names: Sequence[str]) -> Direction:
    return together(direction(watch.cameras[name]) for name in names if name in watch.cameras)


def _open(watch: ModelWatch, camera: CameraWatch, plan: Plan | None, now: float) -> Case:
    case = _case(watch, *camera.trigger, now, Cause.SCENE)
    if plan is not None:
        case.plan_id = plan.id
        case.note(now, "planned", plan.by, plan.why)
    return case


def _open_labels(watch: ModelWatch, board: Board, now: float) -> None:
    case = _case(watch, *watch.labels.trigger, now, Cause.LABELS)
    case.cameras, case.widened_at = sorted(watch.cameras), now
    date_labels(watch, case, watch.labels.suspects())
    read_scope(watch, case, board, now)


def _case(watch: ModelWatch, asset: str, traceparent: str, now: float, cause: Cause) -> Case:
    id_ = derive("incident", watch.model, watch.version, asset)
    case = Case(id_, watch.model, watch.version, traceparent, asset, now, cause, began_at=now)
    watch.cases.append(case)
    return case


def _moving_explain(watch: ModelWatch) -> bool:
    """Whether most of the newest wrong labels are of cameras whose pictures are moving."""
    moving = {c.camera_id for c in watch.cameras.values() if c.state >= State.WARN}
    wrong = watch.book.choose(lambda e: e.version == watch.version and e.wrong)[-_NEWEST:]
    return 2 * sum(e.camera_id in moving for e in wrong) > len(wrong)
