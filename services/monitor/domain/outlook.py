"""Whether a retraining would help an incident: probed while none was tried, known in a condition where one was."""

from __future__ import annotations

from dataclasses import replace
from math import sqrt

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case
from services.monitor.domain.condition import Condition
from services.monitor.domain.events import Cause, Regain
from services.monitor.domain.fault import NEWEST, recent
from services.monitor.domain.harm import counts
from services.monitor.domain.inputs import RunEnded, VersionKnown
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.regain import RUN, of_run, probe, together

_MORE = 1.25  # It is probed anew when there are so many times the labels.


def condition_of(case: Case, cameras: dict[str, CameraWatch], since: float = 0.0, most: int = NEWEST) -> Condition:
    """As things stand now, by the newest `most` blocks of each camera that began after `since` (0: after the change
    began): how far the channels of its cameras are from their references, or the classes' names; where no class is
    named, the incident stands for itself.
    """
    if case.cause is Cause.LABELS:
        return Condition(case.version, tuple(sorted(case.class_names)) or (case.id,), {}, 0.0)
    total: dict[str, float] = {}
    square, count = 0.0, 0
    for camera in (cameras[name] for name in case.cameras if name in cameras):
        shift, error = recent(camera, since or case.began_at, most)
        if shift is None or camera.reference is None:
            continue
        count, square = count + 1, square + float((error**2).sum())
        for channel, value in zip(camera.reference.names, shift, strict=True):
            total[channel] = total.get(channel, 0.0) + float(value)
    mean = {channel: value / count for channel, value in sorted(total.items())}
    return Condition(case.version, (), mean, sqrt(square) / max(count, 1))


def of_runs(watch: ModelWatch, case: Case, policy: Policy) -> tuple[str, Regain | None]:
    """The last request that was tried in the condition that holds now, and what runs in it regained together."""
    tried = {key: one for key, one in watch.ledger.tried.items() if one.result is not None}
    if not tried:
        return "", None
    now = condition_of(case, watch.cameras)
    alike = {key: one for key, one in tried.items() if one.condition.holds(now, policy.shape.level_tolerance)}
    if not alike:
        return "", None
    healthy = sum(one.healthy for one in alike.values()) / len(alike)
    results = [one.result for one in alike.values() if one.result is not None]
    return [*alike][-1], of_run(together(results), healthy, policy.retrain.regain_least)


def read_outlook(watch: ModelWatch, case: Case, policy: Policy) -> None:
    """Take what is known by now of an incident that hurts: what runs regained, else what a probe does."""
    _, known = of_runs(watch, case, policy)
    if known is not None:
        case.regain = known
        return
    tried = case.regain is not None and case.regain.by == RUN
    before, since, settled = counts(watch, case)
    entries = settled or since
    if tried or len(entries) >= _MORE * case.probed:
        case.probed = len(entries)
        case.regain = probe(entries, before, policy.retrain.regain_least)


def learn(watch: ModelWatch, item: RunEnded | VersionKnown, policy: Policy) -> None:
    """A run of a request was held against the champion: the answer for its incident, and for any in its condition."""
    attempt = watch.ledger.tried.get(item.request_id)
    if attempt is None or item.tried is None:
        return
    first = attempt.result is None
    watch.ledger.tried[item.request_id] = replace(attempt, result=item.tried)
    found = of_run(item.tried, attempt.healthy, policy.retrain.regain_least)
    for case in watch.cases:
        if case.id == attempt.incident_id and found is not None:
            case.understood = ()
            case.regain = of_runs(watch, case, policy)[1] or found
            if first:
                said = f"{found.share:.0%} of the loss ({found.low:.0%} to {found.high:.0%})"
                case.note(item.at, "tried", why=f"a retraining regained {said} on {found.labels} held-out assets")
