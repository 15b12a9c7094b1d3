"""What was said about models over a stretch of time, and what it was worth: what really happened, or what would have.

The value of a request follows from the numbers it was made with: the new version is taken to be right again as often as
the baseline, from one training after the request until the change would have ended, the horizon is over, or the
recording ends. That is an estimate; nobody knows what a version that was never trained would have answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

from services.monitor.domain.events import Alert, DriftFound, Finding, Harm, Incident, Refusal, Request, State
from services.monitor.domain.inputs import RunEnded
from services.monitor.domain.policy import Policy

DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Worth:
    """Of one request, in the policy's currency; None where it was made before numbers were part of it."""

    request: Request
    live_at: float
    until: float
    harm_avoided: float | None
    cost: float

    @property
    def saved(self) -> float | None:
        """Less than 0 where the run cost more than it was good for."""
        return None if self.harm_avoided is None else self.harm_avoided - self.cost


@dataclass(slots=True)
class Course:
    """Everything said from `since` until before `until`, in order; `incidents` holds the last word about each."""

    since: float = 0.0
    until: float = float("inf")
    model: str = ""
    first: dict[str, DriftFound] = field(default_factory=dict)
    incidents: dict[str, Incident] = field(default_factory=dict)
    alerts: list[Alert] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)

    def take(self, findings: Iterable[Finding]) -> None:
        """Note what was said."""
        for finding in findings:
            model = finding.incident.model if isinstance(finding, DriftFound) else finding.model
            if self.since <= finding.at < self.until and self.model in ("", model):
                self._note(finding)

    def _note(self, finding: Finding) -> None:
        if isinstance(finding, DriftFound):
            self.first.setdefault(finding.incident.id, finding)
            self.incidents[finding.incident.id] = finding.incident
        elif isinstance(finding, Alert):
            self.alerts.append(finding)
        elif isinstance(finding, Request):
            self.requests.append(finding)
        elif isinstance(finding, Refusal):
            self.refusals.append(finding)

    def confirmed(self) -> int:
        """Incidents that were ever sure to hurt."""
        return sum(i.harm is Harm.CROSSED or i.state is State.CONFIRMED for i in self.incidents.values())

    def worth(self, policy: Policy, training: float, end: float) -> list[Worth]:
        """What each request was good for, when a training takes `training` seconds and the recording ends at `end`."""
        return [self._worth(request, policy, training, end) for request in self.requests]

    def _worth(self, request: Request, policy: Policy, training: float, end: float) -> Worth:
        rules = policy.of(request.model).retrain
        live = request.at + training
        until = max(min(live + rules.horizon_days * DAY, end), live)
        n = request.numbers
        touched = None if n is None else max(n.excess, 0.0) * n.predictions_a_second * (until - live)
        avoided = None if touched is None else touched * rules.cost_of_error
        return Worth(request, live, until, avoided, rules.cost_of_run)


def training_seconds(requests: Sequence[Request], ended: Iterable[RunEnded], otherwise: float) -> float:
    """The median time from a recorded request to the end of its run, labelling included; `otherwise` without one."""
    asked = {request.id: request.at for request in requests}
    found = [e.at - asked[e.request_id] for e in ended if e.request_id in asked and e.at >= asked[e.request_id]]
    return float(median(found)) if found else otherwise
