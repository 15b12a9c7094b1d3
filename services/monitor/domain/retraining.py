"""Whether a retraining is asked for: harm against cost, budget, cooldown, and never two open requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import NAMESPACE_URL, uuid5

from services.monitor.domain.condition import Condition
from services.monitor.domain.events import Incident, Numbers, Refusal, Regain, Request
from services.monitor.domain.inputs import Tried
from services.monitor.domain.policy import RetrainPolicy

DAY = 86400.0
_REMEMBERED = 20  # attempts
_NAMESPACE = uuid5(NAMESPACE_URL, "irisloop/monitor")


def derive(*parts: str) -> str:
    """The same parts give the same id, also after a restart."""
    return str(uuid5(_NAMESPACE, "\x1f".join(parts)))


@dataclass(frozen=True, slots=True)
class Attempt:
    """A request: of which incident, in which condition, the error before that, 0..1, and what its run came to."""

    incident_id: str
    condition: Condition
    healthy: float
    result: Tried | None = None


@dataclass(slots=True)
class Ledger:
    """What was asked for one model, and what became of it. `trained_seconds` is how long its last training took,
    `labels_asked` how many labels had come when the last request was made; `tried` holds attempts by request.
    """

    open: Request | None = None
    asked_at: list[float] = field(default_factory=list)
    closed_at: float = 0.0
    closed_because: str = ""
    attempts: dict[str, int] = field(default_factory=dict)
    trained_seconds: float = 0.0
    labels_asked: int = 0
    tried: dict[str, Attempt] = field(default_factory=dict)

    def remember(self, request_id: str, attempt: Attempt) -> None:
        """Keep what a request was made in."""
        self.tried[request_id] = attempt
        if len(self.tried) > _REMEMBERED:
            del self.tried[next(iter(self.tried))]

    def close(self, request_id: str, at: float, because: str) -> bool:
        """Close the open request, if it is this one."""
        if self.open is None or self.open.id != request_id:
            return False
        self.open, self.closed_at, self.closed_because = None, at, because
        return True

    def expire(self, now: float) -> None:
        """Close a request that nobody answered in time."""
        if self.open is not None and now >= self.open.expires_at:
            self.close(self.open.id, now, "expired")

    def cooldown(self, policy: RetrainPolicy) -> float:
        """Seconds between the end of one request and the next."""
        return max(policy.cooldown_seconds, policy.cooldown_trainings * self.trained_seconds)


@dataclass(frozen=True, slots=True)
class Stake:
    """What is at stake: error above the baseline, predictions a second that it touches, and labels heard so far."""

    excess: float
    predictions_a_second: float
    labels: int = 0
    regain: Regain | None = None

    def cost(self, policy: RetrainPolicy) -> float:
        """Of leaving things as they are over the policy's horizon."""
        return max(self.excess, 0.0) * self.predictions_a_second * policy.horizon_days * DAY * policy.cost_of_error


def weigh(ledger: Ledger, stake: Stake, now: float, policy: RetrainPolicy) -> Numbers:
    """Everything that a decision is made from."""
    asked, regain = bool(ledger.closed_at), stake.regain
    return Numbers(
        excess=stake.excess,
        predictions_a_second=stake.predictions_a_second,
        horizon_days=policy.horizon_days,
        cost_of_error=policy.cost_of_error,
        cost_of_harm=stake.cost(policy),
        cost_of_run=policy.cost_of_run,
        requests_today=sum(1 for at in ledger.asked_at if now - at < DAY),
        budget_a_day=policy.budget_a_day,
        cooldown_left=max(ledger.closed_at + ledger.cooldown(policy) - now, 0.0) if asked else 0.0,
        labels_since=stake.labels - ledger.labels_asked,
        labels_between=policy.labels_between if asked else 0,
        trained_seconds=ledger.trained_seconds,
        regain=regain.share if regain else 0.0,
        regain_low=regain.low if regain else 0.0,
        regain_high=regain.high if regain else 0.0,
        regain_labels=regain.labels if regain else 0,
        regain_by=regain.by if regain else "",
    )


def objection(ledger: Ledger, numbers: Numbers, now: float, policy: RetrainPolicy) -> tuple[str, str] | None:
    """(code, sentence with the numbers) that speaks against asking now, or None."""
    n = numbers
    if ledger.open is not None:
        return "open_request", f"open_request: request {ledger.open.id} is open until its run ends"
    if n.cooldown_left > 0:
        limit = f"less than {ledger.cooldown(policy):.0f} s ago"
        return "cooldown", f"cooldown: the last request was closed ({ledger.closed_because}) {limit}"
    if n.labels_since < n.labels_between:
        return "labels", f"labels: {n.labels_since} of {n.labels_between} new labels have come since the last request"
    if n.requests_today >= n.budget_a_day:
        return "budget", f"budget: {n.requests_today} of {n.budget_a_day} requests of the last 24 h are used"
    if n.cost_of_harm < n.cost_of_run:
        costs = f"the harm costs {n.cost_of_harm:.2f} in {n.horizon_days:g} days, a run {n.cost_of_run:.2f}"
        return "does_not_pay", f"does_not_pay: {costs}"
    if quiet := next((hours for hours in policy.quiet_hours if hours.cover(now)), None):
        return "quiet_hours", f"quiet_hours: no request is made in {quiet}"
    return None


def ask(
    ledger: Ledger, incident: Incident, stake: Stake, since: float, now: float, traceparent: str, policy: RetrainPolicy
) -> Request:
    """Open a request; its id follows from the incident and how often it has been asked for."""
    attempt = ledger.attempts.get(incident.id, 0) + 1
    cost = f"{stake.cost(policy):.2f} in {policy.horizon_days:g} days against {policy.cost_of_run:.2f} for a run"
    touched = f"{stake.predictions_a_second:.1f} predictions a second"
    gain = f"; {stake.regain.expected()}" if stake.regain else ""
    request = Request(
        at=now,
        traceparent=traceparent,
        id=derive("request", incident.model, incident.id, str(attempt)),
        model=incident.model,
        version=incident.version,
        incident_id=incident.id,
        labels_since=since,
        labels_wanted=policy.labels_wanted,
        expires_at=now + policy.expires_seconds,
        reason=f"{incident.cause.name.lower()}: error up by {stake.excess:.3f} on {touched}, {cost}{gain}",
        class_names=incident.class_names,
        cameras=incident.cameras,
        numbers=weigh(ledger, stake, now, policy),
    )
    ledger.open, ledger.attempts[incident.id] = request, attempt
    ledger.asked_at = [*(at for at in ledger.asked_at if now - at < DAY), now]
    ledger.labels_asked = stake.labels
    return request


def refuse(
    incident: Incident, code: str, sentence: str, now: float, traceparent: str, numbers: Numbers | None = None
) -> Refusal:
    """Say no, once for each incident and code."""
    ce_id = derive("refusal", incident.id, code)
    return Refusal(now, traceparent, ce_id, incident.model, incident.id, sentence, numbers)
