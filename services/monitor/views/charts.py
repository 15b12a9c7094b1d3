"""The facts behind each picture: gathered here, drawn elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Final

from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor import quality, wire
from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.channels import has_frames
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Evidence, Incident
from services.monitor.domain.history import Decided, History, Line, Release, Span
from services.monitor.domain.inputs import CHAMPION
from services.monitor.domain.quality.measures import risk
from services.monitor.domain.quality.tally import Tally
from services.monitor.domain.runlength import correlation_time
from services.monitor.errors import UnknownModel
from services.monitor.handlers import Judge

CAMERAS: Final = 6
"""Lines in one picture: more cannot be told apart."""
CHANNELS: Final = 4
PARTS: Final = 120
SIGMAS: Final = 3.0
QUALITY_PARTS: Final = 24
_USUAL: Final = ("pixels.brightness", "pixels.contrast", "pixels.sharpness", "max_probability")
_HOUR_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What a picture or report is of; an empty camera means all, an empty version the champion's."""

    model: str
    span: Span
    camera: str = ""
    version: str = ""
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Band:
    """Where means of a channel of a camera lie while nothing has changed: at `times` (two or more, ascending) `means`
    plus or minus `halves`, in the channel's unit. Half a band is `SIGMAS` standard errors of the mean of as many frames
    as a part has, and of what is not known of that hour.
    """

    camera_id: str
    channel: str
    version: str
    times: tuple[float, ...]
    means: tuple[float, ...]
    halves: tuple[float, ...]

    @property
    def since(self) -> float:
        """Where it begins."""
        return self.times[0]

    @property
    def until(self) -> float:
        """Where it ends."""
        return self.times[-1]


@dataclass(frozen=True, slots=True)
class Mark:
    """Something on the time axis; `kind` is began, alarm, over, release, requested or declined."""

    at: float
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class ChannelChart:
    """Channels over time, one line a camera; `left_out` counts cameras that are not shown."""

    model: str
    span: Span
    channels: Sequence[str]
    cameras: Sequence[str]
    lines: Sequence[Line]
    bands: Sequence[Band]
    marks: Sequence[Mark]
    parts: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Point:
    """Accuracy over [begin, end) with its interval, 0..1; `sure`: the interval may be looked at any time."""

    version: str
    begin: float
    end: float
    labels: int
    accuracy: float
    low: float
    high: float
    sure: bool = True


@dataclass(frozen=True, slots=True)
class QualityChart:
    """Accuracy over time: by uniformly drawn labels, and without labels; `unknown` says why a kind is missing."""

    model: str
    span: Span
    labelled: Sequence[Point]
    free: Sequence[Point]
    marks: Sequence[Mark]
    unknown: Sequence[str]


@dataclass(frozen=True, slots=True)
class Chronicle:
    """Incidents, releases and decisions of a span, as the time axis shows them."""

    incidents: Sequence[Incident]
    releases: Sequence[Release]
    decisions: Sequence[Decided]

    def marks(self, span: Span) -> list[Mark]:
        """Those inside of the span, the earliest first."""
        found = [
            *(mark for incident in self.incidents for mark in _marks(incident)),
            *(Mark(r.since, "release", f"version {r.version}") for r in self.releases),
            *(Mark(d.at, d.decision, d.decision) for d in self.decisions),
        ]
        return sorted((m for m in found if span.since <= m.at < span.until), key=lambda m: (m.at, m.kind))


def _marks(incident: Incident) -> Iterable[Mark]:
    yield Mark(incident.began_at, "began", "began")
    yield Mark(incident.detected_at, "alarm", "alarm")
    if incident.closed_at:
        yield Mark(incident.closed_at, "over", "over")


async def chronicle(judge: Judge, history: History, asked: Asked) -> Chronicle:
    """What the judge remembers, with its evidence, and what analytics alone still know. Raises `UnknownModel`,
    `AnalyticsClosed`.
    """
    fresh = await asyncio.to_thread(judge.look, lambda engine: _remembered(engine, asked.model))
    kept = await history.incidents(asked.model, asked.span)
    releases, decisions = await history.releases(asked.model), await history.decisions(asked.model, asked.span)
    if fresh is None and not releases:
        raise UnknownModel(f"nothing has been heard of model {asked.model!r}", field="model")
    known = {one.id: one for one in kept} | {one.id: one for one in fresh or ()}
    chosen = [one for one in known.values() if touches(one, asked)]
    return Chronicle(sorted(chosen, key=lambda i: (-i.detected_at, i.id)), releases, decisions)


