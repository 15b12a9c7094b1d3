"""A fleet of synthetic cameras at sites, with causes that touch some of them, and annotators: seeded inputs to the
judge's engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import FEATURES, WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Finding, Incident
from services.monitor.domain.inputs import CameraKnown, Commanded, Input, Labelled, PredictionOf, Seen, VersionKnown
from services.monitor.domain.probe_events import ProbeRequest
from tests.unit.monitor.old_answers import OldAnswers
from tests.unit.monitor.worlds import CLASSES, EPOCH, policy

Batch: TypeAlias = list[tuple[str, bool, Input]]
Channels: TypeAlias = Mapping[str, float]

LABEL_DELAY: Final = 3 * 3600.0
ERROR: Final = 0.1


@dataclass(frozen=True, slots=True)
class Cause:
    """What happens to some cameras between two frames: channels move by so many standard deviations, the error
    becomes another, two classes change places; `tag` is set on a camera as it is touched, `stagger` frames after the
    one before.
    """

    name: str
    cameras: tuple[int, ...]
    begin: int
    end: int = 10**9
    channels: Channels = field(default_factory=dict)
    error: float = ERROR
    swapped: tuple[int, int] | None = None
    tag: tuple[str, str] | None = None
    stagger: float = 0.0

    def touched(self, frame: int) -> list[int]:
        """Cameras that it touches at a frame."""
        if frame >= self.end:
            return []
        return [c for n, c in enumerate(self.cameras) if frame >= self.begin + n * self.stagger]


@dataclass(slots=True)
class Fleet:
    """Cameras take turns over `sites`; each sends a frame every `gap` seconds. `labelled` of the frames are drawn for a
    label, and `drawn` of those that open incidents touch. `wrong` says how often an annotator errs, from `wrong_from`
    on.
    """

    seed: int
    cameras: int
    sites: int
    frames: int
    causes: tuple[Cause, ...] = ()
    commands: tuple[Commanded, ...] = ()
    gap: float = 900.0
    labelled: float = 0.02
    drawn: float = 0.3
    annotators: int = 5
    wrong: Mapping[int, float] = field(default_factory=dict)
    wrong_from: int = 0
    findings: list[Finding] = field(default_factory=list)
    old: OldAnswers = field(init=False)
    now: int = 0
    """The newest frame."""
    _open: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _heard: int = 0
    _slips: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        names = [f"annotator-{n}" for n in range(self.annotators)]
        self.old = OldAnswers(self._named_now, names, LABEL_DELAY)
        self._slips = np.random.default_rng([23, self.seed])

    def _named_now(self, label: Labelled, who: str) -> str:
        """What an annotator calls an old frame by the names that are in force, with the usual slips of theirs."""
        name, camera = CLASSES.index(label.class_name), int(label.camera_id.rpartition("-")[2])
        for cause in self.causes:
            if cause.swapped is not None and name in cause.swapped and camera in cause.touched(self.now):
                name = sum(cause.swapped) - name
        slip = self.wrong.get(int(who.rpartition("-")[2]), 0.0) if self.now >= self.wrong_from else 0.0
        if self._slips.random() < slip:
            name = (name + int(self._slips.integers(1, 10))) % 10
        return CLASSES[name]

    def time(self, frame: int, camera: int = 0) -> float:
        """When a camera's frame was captured."""
        return EPOCH + (frame + camera / self.cameras) * self.gap

    def site(self, camera: int) -> str:
        """Where a camera stands."""
        return f"site-{camera % self.sites}"

    def of_site(self, site: int) -> tuple[int, ...]:
        """The cameras there."""
        return tuple(c for c in range(self.cameras) if c % self.sites == site)

    def run(self, engine: Engine | None = None) -> Engine:
        """Judge all of it."""
        engine = engine or Engine.new(policy())
        for batch in self.batches():
            self.findings += engine.feed(batch)
        self.findings += engine.drain()
        return engine

    def incidents(self) -> list[Incident]:
        """The newest word about each incident, in order of their begin."""
        newest = {f.incident.id: f.incident for f in self.findings if isinstance(f, DriftFound)}
        return list(newest.values())

    def batches(self) -> Iterator[Batch]:
        """All inputs in order of event time, a frame of each camera at once."""
        rng = np.random.default_rng(self.seed)
        gain = rng.uniform(0.7, 1.3, self.cameras)
        waiting: list[Labelled] = []
        commands = sorted(self.commands, key=lambda c: c.at)
        told: dict[int, tuple[tuple[str, str], ...]] = {}
        yield [("registry/0", False, self._report())]
        for frame in range(self.frames):
            batch: Batch = [(f"cameras/{c % 6}", False, k) for c, k in self._news(frame, told)]
            while commands and commands[0].at <= self.time(frame):
                batch.append(("commands/0", False, commands.pop(0)))
            batch += self._frame(rng, frame, gain, waiting)
            self.now, now = frame, self.time(frame, self.cameras - 1)
            ready = [one for one in waiting if one.at <= now]
            waiting = [one for one in waiting if one.at > now]
            for one in ready:
                self.old.note(one)
            yield [*batch, *(("labels/0", False, one) for one in [*ready, *self.old.due(now)])]

    def _report(self) -> VersionKnown:
        return VersionKnown(EPOCH - 10, "report", "", "m", "1", "", "accepted", ERROR, 2000)

    def _news(self, frame: int, told: dict[int, tuple[tuple[str, str], ...]]) -> Iterator[tuple[int, CameraKnown]]:
        """What ingest says of cameras that are new, or have another tag."""
        for camera in range(self.cameras):
            tags = {"firmware": "1.0"}
            for cause in self.causes:
                if cause.tag is not None and camera in cause.touched(frame):
                    tags[cause.tag[0]] = cause.tag[1]
            labels = tuple(sorted({**tags, "site": self.site(camera)}.items()))
            if told.get(camera) != labels:
                told[camera] = labels
                at = self.time(frame, camera)
                yield camera, CameraKnown(at, f"k{frame}-{camera}", "", f"camera-{camera}", labels)

    def _frame(
        self, rng: np.random.Generator, frame: int, gain: NDArray[np.float64], waiting: list[Labelled]
    ) -> Iterator[tuple[str, bool, Input]]:
        features = rng.normal(size=(self.cameras, WIDTH))
        error = np.full(self.cameras, ERROR)
        swapped: dict[int, tuple[int, int]] = {}
        for cause in self.causes:
            for camera in cause.touched(frame):
                error[camera] = max(error[camera], cause.error)
                for name, shift in cause.channels.items():
                    features[camera, FEATURES.index(name)] += shift * gain[camera]
                if cause.swapped is not None:
                    swapped[camera] = cause.swapped
        truth = rng.integers(0, len(CLASSES), self.cameras)
        chance = rng.random((self.cameras, 4))
        open_ = self._open_cameras()
        for camera in range(self.cameras):
            t = int(truth[camera])
            said = t if chance[camera, 0] >= error[camera] else (t + 1 + int(chance[camera, 1] * 9)) % 10
            item = self._seen(frame, camera, tuple(features[camera].tolist()), CLASSES[said])
            yield f"predictions/{camera % 6}", True, item
            uniform = chance[camera, 2] < self.labelled
            if uniform or (f"camera-{camera}" in open_ and chance[camera, 2] < self.drawn):
                waiting.append(self._label(rng, item, frame, t, swapped.get(camera), "uniform" if uniform else "drift"))

    def _open_cameras(self) -> set[str]:
        for finding in self.findings[self._heard :]:
            if isinstance(finding, DriftFound):
                self._open[finding.incident.id] = () if finding.incident.closed_at else finding.incident.cameras
            elif isinstance(finding, ProbeRequest):
                self.old.ask(finding)
        self._heard = len(self.findings)
        return {name for cameras in self._open.values() for name in cameras}

    def _seen(self, frame: int, camera: int, features: tuple[float, ...], name: str) -> Seen:
        key = f"{frame}-{camera}"
        at = self.time(frame, camera)
        return Seen(at, key, f"t-{key}", "m", "1", "champion", f"camera-{camera}", key, name, 0.9, features)

    def _label(
        self, rng: np.random.Generator, seen: Seen, frame: int, truth: int, swapped: tuple[int, int] | None, origin: str
    ) -> Labelled:
        answer = sum(swapped) - truth if swapped and truth in swapped else truth
        annotator = int(rng.integers(self.annotators))
        if frame >= self.wrong_from and rng.random() < self.wrong.get(annotator, 0.0):
            answer = (answer + int(rng.integers(1, 10))) % 10
        said = (PredictionOf("m", "1", "champion", seen.class_name, 0.9),)
        return Labelled(
            seen.at + LABEL_DELAY, f"l{seen.ce_id}", "", seen.asset_id, seen.camera_id, seen.at, 1, CLASSES[answer],
            origin, self.labelled, said, f"annotator-{annotator}",
        )  # fmt: skip
