"""Explains an incident: why it was raised, which channels and frames show it, what would end it, what is not known."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.errors import Unavailable
from services.monitor import wire
from services.monitor.domain.channels import has_frames
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Cause, Evidence, Harm, Incident, Outlook, Shape
from services.monitor.domain.history import Example, History, Near, Span
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.probe_events import ProbeVerdict
from services.monitor.domain.regain import RUN
from services.monitor.domain.retraining import derive
from services.monitor.errors import UnknownIncident
from services.monitor.handlers import Judge
from services.monitor.views import words
from services.monitor.views.charts import furthest

FRAMES: Final = 3
"""Examples before and after."""
CHANNELS: Final = 5
"""Sentences about channels; the others are in the incident's evidence."""
_WINDOW_S: Final = 3_600.0
_SEVERITIES: Final = ("page", "ticket")


@dataclass(frozen=True, slots=True)
class Known:
    """What the judge says of an incident: copied under its lock."""

    incident: Incident
    clears: tuple[str, ...]


async def explain(judge: Judge, history: History, request: pb.ExplainIncidentRequest) -> pb.ExplainIncidentResponse:
    """`id` is an incident's or an alert's. Raises `UnknownIncident`."""
    known = await asyncio.to_thread(judge.look, lambda engine: find(engine, request.id))
    unknown = list(unknowns(known.incident))
    before: list[pb.ExampleFrame] = []
    after: list[pb.ExampleFrame] = []
    try:
        before, after = await _frames(history, known.incident)
        missing = "Frames: analytics hold none of that time any more, or not yet."
    except Unavailable as error:
        missing = f"Frames of before and after: {error}."
    before = before or _of_faults(known.incident, "before_asset_id")
    after = after or _of_faults(known.incident, "after_asset_id")
    if not (before and after):
        unknown.append(missing)
    return pb.ExplainIncidentResponse(
        incident=wire.incident_message(known.incident),
        why=list(reasons(known.incident)),
        before=before,
        after=after,
        clears=known.clears,
        unknown=unknown,
    )


def find(engine: Engine, wanted: str) -> Known:
    """By the id of the incident or of an alert about it. Raises `UnknownIncident`."""
    for name in sorted(engine.models):
        watch = engine.models[name]
        open_now = [case.incident() for case in watch.cases]
        for incident in [*open_now, *reversed(watch.incidents)]:
            if wanted in (incident.id, *(derive("alert", incident.id, severity) for severity in _SEVERITIES)):
                return Known(incident, tuple(clears(engine, watch, incident)))
    raise UnknownIncident(f"the monitor remembers no incident or alert {wanted!r}", field="id")


def reasons(incident: Incident, *, channels: bool = True) -> Iterator[str]:
    """Why it was raised, in sentences; those about channels only if wanted."""
    if words.is_presence(incident):
        yield from (f"Presence: {text}." for text in words.broken(incident.faults))
        yield from _over(incident)
        return
    yield f"Cause: {words.CAUSES[incident.cause]}."
    yield from (f"Broken: {text}." for text in words.broken(incident.faults))
    yield from _since(incident)
    for one in furthest(incident.evidence)[:CHANNELS] if channels else ():
        yield f"{words.moved(one)}."
    if incident.class_names:
        yield f"Classes: {words.listed(incident.class_names)}."
    yield from _probe(incident)
    yield from _harm(incident)
    yield from _regain(incident)
    yield f"Shape: {words.SHAPES[incident.shape]}."
    yield from _recurs(incident)
    yield from _over(incident)


def _over(incident: Incident) -> Iterator[str]:
    if incident.closed_at:
        yield f"Over since {words.moment(incident.closed_at)}."


def _since(incident: Incident) -> Iterator[str]:
    late = incident.detected_at - incident.began_at
    if incident.began_at:
        yield (
            f"Since {words.moment(incident.began_at)} by estimate; alarmed {words.moment(incident.detected_at)}, "
            f"{words.length(late)} later, on {words.listed(incident.cameras)}."
        )
    if incident.level_since:
        yield f"Complete: the channels are level again since {words.moment(incident.level_since)}."


def _probe(incident: Incident) -> Iterator[str]:
    probe = incident.probe
    if probe is not None and not _is_moot(incident):
        yield f"Old answers, {words.PROBES[probe.verdict]}{f' ({probe.why})' if probe.why else ''}."
        if probe.annotator:
            yield f"{probe.annotator} answers otherwise than the others; those answers are left out."


def _is_moot(incident: Incident) -> bool:
    """Whether it ended before its probe did."""
    probe = incident.probe
    return probe is not None and probe.verdict is ProbeVerdict.ASKED and bool(incident.closed_at)


def _harm(incident: Incident) -> Iterator[str]:
    yield f"Harm: {words.HARMS[incident.harm]}."
    risk = incident.risk
    if risk is not None:
        yield (
            f"Labelled error {words.percent(risk.baseline_error)} before, {words.percent(risk.current_error)} since "
            f"({risk.current_labels} labels; 95 % interval {words.percent(risk.current_low)} to "
            f"{words.percent(risk.current_high)})."
        )