def touches(incident: Incident, asked: Asked) -> bool:
    """Whether it was open in the span, on the camera if one is named."""
    over = incident.closed_at or asked.span.until
    here = incident.detected_at < asked.span.until and over >= asked.span.since
    return here and (not asked.camera or asked.camera in incident.cameras)


def _remembered(engine: Engine, model: str) -> list[Incident] | None:
    watch = engine.models.get(model)
    if watch is None:
        return None
    return [*watch.incidents, *(case.incident() for case in watch.cases)]


async def shown(history: History, asked: Asked) -> Span:
    """The span, cut to where the model was at work: an empty margin tells nothing. Raises `AnalyticsClosed`."""
    return await history.extent(asked.model, [asked.camera] if asked.camera else [], asked.span) or asked.span


async def channels(judge: Judge, history: History, asked: Asked, story: Chronicle) -> ChannelChart:
    """Raises `InvalidMessage` for a channel that there is not, `AnalyticsClosed`."""
    asked = replace(asked, span=await shown(history, asked))
    evidence = await asyncio.to_thread(judge.look, lambda engine: _evidence(engine, asked.model))
    names = list(asked.channels) or _telling(story.incidents, evidence)
    every = await history.cameras(asked.model, asked.span)
    moved = [name for incident in story.incidents for name in incident.cameras]
    chosen = (
        [asked.camera] if asked.camera else list(dict.fromkeys([*(n for n in moved if n in every), *every]))[:CAMERAS]
    )
    lines = await history.lines(asked.model, chosen, names, asked.span, PARTS) if chosen else []
    bands = await asyncio.to_thread(judge.look, lambda engine: _bands(engine, lines, story, asked))
    return ChannelChart(
        asked.model, asked.span, names, chosen, lines, bands, story.marks(asked.span), PARTS,
        0 if asked.camera else len(every) - len(chosen),
    )  # fmt: skip


def _evidence(engine: Engine, model: str) -> list[Evidence]:
    watch = engine.models.get(model)
    return [e for c in watch.cameras.values() for e in c.evidence(CHANNELS)] if watch is not None else []


def _telling(incidents: Sequence[Incident], evidence: Sequence[Evidence]) -> list[str]:
    """The channels that moved furthest, in incidents first, then of what is watched now."""
    told = [e for incident in incidents for e in incident.evidence]
    names = [e.channel for several in (told, evidence) for e in furthest(several) if has_frames(e.channel)]
    return list(dict.fromkeys([*names, *_USUAL]))[:CHANNELS]


def furthest(evidence: Iterable[Evidence]) -> list[Evidence]:
    """Those that alarm first, then by how far they moved: statistics are capped, shifts are not."""
    return sorted(evidence, key=lambda e: (e.statistic < e.threshold, -abs(e.shift_sigma)))


