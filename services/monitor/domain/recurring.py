"""Whether an incident brings back what was seen before: the condition of an earlier one, or that in which a former
champion was at home. It is asked once the incident is level, and doubt speaks against it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case
from services.monitor.domain.channels import PIXELS
from services.monitor.domain.condition import Condition, near
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import Cause, Harm, Recurrence, Shape, State
from services.monitor.domain.fault import beyond_training
from services.monitor.domain.fleet.suspicion import ANNOTATOR
from services.monitor.domain.former import Earlier, Home, Homes
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.outlook import condition_of
from services.monitor.domain.policy import Policy
from services.monitor.domain.trace import CAPACITY

_BLOCKS: Final = 6  # So many of a camera tell how much they vary.
_HALF: Final = 0.5  # Of an incident's cameras, at least, must have been seen before.


def read_recurrence(watch: ModelWatch, case: Case, now: float, policy: Policy) -> None:
    """Take what is known by now. What recurs goes on to do so, until the cameras have surely moved on."""
    if case.requested:
        return
    tolerance = policy.shape.level_tolerance
    condition = _settled(watch, case, tolerance)
    if condition is not None:
        if case.settled is None or not case.settled.holds(condition, tolerance):
            _move_on(case, now)
            case.settled = condition
        elif condition.error < case.settled.error:
            case.settled = condition
        _look_back(watch, case, condition, now, tolerance)
    if case.recurs is not None:
        case.shape = Shape.RECURRING


def stored_for(watch: ModelWatch, case: Case) -> str:
    """The former champion to propose for an incident; empty without one, or where classes mean something else now."""
    if case.recurs is None or case.recurs.version == watch.version:
        return ""
    return "" if _is_homeless(case) or _renamed(watch) else case.recurs.version


def is_open(watch: ModelWatch, case: Case) -> bool:
    """Whether too little is seen yet to hold an incident against former champions."""
    if not case.level_since or _is_homeless(case):
        return False
    former = {name for homes in watch.former.homes if homes.version != watch.version for name in homes.cameras}
    levels = [watch.cameras[name].levels for name in case.cameras if name in former and name in watch.cameras]
    seen = sum(len(_places(one, case.level_since)) >= _BLOCKS for one in levels)
    return seen < _enough(case) <= len(levels)


def leave(watch: ModelWatch, at: float) -> None:
    """The champion is about to give way to its successor: remember what was normal for it."""
    if not watch.version:
        return
    if _renamed(watch):
        watch.former.rename()
        return
    known = {one.version for one in watch.former.homes} | {one.version for one in watch.kept if one.was_champion}
    watch.former.leave(watch.version, at, watch.cameras, watch.successor in known)


def end(watch: ModelWatch, case: Case) -> None:
    """An incident is over: remember how it looked."""
    if case.settled is not None:
        watch.former.remember(Earlier(case.id, case.began_at, tuple(case.cameras), case.settled))


def _settled(watch: ModelWatch, case: Case, tolerance: float) -> Condition | None:
    """How it looks since it is level, or which classes have surely changed; None while it is not so lately, too."""
    if case.cause is Cause.LABELS:
        named = bool(case.class_names) and case.state is State.CONFIRMED
        return condition_of(case, watch.cameras) if named else None
    if not case.level_since:
        return None
    condition = condition_of(case, watch.cameras, case.level_since, CAPACITY)
    lately = condition_of(case, watch.cameras, case.level_since, _BLOCKS)
    return condition if lately.is_plain() and condition.holds(lately, tolerance) else None


def _move_on(case: Case, now: float) -> None:
    if case.recurs is not None:
        case.recurs = None
        case.note(now, "recurs no longer", why="the cameras look otherwise again")


def _look_back(watch: ModelWatch, case: Case, condition: Condition, now: float, tolerance: float) -> None:
    known = case.recurs or Recurrence()
    if not known.incident_id and (earlier := _earlier(watch, case, condition, tolerance)) is not None:
        known = replace(known, incident_id=earlier.incident_id, incident_at=earlier.began_at)
        case.note(now, "recurs", why=f"as in incident {earlier.incident_id}")
    if not known.version and (homes := _homes(watch, case, tolerance)) is not None:
        until = max(home.until for home in _known(homes, case).values())
        known = replace(known, version=homes.version, version_at=until)
        case.note(now, "recurs", why=f"version {homes.version} was the champion when the cameras last looked so")
    if known != Recurrence():
        case.recurs = known


def _earlier(watch: ModelWatch, case: Case, condition: Condition, tolerance: float) -> Earlier | None:
    """The newest incident that was so, on at least half of the cameras."""
    for one in reversed(watch.former.conditions):
        shared = len({*one.cameras} & {*case.cameras})
        if shared >= _HALF * len(case.cameras) and one.condition.is_back(condition, tolerance):
            return one
    return None


def _homes(watch: ModelWatch, case: Case, tolerance: float) -> Homes | None:
    """The newest former champion that was at home where at least half of the incident's cameras are now."""
    if _is_homeless(case):
        return None
    for homes in reversed(watch.former.homes):
        if homes.version != watch.version and _is_home(watch, case, _known(homes, case), tolerance):
            return homes
    return None


