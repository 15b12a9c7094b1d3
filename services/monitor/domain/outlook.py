"""Whether a retraining would help an incident: probed while none was tried, known in a condition where one was."""

from __future__ import annotations

from math import sqrt

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case
from services.monitor.domain.condition import Condition, Hopeless
from services.monitor.domain.events import Cause, Outlook, RunEnded, VersionKnown
from services.monitor.domain.fault import recent
from services.monitor.domain.harm import counts
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.regain import RUN, of_run, probe

_MORE = 1.25  # It is probed anew when there are so many times the labels.


def condition_of(case: Case, cameras: dict[str, CameraWatch]) -> Condition:
    """As things stand now: how far the channels of its cameras are from their references, or the classes' names."""
    if case.cause is Cause.LABELS:
        return Condition(case.version, tuple(sorted(case.class_names)), {}, 0.0)
    total: dict[str, float] = {}
    square, count = 0.0, 0
    for camera in (cameras[name] for name in case.cameras if name in cameras):
        shift, error = recent(camera, case.began_at)
        if shift is None or camera.reference is None:
            continue
        count, square = count + 1, square + float((error**2).sum())
        for channel, value in zip(camera.reference.names, shift, strict=True):
            total[channel] = total.get(channel, 0.0) + float(value)
    mean = {channel: value / count for channel, value in sorted(total.items())}
    return Condition(case.version, (), mean, sqrt(square) / max(count, 1))


def hopeless(watch: ModelWatch, case: Case, policy: Policy) -> Hopeless | None:
    """The run that regained too little in the condition that holds now."""
    now = condition_of(case, watch.cameras) if watch.ledger.hopeless else None
    known = watch.ledger.hopeless if now is not None else []
    return next((h for h in known if now and h.condition.holds(now, policy.shape.level_tolerance)), None)


def read_outlook(watch: ModelWatch, case: Case, policy: Policy) -> None:
    """Take what is known by now of an incident that hurts."""
    known = hopeless(watch, case, policy)
    if known is not None:
        case.regain = known.regain
        return
    tried = case.regain is not None and case.regain.by == RUN
    if tried and case.regain is not None and case.regain.outlook is Outlook.RECOVERABLE:
        return
    before, since, settled = counts(watch, case)
    entries = settled or since
    if tried or len(entries) >= _MORE * case.probed:
        case.probed = len(entries)
        case.regain = probe(entries, before, policy.retrain.regain_least)


def learn(watch: ModelWatch, item: RunEnded | VersionKnown, policy: Policy) -> None:
    """A run of a request was held against the champion: what it regained is the answer for its incident, and for any
    other in the same condition.
    """
    attempt = watch.ledger.tried.get(item.request_id)
    if attempt is None or item.tried is None:
        return
    found = of_run(item.tried, attempt.healthy, policy.retrain.regain_least)
    if found is None:
        return
    no = found.outlook is Outlook.NOT_RECOVERABLE
    watch.ledger.conclude(item.request_id, attempt.condition, found, hopeless=no)
    for case in watch.cases:
        if case.id == attempt.incident_id:
            case.regain, case.understood = found, ()
            said = f"{found.share:.0%} of the loss ({found.low:.0%} to {found.high:.0%})"
            case.note(item.at, "tried", why=f"a retraining regained {said} on {found.labels} held-out assets")