def _bands(engine: Engine, lines: Sequence[Line], story: Chronicle, asked: Asked) -> list[Band]:
    """By the present reference since it is learnt, by the evidence of incidents before."""
    watch = engine.models.get(asked.model)
    if watch is None:
        return []
    found = []
    for line in lines:
        camera = watch.cameras.get(line.camera_id)
        frames = max(sorted(line.frames.values())[len(line.frames) // 2], 1)
        present = _present(camera, line, watch.version, frames, asked.span) if camera is not None else None
        found += [present] if present is not None else []
        rho = camera.reference.rho if camera is not None and camera.reference is not None else 0.0
        factor = SIGMAS * (correlation_time(rho) / frames) ** 0.5
        found += _former(line, story, factor, asked.span, present.since if present is not None else asked.span.until)
    return found


def _present(camera: CameraWatch, line: Line, version: str, frames: int, span: Span) -> Band | None:
    """What is expected of the camera at each part's time of day; None of a channel that is not watched."""
    reference, begin = camera.reference, max(camera.learning_since, span.since)
    if reference is None or line.channel not in reference.names or begin >= span.until:
        return None
    place = reference.names.index(line.channel)
    if not reference.active[place]:
        return None
    scale, centre = float(reference.scale[place]), float(reference.centre[place])
    noise = correlation_time(reference.rho) / frames
    inside = [edge for edge in span.bins(PARTS) if begin < edge < span.until]
    times = (begin, *inside, span.until)
    over = (span.until - span.since) / PARTS
    expected = [camera.expected(at, over) for at in times]
    return Band(
        line.camera_id, line.channel, version, times,
        tuple(centre + float(means[place]) * scale for means, _ in expected),
        tuple(SIGMAS * float(reference.deviation[place]) * scale * sqrt(noise + error**2) for _, error in expected),
    )  # fmt: skip


def _former(line: Line, story: Chronicle, factor: float, span: Span, end: float) -> Iterable[Band]:
    """What an incident was held against, from its version's release to its end: its level, as no more is kept."""
    for incident in story.incidents:
        released = next((r.since for r in story.releases if r.version == incident.version), span.since)
        since, until = max(released, span.since), min(incident.closed_at or end, end, span.until)
        for one in incident.evidence:
            if (one.camera_id, one.channel) == (line.camera_id, line.channel) and one.shift_sigma and since < until:
                half = factor * (one.current_mean - one.reference_mean) / one.shift_sigma
                mean = one.reference_mean
                yield Band(line.camera_id, line.channel, incident.version, (since, until), (mean, mean), (half, half))


async def quality_over_time(judge: Judge, history: History, asked: Asked, story: Chronicle) -> QualityChart:
    """Raises `UnknownModel`, `AnalyticsClosed`."""
    asked = replace(asked, span=await shown(history, asked))
    cameras = [asked.camera] if asked.camera else []
    edges = asked.span.bins(QUALITY_PARTS)
    alpha = await asyncio.to_thread(judge.look, lambda engine: engine.policy.quality.alpha)
    scored = await history.scored(asked.model, cameras, asked.span, QUALITY_PARTS)
    labelled = [_point(s.version, edges[s.part], edges[s.part + 1], s.drawn, alpha) for s in scored]
    labelled = [p for p in labelled if p.labels and asked.version in ("", p.version)]
    free, unknown = await _label_free(judge, asked)
    if not labelled:
        unknown.insert(0, "Accuracy by labels: no label of a frame drawn at random in this time.")
    return QualityChart(asked.model, asked.span, labelled, free, story.marks(asked.span), unknown)


def _point(version: str, begin: float, end: float, drawn: Tally, alpha: float) -> Point:
    found = risk(drawn, alpha)
    return Point(
        version, begin, end, found.labels, 1.0 - found.weighted, 1.0 - found.high, 1.0 - found.low, not found.corrected
    )


async def _label_free(judge: Judge, asked: Asked) -> tuple[list[Point], list[str]]:
    """By whole hours of capture, for which alone it is calibrated."""
    answer = await quality.answer(judge, quality_request(asked, "hour"))
    points, why = [], dict[str, int]()
    for one in answer.segments:
        free, begin = one.label_free, wire.seconds(one.hour)
        if free.unknown:
            why[free.unknown] = why.get(free.unknown, 0) + 1
        elif one.predictions:
            points.append(Point(one.version, begin, begin + _HOUR_S, 0, free.accuracy, free.low, free.high))
    return points, [f"Accuracy without labels, {hours} h: {text}." for text, hours in why.items()]


def quality_request(asked: Asked, by: str = "") -> pb.GetQualityRequest:
    """The champion's quality in the whole hours that overlap the span."""
    return pb.GetQualityRequest(
        model=asked.model, version=asked.version, role=CHAMPION, camera_id=asked.camera, by=by, limit=1000,
        since=wire.stamp(asked.span.since), until=wire.stamp(asked.span.until),
    )  # fmt: skip


async def of_labels(judge: Judge, asked: Asked) -> pb.Quality | None:
    """One version's counts: the one asked for, else the champion's, else those with most labels; None where there is
    no label. Raises `UnknownModel`.
    """
    champion = await asyncio.to_thread(judge.look, lambda engine: _champion(engine, asked.model))
    answer = await quality.answer(judge, quality_request(asked))
    found = [one for one in answer.segments if one.labels]
    return max(found, key=lambda one: (one.version == champion, one.labels), default=None)


def _champion(engine: Engine, model: str) -> str:
    return engine.models[model].version if model in engine.models else ""