def _is_homeless(case: Case) -> bool:
    """Whether no former champion can have been at home in it: classes changed, or a camera is broken."""
    return case.cause is Cause.LABELS or beyond_training(case.broken())


def _known(homes: Homes, case: Case) -> dict[str, Home]:
    return {name: homes.cameras[name] for name in case.cameras if name in homes.cameras}


def _is_home(watch: ModelWatch, case: Case, homes: dict[str, Home], tolerance: float) -> bool:
    """Whether the pixels are as they were there, measured by how far they are from what is normal for the champion."""
    apart = noise = size = 0.0
    count = 0
    for name, home in homes.items():
        if name in watch.cameras and (found := _measure(watch.cameras[name], home, case.level_since)) is not None:
            apart, noise, size, count = apart + found[0], noise + found[1], size + found[2], count + 1
    return count >= _enough(case) and near(apart, noise, size, tolerance)


def _measure(camera: CameraWatch, home: Home, since: float) -> tuple[float, float, float] | None:
    """Squared lengths in spreads of `home`: how far a camera's pixels are from there since it is level, what chance
    adds to that, and how far they are from what is normal now; None while too little is seen.
    """
    places = _places(camera.levels, since)
    if camera.reference is None or len(places) < _BLOCKS:
        return None
    times = [camera.levels[n][0] for n in places]
    seen = np.array([camera.levels[n][1] for n in places])
    width = len(PIXELS)
    active = home.active & camera.reference.active[:width] & np.isfinite(seen).all(axis=0)
    there, error = home.expected(times)
    means = np.mean([camera.expected(at)[0][:width] for at in times], axis=0)
    here = camera.reference.centre[:width] + means * camera.reference.scale[:width]
    level, varied = seen.mean(axis=0), seen.var(axis=0, ddof=1) / len(places)
    apart, size = (level - there) / home.spread, (level - here) / home.spread
    noise = varied / home.spread**2 + error**2
    return float((apart[active] ** 2).sum()), float(noise[active].sum()), float((size[active] ** 2).sum())


def _enough(case: Case) -> float:
    return max(_HALF * len(case.cameras), 1.0)


def _places(levels: list[tuple[float, Vector]], since: float) -> list[int]:
    """Of blocks that began after `since`: the first one that ended then began before."""
    return [place for place, (at, _) in enumerate(levels) if at > since][1:]


def _renamed(watch: ModelWatch) -> bool:
    """Whether classes surely mean something else than they did: which ones is known."""
    return any(
        one.cause is Cause.LABELS
        and one.class_names
        and one.harm is Harm.CROSSED
        and one.state is State.CONFIRMED
        and one.scope.kind != ANNOTATOR
        for one in watch.cases
    )
