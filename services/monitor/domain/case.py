"""An incident while it is open: what is believed about it so far, and what has been said."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.channels import group
from services.monitor.domain.condition import Condition
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import (
    NOWHERE,
    CameraFault,
    Cause,
    Evidence,
    Happening,
    Harm,
    Incident,
    Recurrence,
    Regain,
    Risk,
    Scope,
    Shape,
    State,
)
from services.monitor.domain.inputs import Answered
from services.monitor.domain.policy import ShapePolicy
from services.monitor.domain.probe import Probe
from services.monitor.domain.probe_events import ProbeWord
from services.monitor.domain.shape import Fit, fit, is_level, mixes

_POINTS = 900
_RECENT_BLOCKS = 6
_HISTORY = 60
_STEADY_BLOCKS = 4  # A level found again so near is the same one.


@dataclass(slots=True)
class Case:
    """Open from the first alarm until a new version, harmlessness or quiet closes it."""

    id: str
    model: str
    version: str
    traceparent: str
    trigger_asset_id: str
    detected_at: float
    cause: Cause
    state: State = State.ALARM
    harm: Harm = Harm.UNKNOWN
    shape: Shape = Shape.UNKNOWN
    began_at: float = 0.0
    level_since: float = 0.0
    cameras: list[str] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)
    evidence: list[Evidence] = field(default_factory=list)
    risk: Risk | None = None
    closed_at: float = 0.0
    revision: int = 0
    said: Incident | None = None
    alerts: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    requested: int = 0
    suspected: float = 0.0
    undecidable: bool = False
    alarmed: list[str] = field(default_factory=list)
    """Cameras whose alarms it explains; no other incident does."""
    widened_at: float = 0.0
    last_alarm_at: float = 0.0
    scope: Scope = NOWHERE
    acknowledged_at: float = 0.0
    acknowledged_by: str = ""
    muted_until: float = 0.0
    plan_id: str = ""
    history: list[Happening] = field(default_factory=list)
    understood: tuple[int, ...] = ()
    """What it was understood from: while that is the same, so is the understanding."""
    faults: list[CameraFault] = field(default_factory=list)
    answer: Answered | None = None
    one_voice: bool = False
    """One annotator's labels explain it best, and not so surely that they could be named."""
    heard: float = 0.0
    """Labels there were when it would have been over, were it not for that."""
    probe: Probe | None = None
    """Old answers asked for again, where labels are the cause."""
    regain: Regain | None = None
    probed: int = 0
    """Labels that the probe of `regain` had."""
    settled: Condition | None = None
    """How its cameras look since it is level."""
    recurs: Recurrence | None = None
    proposed_at: float = 0.0
    """When the stored version was proposed; 0: none was."""

    def incident(self) -> Incident:
        """As it stands, for others."""
        return Incident(
            id=self.id,
            model=self.model,
            version=self.version,
            state=self.state,
            cause=self.cause,
            harm=self.harm,
            shape=self.shape,
            began_at=self.began_at,
            detected_at=self.detected_at,
            level_since=self.level_since,
            cameras=tuple(self.cameras),
            class_names=tuple(self.class_names),
            evidence=tuple(self.evidence),
            risk=self.risk,
            closed_at=self.closed_at,
            trigger_asset_id=self.trigger_asset_id,
            scope=self.scope,
            acknowledged_at=self.acknowledged_at,
            acknowledged_by=self.acknowledged_by,
            muted_until=self.muted_until,
            plan_id=self.plan_id,
            history=tuple(self.history),
            faults=tuple(self.broken()),
            probe=self.probe.word() if self.probe is not None else None,
            regain=self.regain,
            recurs=self.recurs,
        )

    def broken(self) -> list[CameraFault]:
        """What is broken, while a camera is the cause."""
        return self.faults if self.cause is Cause.CAMERA else []

    def note(self, at: float, what: str, by: str = "monitor", why: str = "") -> None:
        """Add a line to its history; the first and the newest are kept."""
        self.history.append(Happening(at, what, by, why))
        if len(self.history) > _HISTORY:
            del self.history[1]

    def is_silent(self, now: float) -> bool:
        """Whether nobody is to be told of it: it is muted, or somebody announced it."""
        return bool(self.plan_id) or now < self.muted_until

    def news(self) -> Incident | None:
        """The incident, when something about it that others act on has changed since it was last said."""
        now = self.incident()
        if self.said is not None and _essence(now) == _essence(self.said):
            return None
        self.said, self.revision = now, self.revision + 1
        return now


