"""Whether to ask for a retraining because of an incident, and why not; each is said once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.monitor.domain.case import Case
from services.monitor.domain.events import Cause, Finding, Harm, Outlook
from services.monitor.domain.fault import beyond_training, said_of
from services.monitor.domain.harm import undecided
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.outlook import condition_of, of_runs
from services.monitor.domain.policy import Policy
from services.monitor.domain.probing import awaited
from services.monitor.domain.recurring import is_open, stored_for
from services.monitor.domain.retraining import Attempt, Stake, ask, objection, refuse, weigh
from services.monitor.domain.telling import alert, beyond, moment, what

AWAITS_PERSON = "awaits_person"
STORED_MODEL = "stored_model"


def stake(watch: ModelWatch, case: Case, now: float, policy: Policy) -> Stake:
    """The error above the baseline and the traffic of the drifted cameras: of all incidents that one run mends
    together. A camera counts once, by the incident that hurts it most.
    """
    excess: dict[str, float] = {}
    for one in [case, *_mended_with(watch, case, now, policy)]:
        for name in one.cameras:
            if name in watch.cameras:
                excess[name] = max(excess.get(name, _excess(one)), _excess(one))
    rates = {name: watch.cameras[name].rate() for name in excess}
    touched = sum(rates.values())
    mean = sum(excess[name] * rate for name, rate in rates.items()) / touched if touched > 0.0 else _excess(case)
    return Stake(mean, touched, watch.book.count, case.regain)


def _mended_with(watch: ModelWatch, case: Case, now: float, policy: Policy) -> list[Case]:
    """Other incidents of the same kind that surely hurt, and that a retraining is meant for."""
    return [
        other
        for other in watch.cases
        if other is not case
        and other.harm is Harm.CROSSED
        and (other.cause is Cause.LABELS) == (case.cause is Cause.LABELS)
        and not (other.plan_id or beyond_training(other.broken()) or awaited(other, policy.probe))
        and stored_proposal(watch, other, now, policy) is None
        and not (other.regain is not None and other.regain.outlook is Outlook.NOT_RECOVERABLE)
        and not (other.answer is not None and not other.answer.approved)
    ]


def _excess(case: Case) -> float:
    return case.risk.current_error - case.risk.baseline_error if case.risk else 0.0


def decide(watch: ModelWatch, case: Case, now: float, policy: Policy) -> Iterator[Finding]:
    """Ask for a retraining, or say why not."""
    if case.requested and watch.ledger.open is not None:
        return
    if case.plan_id:
        yield from refuse_once(
            watch, case, "planned", f"planned: the change was announced (plan {case.plan_id})", now, policy
        )
        return
    if awaited(case, policy.probe):
        yield from refuse_once(
            watch, case, "awaits_probe", "awaits_probe: people are asked whether old answers still hold", now, policy
        )
        return
    known_at = max(case.detected_at, case.probe.told_at if case.probe is not None else 0.0)
    if now - known_at < policy.shape.level_wait_seconds and (why := _unsure(watch, case, policy)):
        yield from refuse_once(watch, case, *why, now, policy)
        return
    if (stored := stored_proposal(watch, case, now, policy)) is not None:
        case.proposed_at = case.proposed_at or now
        yield from refuse_once(watch, case, *stored, now, policy)
        yield from _ticket(case, stored[0], f"{case.scope}: {case.model}'s {what(case)} changed; {stored[1]}", now)
        return
    numbers = weigh(watch.ledger, stake(watch, case, now, policy), now, policy.retrain)
    no = _beyond_training(watch, case, policy) or objection(watch.ledger, numbers, now, policy.retrain)
    no = no or _person(case, policy)
    if no is not None:
        yield from refuse_once(watch, case, *no, now, policy)
        if no[0] == AWAITS_PERSON:
            yield from _ticket(case, AWAITS_PERSON, _question(watch, case, now, policy), now)
        return
    together = [case, *(other for other in _mended_with(watch, case, now, policy) if other.level_since)]
    since = max(one.level_since or now for one in together)
    cameras = tuple(sorted({name for one in together for name in one.cameras}))
    incident = replace(case.incident(), cameras=cameras)
    request = ask(watch.ledger, incident, stake(watch, case, now, policy), since, now, case.traceparent, policy.retrain)
    healthy = case.risk.baseline_error if case.risk else 0.0
    watch.ledger.remember(request.id, Attempt(case.id, condition_of(case, watch.cameras), healthy))
    case.requested += 1
    watch.note(request)
    yield request


def _ticket(case: Case, code: str, summary: str, now: float) -> Iterator[Finding]:
    """For people, once."""
    if code not in case.alerts and not case.is_silent(now):
        yield alert(case, now, code, "ticket", summary)


def stored_proposal(watch: ModelWatch, case: Case, now: float, policy: Policy) -> tuple[str, str] | None:
    """(code, sentence) while a former champion should be tried before a retraining: it was at home in what is seen now,
    and going back costs nothing.
    """
    wait, version = policy.retrain.stored_wait_seconds, stored_for(watch, case)
    since = case.proposed_at or now
    if not version or now - since >= wait:
        return None
    command = f"irisloop models promote {case.model} {version}"
    return f"{STORED_MODEL}/{version}", (
        f"{STORED_MODEL}: version {version} was the champion when the cameras last looked so: {command}; "
        f"a retraining is decided on from {moment(since + wait)} on"
    )


def _beyond_training(watch: ModelWatch, case: Case, policy: Policy) -> tuple[str, str] | None:
    """(code, sentence) when something is to be mended instead: it is seen to be broken, or training was tried. The
    latter is said anew for each condition in which it was tried.
    """
    if beyond_training(case.broken()):
        return "camera_fault", f"camera_fault: {said_of(case.broken())}"
    request, regain = of_runs(watch, case, policy)
    if regain is not None and regain.outlook is Outlook.NOT_RECOVERABLE:
        return f"not_recoverable/{request}", f"not_recoverable: {beyond(regain, case.cause)}"
    return None


def _person(case: Case, policy: Policy) -> tuple[str, str] | None:
    """(code, sentence) while the policy wants a person's word and there is none, or it was no."""
    if case.answer is not None and not case.answer.approved:
        return "person_refused", f"person_refused: {case.answer.by}: {case.answer.reason or 'no reason given'}"
    if policy.retrain.approval and case.answer is None:
        return AWAITS_PERSON, f"{AWAITS_PERSON}: a retraining would pay; the policy leaves it to a person"
    return None


