"""What is said of an incident: its revisions to other services, its alerts to people."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from services.monitor.domain.case import Case, block_seconds
from services.monitor.domain.events import Alert, Cause, DriftFound, Finding, Harm, Outlook, Regain
from services.monitor.domain.fault import said_of
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.probe_events import ProbeVerdict
from services.monitor.domain.retraining import derive

_NAMED = 6  # Cameras named in a sentence.


def say(watch: ModelWatch, case: Case, now: float, policy: Policy) -> Iterator[Finding]:
    """What is news about an incident: to services each revision, to people each stage once."""
    incident = case.news()
    if incident is not None:
        watch.remember(incident)
        yield DriftFound(now, case.traceparent, incident, case.revision)
    if case.is_silent(now):
        return
    if not case.alerts and case.harm is not Harm.CROSSED and _is_settled(watch, case, now, policy):
        yield alert(case, now, "opened", "ticket", f"{case.scope}: {case.model}'s {what(case)} changed")
    if case.harm is Harm.CROSSED and "page" not in case.alerts:
        gain = f"; {case.regain.expected()}" if case.regain else ""
        summary = f"{case.scope}: {case.model} is wrong more often since its {what(case)} changed{gain}"
        yield alert(case, now, "page", "page", summary)
    if _has_moved(case) and "concept" not in case.alerts:
        yield alert(case, now, "concept", "ticket", _moved(case))
    if case.broken() and case.level_since and "fault" not in case.alerts:
        yield alert(case, now, "fault", "ticket", said_of(case.broken()))
    yield from tell_outlook(case, now)


def tell_outlook(case: Case, now: float) -> Iterator[Finding]:
    """Once, when training does not help: something is to be mended."""
    regain = case.regain
    told = "not_recoverable" in case.alerts or case.is_silent(now)
    if regain is not None and regain.outlook is Outlook.NOT_RECOVERABLE and not told:
        summary = f"{case.scope}: {case.model}'s {what(case)} changed; {beyond(regain, case.cause)}"
        yield alert(case, now, "not_recoverable", "ticket", summary)


def beyond(regain: Regain, cause: Cause) -> str:
    """That training does not help, by which figures, and what may."""
    mend = "agree on what the classes mean" if cause is Cause.LABELS else "clean the lens, mend focus or light"
    return (
        f"a retraining regained {regain.share:.0%} of the loss ({regain.low:.0%} to {regain.high:.0%}, "
        f"{regain.labels} held-out assets), so it is not recoverable by training: {mend}"
    )


def _is_settled(watch: ModelWatch, case: Case, now: float, policy: Policy) -> bool:
    """Whether no camera has joined for a while: each had time for two more blocks."""
    since = now - case.widened_at
    if since < policy.fleet.settle_seconds:
        return False
    return since >= 2.0 * block_seconds([watch.cameras[name] for name in case.alarmed if name in watch.cameras])


def _has_moved(case: Case) -> bool:
    return case.probe is not None and case.probe.verdict is ProbeVerdict.MOVED


def _moved(case: Case) -> str:
    assert case.probe is not None
    since = moment(case.began_at)
    names = ", ".join(case.class_names)
    return f"{case.scope}: {case.model}'s classes {names} mean something else since {since}: {case.probe.why}"


def moment(at: float) -> str:
    """UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def what(case: Case) -> str:
    """What has changed, in words."""
    if case.cause is Cause.LABELS:
        return f"classes {', '.join(case.class_names)}" if case.class_names else "labels"
    names = case.cameras[:_NAMED]
    more = f" and {len(case.cameras) - _NAMED} more" if len(case.cameras) > _NAMED else ""
    return f"cameras' picture ({', '.join(names)}{more})"


def alert(case: Case, now: float, code: str, severity: str, summary: str) -> Alert:
    """`code` is opened, page, concept, fault, not_recoverable, closed, that a person is awaited, which stored
    version is proposed, or which revision takes a verdict back: each is told of once.
    """
    case.alerts.append(code)
    word = code.partition(" ")[0]
    kind = word if word in ("opened", "closed", "revised") else "escalated"
    case.note(now, f"told ({severity})", why=summary)
    return Alert(now, case.traceparent, derive("alert", case.id, code), case.model, case.id, severity, summary, kind)
