"""Verdicts on harm are held to their labels, and revised when these were corrected: in the open, and once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from services.monitor.domain.case import Case
from services.monitor.domain.events import Alert, DriftFound, Finding, Happening, Harm, State
from services.monitor.domain.ground import Ground
from services.monitor.domain.harm import by_labels, counts, hold
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.retraining import derive
from services.monitor.domain.telling import alert


def revise(watch: ModelWatch, now: float, policy: Policy) -> Iterator[Finding]:
    """Judge anew what was corrected since the last look."""
    for ground in list(watch.grounds.values()):
        if ground.corrected == ground.judged:
            continue
        ground.judged = ground.corrected
        found = ground.verdict(policy.harm)
        if found is ground.harm:
            continue
        case = next((c for c in watch.cases if c.id == ground.incident_id), None)
        if case is None:
            yield from _revise_closed(watch, ground, found, now)
        elif not _stands_anyway(watch, case, policy):
            yield from _revise_open(watch, case, ground, found, now)


def _stands_anyway(watch: ModelWatch, case: Case, policy: Policy) -> bool:
    """Whether all labels that there are by now say the same: then the verdict rests on these."""
    if by_labels(watch, case, counts(watch, case), policy) is not Harm.CROSSED:
        return False
    hold(watch, case)
    return True


def _revise_open(watch: ModelWatch, case: Case, ground: Ground, found: Harm, now: float) -> Iterator[Finding]:
    del watch.grounds[case.id]
    why = _why(watch, ground, found)
    case.harm, case.suspected, case.understood = found, 0.0, ()
    case.risk = ground.evidence()
    if case.state is State.CONFIRMED:
        case.state = State.ALARM
    case.note(now, "revised", why=why)
    if "page" in case.alerts and not case.is_silent(now):
        yield alert(case, now, f"revised {case.revision}", "ticket", f"{case.model}: {why}")


def _revise_closed(watch: ModelWatch, ground: Ground, found: Harm, now: float) -> Iterator[Finding]:
    """It stays closed: what became of its cameras since is another matter. People and services hear of it."""
    known = next((i for i in watch.incidents if i.id == ground.incident_id), None)
    if known is None:
        del watch.grounds[ground.incident_id]
        return
    why = _why(watch, ground, found)
    history = (*known.history, Happening(now, "revised", "monitor", why))
    incident = replace(known, harm=found, risk=ground.evidence(), history=history)
    ground.harm, ground.revision = found, ground.revision + 1
    watch.remember(incident)
    yield DriftFound(now, ground.traceparent, incident, ground.revision)
    identity = derive("alert", incident.id, f"revised {ground.revision}")
    summary = f"{watch.model}: {why}"
    yield Alert(now, ground.traceparent, identity, watch.model, incident.id, "ticket", summary, "revised")


def _why(watch: ModelWatch, ground: Ground, found: Harm) -> str:
    error = ground.evidence()
    said = (
        f"{ground.corrected} of the labels that harm was judged {ground.harm.name.lower()} by were corrected or taken "
        f"back: as they stand now the error is {error.current_error:.3f} after {error.baseline_error:.3f}, and harm "
        f"{found.name.lower()}"
    )
    asked = watch.ledger.open
    if asked is not None and asked.incident_id == ground.incident_id and found is not Harm.CROSSED:
        return f"{said}; request {asked.id} stays open, and its ground is gone"
    return said