def _question(watch: ModelWatch, case: Case, now: float, policy: Policy) -> str:
    numbers = weigh(watch.ledger, stake(watch, case, now, policy), now, policy.retrain)
    costs = (
        f"the harm costs {numbers.cost_of_harm:.2f} in {numbers.horizon_days:g} days, a run {numbers.cost_of_run:.2f}"
    )
    return f"{case.model}: retraining would pay ({costs}); approve or refuse it"


def _unsure(watch: ModelWatch, case: Case, policy: Policy) -> tuple[str, str] | None:
    """(code, sentence) of what has to settle before it is known what a retraining should be made of."""
    if not case.level_since:
        return (
            "not_level",
            "not_level: the channels are not level yet; trained in the middle of a change it would not fit",
        )
    if policy.retrain.stored_wait_seconds and is_open(watch, case):
        return "not_compared", "not_compared: it is open whether a former champion was at home in what is seen now"
    if undecided(watch, case):
        return "not_told_apart", "not_told_apart: it is open whether the classes have changed for every camera"
    return None


def refuse_once(
    watch: ModelWatch, case: Case, code: str, sentence: str, now: float, policy: Policy
) -> Iterator[Finding]:
    """Decline, once for each reason."""
    if code not in case.refused:
        case.refused.append(code)
        numbers = weigh(watch.ledger, stake(watch, case, now, policy), now, policy.retrain)
        refusal = refuse(case.incident(), code, sentence, now, case.traceparent, numbers)
        watch.note(refusal)
        yield refusal
