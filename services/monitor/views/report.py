"""Gathers everything that a report says of a model and a time: what is not known is gathered, too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.errors import Unavailable
from services.monitor import quality
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Evidence, Incident, Request, State
from services.monitor.domain.history import Count, Decided, History, Release, Told
from services.monitor.errors import UnknownModel
from services.monitor.handlers import Judge
from services.monitor.views import charts, explaining, pictures, words


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the model stands now, by the judge."""

    version: str
    state: State
    cameras: Sequence[tuple[str, State, int]]
    open_incident: Incident | None
    open_request: str
    as_of: float


@dataclass(frozen=True, slots=True)
class Story:
    """An incident with its sentences."""

    incident: Incident
    why: Sequence[str]
    clears: Sequence[str]
    moved: Sequence[Evidence]


@dataclass(slots=True)
class Report:
    """All of it; `pictures` are drawn later, in a thread, as (title, words beneath, figure)."""

    asked: charts.Asked
    verdict: Verdict | None = None
    stories: Sequence[Story] = ()
    releases: Sequence[Release] = ()
    decisions: Sequence[Decided] = ()
    alerts: Sequence[Told] = ()
    total: Sequence[pb.Quality] = ()
    by_camera: Sequence[pb.Quality] = ()
    labels: pb.LabelAccount = field(default_factory=pb.LabelAccount)
    pipeline: Sequence[Count] = ()
    pictures: list[tuple[str, str, pictures.Drawing]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


async def gather(judge: Judge, history: History, asked: charts.Asked) -> Report:
    """Raises `UnknownModel` when neither the judge nor analytics have heard of the model."""
    report = Report(asked)
    report.verdict = await asyncio.to_thread(judge.look, lambda engine: _verdict(engine, asked.model))
    if report.verdict is None:
        report.unknown.append("The verdict: this instance does not judge the model, or has not heard of it yet.")
    story = await _chronicle(judge, history, asked, report)
    await _tell(judge, story, report)
    await _quality(judge, asked, report)
    await _from_history(judge, history, asked, story, report)
    await _from_labels(judge, asked, report)
    return report


def _verdict(engine: Engine, model: str) -> Verdict | None:
    watch = engine.models.get(model)
    if watch is None:
        return None
    cameras = [(name, watch.camera_state(camera), camera.frames) for name, camera in sorted(watch.cameras.items())]
    incident = watch.case.incident() if watch.case is not None else None
    request = watch.ledger.open.id if watch.ledger.open is not None else ""
    return Verdict(watch.version, watch.state(), cameras, incident, request, engine.clock)


async def _chronicle(judge: Judge, history: History, asked: charts.Asked, report: Report) -> charts.Chronicle:
    """From analytics and the judge; from the judge alone where analytics are closed."""
    try:
        return await charts.chronicle(judge, history, asked)
    except Unavailable as error:
        if report.verdict is None:
            raise UnknownModel(f"nothing has been heard of model {asked.model!r}", field="model") from error
        report.unknown.append(f"Channels, accuracy over time, releases and counts of the pipeline: {error}.")
        return await asyncio.to_thread(judge.look, lambda engine: _judges_own(engine, asked))


def _judges_own(engine: Engine, asked: charts.Asked) -> charts.Chronicle:
    watch = engine.models[asked.model]
    known = {one.id: one for one in [*watch.incidents, *(case.incident() for case in watch.cases)]}
    chosen = [one for one in known.values() if charts.touches(one, asked)]
    made = [
        Decided(d.id, d.model, d.incident_id, "requested" if isinstance(d, Request) else "declined", d.reason, d.at)
        for d in watch.decisions
        if asked.span.since <= d.at < asked.span.until
    ]
    return charts.Chronicle(sorted(chosen, key=lambda i: (-i.detected_at, i.id)), (), made[::-1])


async def _tell(judge: Judge, story: charts.Chronicle, report: Report) -> None:
    def tell(engine: Engine) -> list[Story]:
        watch = engine.models.get(report.asked.model)
        told = []
        for one in story.incidents:
            ends = list(explaining.clears(engine, watch, one)) if watch is not None else []
            moved = sorted(one.evidence, key=lambda e: -abs(e.shift_sigma))
            told.append(Story(one, list(explaining.reasons(one, channels=False)), ends, moved))
        return told

    report.stories = await asyncio.to_thread(judge.look, tell)
    report.releases, report.decisions = story.releases, story.decisions
    for one in story.incidents:
        report.unknown += [f"{words.moment(one.detected_at)}: {text}" for text in explaining.unknowns(one)]


async def _quality(judge: Judge, asked: charts.Asked, report: Report) -> None:
    try:
        total = await quality.answer(judge, charts.quality_request(asked))
        by_camera = await quality.answer(judge, charts.quality_request(asked, "camera"))
    except UnknownModel:
        report.unknown.append("Quality by labels: this instance counts none for the model.")
        return
    report.total, report.by_camera, report.labels = total.segments, by_camera.segments, total.labels
    if by_camera.left_out:
        report.unknown.append(f"Quality of {by_camera.left_out} more cameras and versions: only 1,000 are shown.")
    if not any(one.labels for one in total.segments):
        report.unknown.append("Accuracy, classes, confusion and calibration: no label in this time.")
    for one in total.segments:
        if one.label_free.unknown:
            report.unknown.append(f"Accuracy of version {one.version} without labels: {one.label_free.unknown}.")
        if one.labels and not one.risk.anytime_valid:
            report.unknown.append(
                f"Whether the interval of version {one.version} covers when looked at often: labels in it were "
                "corrected, withdrawn or forgotten."
            )


async def _from_history(
    judge: Judge, history: History, asked: charts.Asked, story: charts.Chronicle, report: Report
) -> None:
    try:
        report.pipeline = await history.pipeline(asked.model, [asked.camera] if asked.camera else [], asked.span)
        report.alerts = await history.alerts(asked.model, asked.span)
        channels = await charts.channels(judge, history, asked, story)
    except Unavailable:
        return  # It is said already why.
    report.pictures.append(("Channels over time", _CHANNELS, pictures.figure_of(channels)))
    try:
        over_time = await charts.quality_over_time(judge, history, asked, story)
    except UnknownModel:
        return
    report.pictures.append(("Accuracy over time", _QUALITY, pictures.figure_of(over_time)))
    if not over_time.labelled:
        report.unknown.append(over_time.unknown[0])


async def _from_labels(judge: Judge, asked: charts.Asked, report: Report) -> None:
    for one in report.total:
        if one.labels:
            for kind in ("confusion", "calibration"):
                drawing = await pictures.of_labels(judge, kind, replace(asked, version=one.version))
                report.pictures.append((f"{kind.capitalize()} of version {one.version}", "", drawing))


_CHANNELS: Final = (
    "Means of equal parts of the time in which the champion answered. The grey band is where they lie while nothing "
    "has changed: three standard errors about the means of the reference. Lines: begin (estimated), alarm and end of "
    "incidents, releases, retrainings asked for and declined."
)
_QUALITY: Final = (
    "By labels: frames drawn uniformly at random, weighted by one over their probability; bars are anytime-valid 95 % "
    "confidence sequences, so they may be looked at after every label. Without labels: calibrated confidence by whole "
    "hours with its 90 % interval, only where labels have covered such confidence."
)