def _regain(incident: Incident) -> Iterator[str]:
    regain = incident.regain
    if regain is None:
        return
    span = f"{words.percent(regain.share)} of it (90 % interval {words.percent(regain.low)} to "
    how = (
        f"A retraining regained {span}{words.percent(regain.high)}; {regain.labels} held-out assets)"
        if regain.by == RUN
        else f"What answers and features still tell regains {span}{words.percent(regain.high)}; {regain.labels} "
        "labels), a retraining no less"
    )
    yield f"Of the loss: {words.OUTLOOKS[regain.outlook]}. {how}."


def _recurs(incident: Incident) -> Iterator[str]:
    recurs = incident.recurs
    if recurs is not None and recurs.incident_id:
        yield f"As in incident {recurs.incident_id}, which began {words.moment(recurs.incident_at)}."
    if recurs is not None and recurs.version:
        yield (
            f"The pixels are as version {recurs.version}, then the champion, last saw them "
            f"{words.moment(recurs.version_at)}: irisloop models promote {incident.model} {recurs.version}."
        )


def clears(engine: Engine, watch: ModelWatch, incident: Incident) -> Iterator[str]:
    """What would end an incident that is open, with how far that is."""
    if any(absence.id == incident.id for absence in watch.absences):
        yield "Frames: each of its cameras sends as usual again."
    if not any(case.id == incident.id for case in watch.cases):
        return
    if incident.plan_id:
        yield "The end of the planned change that it is part of: its cameras then learn anew what is normal."
        return
    harm = engine.policy.harm
    yield (
        f"Labels that show no harm: at least {harm.labels_min} labels of the changed condition, with an error above "
        f"the former by less than {words.percent(harm.none_below)} for sure; it is then learnt as the new normal."
    )
    if incident.cause is not Cause.LABELS and incident.evidence:
        quiet = {name: watch.cameras[name].quiet_frames for name in incident.cameras if name in watch.cameras}
        so_far = words.listed([f"{name} {frames}" for name, frames in quiet.items()])
        yield (
            f"Quiet: {harm.clear_frames} frames of each camera with every channel below half of its threshold; so far: "
            f"{so_far or 'none'}."
        )
    yield f"Another champion than version {incident.version}: it begins with a reference of its own."


def unknowns(incident: Incident) -> Iterator[str]:
    """What is not known of it."""
    if words.is_presence(incident):
        return
    if incident.harm is Harm.UNKNOWN:
        labels = incident.risk.current_labels if incident.risk else 0
        yield f"Whether it hurts: {labels} labels of the changed cameras so far do not decide."
    if incident.harm is Harm.CROSSED and (incident.regain is None or incident.regain.outlook is Outlook.UNKNOWN):
        yield "Whether a retraining would help: that is known once one was tried."
    if incident.shape is Shape.UNKNOWN:
        yield "How it came: too few blocks since it began."
    if not incident.level_since and not incident.closed_at:
        yield "Whether the change is complete: the channels are not level yet."
    probe = incident.probe
    if probe is not None and probe.verdict is ProbeVerdict.ASKED and not incident.closed_at:
        yield (
            f"Whether the classes mean something else: {probe.suspected + probe.others} old answers were given again "
            f"so far; they are waited for until {words.moment(probe.until)}."
        )
    elif not incident.evidence and probe is not None and incident.cause is not Cause.LABELS:
        yield "What moved in the pictures: no channel stands out, labels alone tell that the model errs."
    elif not incident.evidence and incident.cause is not Cause.LABELS:
        yield "Which channels moved: their evidence is no longer kept."


async def _frames(history: History, incident: Incident) -> tuple[list[pb.ExampleFrame], list[pb.ExampleFrame]]:
    began, end = incident.began_at or incident.detected_at, incident.closed_at or incident.detected_at + _WINDOW_S
    before, after = Span(began - _WINDOW_S, began), Span(began, max(end, began + 1.0))
    best = _telling(incident)
    if best is None:
        asked = [("labelled_error", before, 0.0), ("labelled_error", after, 1.0)]
    else:
        asked = [(best.channel, before, best.reference_mean), (best.channel, after, best.current_mean)]
    found = []
    for channel, span, value in asked:
        cameras = [best.camera_id] if best is not None and best.camera_id else list(incident.cameras)
        near = Near(cameras, span, channel, 1.0 if channel.startswith("class.") else value)
        examples = await history.near(incident.model, incident.version, near, FRAMES)
        found.append([_example(one, channel) for one in examples])
    return found[0], found[1]


def _of_faults(incident: Incident, which: str) -> list[pb.ExampleFrame]:
    """What the judge itself remembers of a broken camera: one frame of each side, without its numbers."""
    named = [(getattr(fault, which), fault.camera_id) for fault in incident.faults]
    return [pb.ExampleFrame(asset_id=asset, camera_id=camera) for asset, camera in named[:FRAMES] if asset]


def _telling(incident: Incident) -> Evidence | None:
    """The channel that moved furthest; None where labels tell."""
    inputs = [e for e in incident.evidence if has_frames(e.channel)]
    if incident.cause is Cause.LABELS or not inputs:
        return None
    return max(inputs, key=lambda e: abs(e.shift_sigma))


def _example(one: Example, channel: str) -> pb.ExampleFrame:
    return pb.ExampleFrame(
        asset_id=one.asset_id,
        camera_id=one.camera_id,
        captured_at=wire.stamp(one.captured_at),
        class_name=one.class_name,
        score=one.score,
        channel=channel,
        value=one.value,
    )