def _essence(incident: Incident) -> Incident:
    scope = Scope(incident.scope.kind, incident.scope.value)
    faults = tuple(replace(fault, since=0.0, before_asset_id="") for fault in incident.faults)
    probe = incident.probe and ProbeWord(incident.probe.id, incident.probe.verdict, 0, 0, 0, 0, "", "", 0.0, 0.0)
    regain = replace(incident.regain, share=0.0, low=0.0, high=0.0, labels=0) if incident.regain else None
    return replace(
        incident, began_at=0.0, evidence=(), risk=None, faults=faults, scope=scope, probe=probe, regain=regain
    )


def drifted_trace(cameras: list[CameraWatch]) -> tuple[Vector, Vector, Vector, int]:
    """Times, shift along each camera's direction of change, variance along it, all (n,), and frames in a block.

    The shift is scaled so that a camera's present state is 1 and its reference 0.
    """
    parts = []
    for camera in cameras:
        means = camera.trace.matrix()
        direction = means[-_RECENT_BLOCKS:].mean(axis=0)
        length = float(direction @ direction)
        if length <= 0.0 or camera.reference is None:
            continue
        weight = direction**2 / length
        spread = np.array(camera.trace.spreads, dtype=np.float64) @ weight
        parts.append((np.array(camera.trace.times), means @ direction / length, spread, np.array(camera.trace.frames)))
    if not parts:
        return np.empty(0), np.empty(0), np.empty(0), 0
    times, shift, spread, frames = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(times, kind="stable")
    return times[order], shift[order], spread[order], int(frames.mean())


def thin(values: Vector, size: int) -> Vector:
    """Means of consecutive groups of `size`."""
    usable = len(values) // size * size
    grouped: Vector = values[:usable].reshape(-1, size).mean(axis=1)
    return grouped


def read_shape(case: Case, cameras: list[CameraWatch], policy: ShapePolicy) -> Fit | None:
    """Estimate begin, shape and level of an input drift, anew until somebody acts on it: a second change may follow."""
    times, shift, spread, frames = drifted_trace(cameras)
    size = max(len(times) // _POINTS, 1)
    times, shift, spread = thin(times, size), thin(shift, size), thin(spread, size)
    found = fit(times, shift, block_seconds(cameras))
    if found is None:
        return None
    case.began_at = min(found.begin, case.detected_at)
    case.shape = found.shape
    change = found.after - found.before
    if found.shape is Shape.INCREMENTAL and mixes(times, spread, found.begin, found.end, _change_in_sigma(cameras)):
        case.shape = Shape.GRADUAL
    after = int((times > found.end).sum()) * size * frames
    level = after >= policy.level_frames and is_level(times, shift, found.end, change, policy.level_tolerance)
    steady = abs(case.level_since - found.end) <= _STEADY_BLOCKS * block_seconds(cameras)
    if not level:
        case.level_since = 0.0
    elif not (case.level_since and steady):
        case.level_since = found.end
    return found


def block_seconds(cameras: list[CameraWatch]) -> float:
    """How long a block of the slowest of these cameras lasts; 0 while none is known."""
    gaps = [float(np.median(np.diff(c.trace.times))) for c in cameras if len(c.trace.times) > 1]
    return max(gaps, default=0.0)


def _change_in_sigma(cameras: list[CameraWatch]) -> float:
    """The mean present shift along the direction of change, in standard deviations of a frame."""
    sizes = []
    for camera in cameras:
        if camera.trace.means and camera.reference is not None:
            direction = camera.trace.matrix()[-_RECENT_BLOCKS:].mean(axis=0)
            weight = direction**2 / max(float(direction @ direction), 1e-9)
            sizes.append(float(np.sqrt(weight @ direction**2 / max(camera.block, 1))))
    return float(np.mean(sizes)) if sizes else 0.0


def read_cause(case: Case, drifted: list[CameraWatch], watched: int, moving: int, alone: bool = True) -> Cause:
    """Camera when the picture of a few cameras changed and the others stand still, else scene; a change of labels
    stays one.

    A picture that changed moves the pixels; or, framed otherwise, the embedding and the model's confidence. Where the
    mix of classes moves furthest and the model is as sure as ever, other things pass before a good camera.
    `alone`: they have no place in common, they are one or share what a camera is.
    """
    if case.cause is Cause.LABELS:
        return Cause.LABELS
    few = watched >= 3 and moving <= max(1, watched // 3)
    alarmed = [e for c in drifted for e in c.evidence(64) if e.statistic >= e.threshold]
    seen = any(group(e.channel) in ("pixels", "confidence") for e in alarmed)
    furthest = max(alarmed, key=lambda e: e.statistic / e.threshold, default=None)
    picture = seen or (furthest is not None and group(furthest.channel) != "classes")
    return Cause.CAMERA if few and alone and picture else Cause.SCENE
