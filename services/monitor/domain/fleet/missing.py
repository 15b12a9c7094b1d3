"""Cameras that fall silent or flood, as incidents: those of about the same moment are one, whose scope says what they
have in common. A switch that fails silences a site, not forty cameras.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.events import Alert, CameraFault, Cause, DriftFound, Finding, Harm, Incident, Shape, State
from services.monitor.domain.fleet.absence import FLOOD, FLOODING, SILENT, Absence, floods, is_silent, patience, sends
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.fleet.scope import of_cameras
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import FleetPolicy
from services.monitor.domain.retraining import derive

EVERY_S: Final = 10.0
"""Of event time between two looks at all cameras of a model, at least; ..."""
_TENTH: Final = 0.1
"""... and this share of how long the fastest of them may be silent."""
_WORDS: Final = {SILENT: "no frames any more", FLOODING: f"more than {FLOOD:.0f} times the usual frames"}


def look(
    watch: ModelWatch, models: Iterable[ModelWatch], board: Board, now: float, policy: FleetPolicy
) -> Iterator[Finding]:
    """Open, widen and end incidents of presence. Who is silent is so while cameras of any of the `models` send: while
    none does, time stands still for cameras, whatever else goes on.
    """
    if now < watch.presence_due:
        return
    watched = watch.watched()
    watch.presence_due = now + max(EVERY_S, _TENTH * _shortest(watched))
    last = heard_of(models)
    until = max(last.values(), default=0.0)
    quiet = {c.camera_id for c in watched if is_silent(c, last[c.camera_id], until)}
    for camera in watched:
        if board.plan_for(camera.camera_id, now) is None:
            _enter(watch, camera, now, silent=camera.camera_id in quiet)
    _rescope(watch, board, now)
    for absence in list(watch.absences):
        back = [
            name
            for name, rate in absence.cameras.items()
            if _is_back(watch, absence, name, rate, now, until - last.get(name, until))
        ]
        for name in back:
            del absence.cameras[name]
        yield from _say(watch, absence, now, policy)


def heard_of(models: Iterable[ModelWatch]) -> dict[str, float]:
    """When the newest frame of each camera was taken, whichever model was shown it: one that was bound to another
    model is not silent.
    """
    last: dict[str, float] = {}
    for watch in models:
        for name, camera in watch.cameras.items():
            last[name] = max(last.get(name, 0.0), camera.last_at)
    return last


def _shortest(watched: Sequence[CameraWatch]) -> float:
    """How long the fastest camera may be silent, in seconds."""
    return min((patience(rate) for camera in watched if (rate := camera.rate()) > 0.0), default=0.0)


def _enter(watch: ModelWatch, camera: CameraWatch, now: float, *, silent: bool) -> None:
    rate = camera.rate() if silent else floods(camera, now)
    if rate <= 0.0:
        return
    kind, since = (SILENT, camera.last_at) if silent else (FLOODING, now - patience(rate))
    of_kind = [a for a in watch.absences if a.kind == kind]
    if any(camera.camera_id in a.cameras for a in of_kind):
        return
    absence = next((a for a in of_kind if abs(since - a.began_at) <= patience(rate)), None)
    if absence is None:
        id_ = derive("presence", watch.model, watch.version, kind, camera.camera_id, repr(since))
        absence = Absence(id_, kind, since, now, now)
        watch.absences.append(absence)
    before = camera.sights[-1][1] if camera.sights else ""
    absence.cameras[camera.camera_id] = rate
    absence.faults.append(CameraFault(camera.camera_id, kind, since, before, ""))
    absence.widened_at = now


def _rescope(watch: ModelWatch, board: Board, now: float) -> None:
    """What the cameras of those that were widened just now have in common."""
    widened = [absence for absence in watch.absences if absence.widened_at == now]
    labels = {c.camera_id: board.labels(c.camera_id) for c in watch.watched()} if widened else {}
    for absence in widened:
        absence.scope = of_cameras(sorted({fault.camera_id for fault in absence.faults}), labels)


def _is_back(watch: ModelWatch, absence: Absence, name: str, rate: float, now: float, silence: float) -> bool:
    """Whether a camera sends again, and no more than half of what is too much; or nobody watches it any more."""
    camera = watch.cameras.get(name)
    if camera is None:
        return True
    if absence.kind == SILENT:
        return silence <= patience(rate)
    return sends(camera, now, patience(rate)) < FLOOD * rate / 2.0


def _say(watch: ModelWatch, absence: Absence, now: float, policy: FleetPolicy) -> Iterator[Finding]:
    """Once no camera has joined for a while; and the end, of what was told."""
    if not absence.cameras:
        yield from _end(watch, absence, now, "the cameras send as usual")
    elif not absence.told:
        if now - absence.widened_at >= policy.settle_seconds:
            absence.told = True
            yield from _tell(watch, absence, now, "opened", f"{absence.scope}: {_WORDS[absence.kind]}")
    elif absence.widened_at == now:
        absence.note(now, "scope", why=f"{absence.scope}: {_WORDS[absence.kind]}")
        yield _word(watch, absence, now)
    elif absence.noted:
        yield _word(watch, absence, now)


def close(watch: ModelWatch, now: float) -> Iterator[Finding]:
    """Another version has taken over: which cameras send to it is not known yet."""
    for absence in list(watch.absences):
        yield from _end(watch, absence, now, f"version {watch.successor} is the champion")


def _end(watch: ModelWatch, absence: Absence, now: float, why: str) -> Iterator[Finding]:
    watch.absences.remove(absence)
    if absence.told:
        yield from _tell(watch, absence, now, "closed", f"{absence.scope}: over, {why}")


def _tell(watch: ModelWatch, absence: Absence, now: float, what: str, summary: str) -> Iterator[Finding]:
    """To people, too."""
    absence.note(now, what, why=summary)
    yield _word(watch, absence, now, now if what == "closed" else 0.0)
    if now >= absence.muted_until:
        yield Alert(now, "", derive("alert", absence.id, what), watch.model, absence.id, "ticket", summary, what)


def _word(watch: ModelWatch, absence: Absence, now: float, closed_at: float = 0.0) -> DriftFound:
    """The next revision, as it stands."""
    absence.revision, absence.noted = absence.revision + 1, False
    incident = _incident(watch, absence, closed_at)
    watch.remember(incident)
    return DriftFound(now, "", incident, absence.revision)


def _incident(watch: ModelWatch, absence: Absence, closed_at: float) -> Incident:
    """WARN, as nothing is known to be wrong with what the model says, and no label is to be drawn because of it."""
    names = tuple(sorted({fault.camera_id for fault in absence.faults}))
    plain = Incident(
        id=absence.id, model=watch.model, version=watch.version, state=State.WARN, cause=Cause.CAMERA,
        harm=Harm.UNKNOWN, shape=Shape.SUDDEN, began_at=absence.began_at, detected_at=absence.detected_at,
        level_since=absence.began_at, cameras=names, class_names=(), evidence=(), risk=None, closed_at=closed_at,
        trigger_asset_id="", scope=absence.scope, history=tuple(absence.history), faults=tuple(absence.faults),
        acknowledged_at=absence.acknowledged_at, acknowledged_by=absence.acknowledged_by,
        muted_until=absence.muted_until,
    )  # fmt: skip
    return replace(plain, state=State.OK) if closed_at else plain
