"""One model in production: its champion's cameras and labels, its incident if there is one, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case
from services.monitor.domain.challenge.trial import Trial
from services.monitor.domain.events import Cause, Incident, Refusal, Request, State
from services.monitor.domain.fleet.absence import Absence
from services.monitor.domain.fleet.patience import steps_of
from services.monitor.domain.former import Former
from services.monitor.domain.ground import Ground
from services.monitor.domain.inputs import (
    CHAMPION,
    DIRECT,
    UNIFORM,
    Deployed,
    Labelled,
    RolloutKnown,
    Seen,
    VersionKnown,
)
from services.monitor.domain.labels import Joined, LabelBook, LabelWatch
from services.monitor.domain.lineup import Kept, References, champion_before, exchange, keep
from services.monitor.domain.policy import Policy
from services.monitor.domain.recency import Recent
from services.monitor.domain.retraining import Ledger
from services.monitor.domain.risk import Count

_SWITCH = (
    30  # So many predictions in a row by another version, and it is the champion: replicas swap at different times.
)
_HISTORY = 100
_REPORTS = 20


@dataclass(slots=True)
class ModelWatch:
    """All state about a model. Only the champion is judged; what other roles said is counted `apart`, and references of
    their versions are built from it.
    """

    model: str
    version: str = ""
    seen: int = 0
    repeated: int = 0
    apart: dict[str, int] = field(default_factory=dict)
    successor: str = ""
    successor_run: int = 0
    references: References = field(default_factory=References)
    kept: list[Kept] = field(default_factory=list)
    recent: Recent = field(default_factory=Recent)
    book: LabelBook = field(default_factory=LabelBook)
    labels: LabelWatch = field(default_factory=LabelWatch)
    reports: dict[str, Count] = field(default_factory=dict)
    deployments: dict[str, str] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    """Open incidents, in the order in which they were opened."""
    absences: list[Absence] = field(default_factory=list)
    """Open incidents of cameras that are silent or flood."""
    presence_due: float = 0.0
    """When they are looked for next."""
    looks: int = 0
    """Blocks that cameras have completed."""
    gathered: tuple[int, ...] = ()
    doubted: dict[str, float] = field(default_factory=dict)
    """Annotators whose answers stand alone, and since when they are left out."""
    listening_since: float = 0.0
    """Capture time since which labels may speak against an annotator, though an incident of labels has been found
    harmless meanwhile: what speaks against somebody must not begin anew with each. 0: there was none.
    """
    anchor: float = 0.0
    """Capture time from which labels are no baseline: a change began then whose harm could not be decided, and further
    ones are held against the error before it. 0: there was none.
    """
    ledger: Ledger = field(default_factory=Ledger)
    incidents: list[Incident] = field(default_factory=list)
    decisions: list[Request | Refusal] = field(default_factory=list)
    trial: Trial | None = None
    grounds: dict[str, Ground] = field(default_factory=dict)
    """What the newest verdicts on harm rest on, by incident."""
    former: Former = field(default_factory=Former)
    """What was seen before."""

    def see(self, item: Seen, policy: Policy) -> bool:
        """Take a prediction; True when the champion has changed with it: the caller closes what is open, then
        `adopt`s.
        """
        if not self.recent.fresh(item.ce_id):
            self.repeated += 1
            return False
        if item.role != CHAMPION:
            self.apart[item.role] = self.apart.get(item.role, 0) + 1
            apart = item.camera_id and item.role != DIRECT and item.version != self.version
            if apart and (kept := keep(self.kept, item.version, item.at)) is not None:
                kept.see(item, policy, self.cameras)
            return False
        self.seen += 1
        if item.version != self.version:
            return self._other_version(item.version)
        self.successor_run = 0
        if item.camera_id:
            self._watch(item, policy)
        return False

    def _other_version(self, version: str) -> bool:
        self.successor_run = self.successor_run + 1 if version == self.successor else 1
        self.successor = version
        return not self.version or self.successor_run >= _SWITCH

    def adopt(self, policy: Policy) -> None:
        """The successor is the champion: it is watched by what was learnt of it in shadow, or learns anew."""
        self.references = exchange(self.kept, self.version, self.successor, self.references)
        self.version, self.successor, self.successor_run = self.successor, "", 0
        self.labels = LabelWatch(self._report(policy))
        self.doubted, self.listening_since, self.anchor = {}, 0.0, 0.0

    def _report(self, policy: Policy) -> Count:
        report = self.reports.get(self.version, Count())
        weight = min(report.labels, float(policy.labels.report_weight))
        return Count(report.error * weight, weight)

    @property
    def cameras(self) -> dict[str, CameraWatch]:
        """The champion's cameras, by id."""
        return self.references.cameras

    def _watch(self, item: Seen, policy: Policy) -> None:
        known = self.cameras.get(item.camera_id)
        was = State.LEARNING if known is None else known.state
        camera = self.references.see(item, policy, champion_before(self.kept))
        if camera is None:
            return
        self.looks += 1
        if was < State.ALARM <= camera.state:
            camera.trigger = (item.asset_id, item.traceparent)
        camera.steps = steps_of(camera, policy) if camera.state >= State.ALARM else 0.0

    def label(self, item: Labelled, policy: Policy) -> Joined | None:
        """Take a label; the one joined to it when it is news about the present champion."""
        self.book.capacity = policy.labels.remembered
        known = self.book.entries.get(item.asset_id)
        joined = self.book.join(item, self.model)
        if joined is not None and known is not None:
            for ground in self.grounds.values():
                ground.amend(known, joined)
        if joined is None or not joined.truth or joined.version != self.version:
            return None
        if known is None and joined.origin == UNIFORM:
            self._watch_label(joined, policy)
            if self.labels.alarmed() and not self.labels.trigger[0]:
                self.labels.trigger = (item.asset_id, item.traceparent)
        return joined

    def _watch_label(self, joined: Joined, policy: Policy) -> None:
        if self._untouched(joined):
            self.labels.update(joined, policy.labels)
        elif joined.annotator not in self.doubted:
            self.labels.set_aside(joined)

    def labels_in(self, frames: float) -> float:
        """How many uniform labels come while each camera sends so many frames: a false incident of labels is to be as
        rare as one of cameras, however many labels a fleet has.
        """
        seen = sum(camera.frames for camera in self.cameras.values())
        return frames * self.labels.labels * len(self.cameras) / seen if seen else 0.0

    def _untouched(self, label: Joined) -> bool:
        """Whether a label is still watched: not while an incident, of labels or of its camera, explains it, and not
        when its annotator's answers stand alone.
        """
        explained = any(c.cause is Cause.LABELS or label.camera_id in c.cameras for c in self.cases)
        return not explained and label.annotator not in self.doubted

    def know(self, item: VersionKnown, policy: Policy) -> None:
        """Registry judged a version: remember its error on held-out assets, and close the request it answers."""
        if item.assets:
            self.reports[item.version] = Count(item.error * item.assets, float(item.assets))
            if len(self.reports) > _REPORTS:
                del self.reports[next(iter(self.reports))]
            if item.version == self.version:
                self.labels.report = self._report(policy)
        if item.request_id:
            self.ledger.close(item.request_id, item.at, f"version {item.version} {item.verdict}")

    def deploy(self, item: Deployed) -> None:
        """A replica holds another version for the champion's role, or none any more."""
        if CHAMPION in item.roles and item.state == "loaded":
            self.deployments[item.replica] = item.version
        elif item.state == "unloaded" and self.deployments.get(item.replica) == item.version:
            del self.deployments[item.replica]

    def roll_out(self, item: RolloutKnown, policy: Policy) -> None:
        """Registry named the rollout under way: another one is judged anew, a later stage of the same one goes on."""
        if not (item.id and item.champion and item.challenger) or item.champion == item.challenger:
            self.trial = None
            return
        known = self.trial.rollout if self.trial else None
        same = known and (known.id, known.champion, known.challenger) == (item.id, item.champion, item.challenger)
        if self.trial is None or not same:
            self.trial = Trial.begin(item, policy.challenge)
        self.trial.go_on(item)

    @property
    def case(self) -> Case | None:
        """The open incident that matters most: the surest, then the one that hurts, then the oldest."""
        return max(self.cases, key=lambda c: (c.state, c.harm, -c.detected_at), default=None)

    def watched(self) -> list[CameraWatch]:
        """Cameras that could alarm."""
        return [c for c in self.cameras.values() if c.reference is not None]

    def alarmed(self) -> list[CameraWatch]:
        """Cameras in ALARM, by id."""
        return [self.cameras[name] for name in sorted(self.cameras) if self.cameras[name].state >= State.ALARM]

    def explained(self) -> dict[str, Case]:
        """Which open incident explains a camera's alarm."""
        return {name: case for case in self.cases for name in case.alarmed}

    def state(self) -> State:
        """The incident's while there is one, else the furthest camera's."""
        if self.case is not None:
            return self.case.state
        return max((c.state for c in self.cameras.values()), default=State.LEARNING)

    def camera_state(self, camera: CameraWatch) -> State:
        """CONFIRMED when an incident that it is part of is."""
        return max(camera.state, *(c.state for c in self.cases if camera.camera_id in c.cameras), State.LEARNING)

    def remember(self, incident: Incident) -> None:
        """Keep the newest word about an incident."""
        self.incidents = [*[i for i in self.incidents if i.id != incident.id][1 - _HISTORY :], incident]

    def note(self, decision: Request | Refusal) -> None:
        """Keep a decision."""
        self.decisions = [*self.decisions[1 - _HISTORY :], decision]
