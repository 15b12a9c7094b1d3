"""A cell before the monitor's engine: five cameras that see real images, people who label some of them later, and what
the engine had said by the end.

Every camera sees articles come in runs, as on a belt: the next frame shows another image of the same class with
probability `STAY`, else of a class drawn at random, so that neighbouring frames are alike (about .7 from frame to frame
in what depends on the class). 8 % of all frames are drawn for a label, as labeling does by default, and 10 % more of
those of an open incident's cameras since it began; answers come 5 to 15 seconds after capture: 40 to
120 frames of a camera later.
"""

from __future__ import annotations

import pickle
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.ingest.domain.pixels import differences
from services.monitor.domain.channels import FRAME_DIFFERENCE
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Cause, DriftFound, Finding, Incident, Request
from services.monitor.domain.inputs import DRIFT, UNIFORM, Input, Labelled, PredictionOf, Seen, VersionKnown
from services.monitor.domain.probe_events import ProbeRequest
from services.monitor.domain.quality.doubt import doubt_about, doubts
from services.monitor.domain.quality.labelfree import Estimate, calibrate, estimate
from services.monitor.domain.quality.truth import Said
from services.monitor.domain.quality.truth import Truth as LabelTruth
from tests.bench.monitor.images.cells import Cell
from tests.bench.monitor.images.faults import FROZEN
from tests.bench.monitor.images.frames import Shots
from tests.unit.monitor.old_answers import OldAnswers
from tests.unit.monitor.worlds import policy

CAMERAS: Final = tuple(f"belt-{number}" for number in range(5))
BROKEN: Final = CAMERAS[2]
"""The one that a camera fault is in."""
RATE: Final = 8.0
"""Frames a second of each camera."""
WARM: Final = 1_000
AFTER: Final = 600
"""Frames of each camera before the change and from it on."""
STAY: Final = 0.7
UNIFORM_SHARE: Final = 0.08
DRIFT_SHARE: Final = 0.10
DELAY_LEAST: Final = 5.0
DELAY_MORE: Final = 10.0
"""Seconds until an answer: at least, and at most so many more."""
CALIBRATING_HOURS: Final = 5
CALIBRATING_LABELS: Final = 100
"""Hours of each camera before the run, and labels of each, that calibrate the accuracy without labels."""
REPORTED: Final = 2_000
"""Held-out assets that registry's report of the model is of."""
HOUR: Final = 3600.0
ONSET: Final = HOUR * 472_000
"""Event time of the change: on a full hour, as traffic is counted by hours."""


@dataclass(frozen=True, slots=True)
class Blame:
    """The cameras that one incident calls broken, and the kinds of fault it names, joined by commas."""

    cameras: tuple[str, ...]
    fault: str


@dataclass(slots=True)
class Outcome:
    """What came of one run. `found` counts frames of a camera from the change to the first word of the first incident
    that is about a camera that changed; its cause, shape and harm stand here. `blamed` are all incidents that call a
    camera broken.
    """

    cell: str
    seed: int
    found: int | None = None
    cause: str = ""
    cameras: tuple[str, ...] = ()
    blamed: tuple[Blame, ...] = ()
    shape: str = ""
    harm: str = ""
    state: str = ""
    requests: int = 0
    asked: int | None = None
    accuracy: float = 0.0
    estimate: float = 0.0
    low: float = 0.0
    high: float = 1.0
    unknown: str = ""

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(slots=True)
class World:
    """Five cameras over healthy images, `labels` their classes; `begin` once, then `change` for each cell, from the
    same state of the engine.
    """

    seed: int
    healthy: Shots
    labels: NDArray[np.int64]
    names: tuple[str, ...]
    reported_error: float
    engine: Engine = field(default_factory=lambda: Engine.new(policy()))
    watched: bytes = b""
    given: dict[str, Labelled] = field(default_factory=dict)
    """Labels answered before the change, by asset."""
    order: NDArray[np.int64] = field(init=False)
    chance: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([17, self.seed])
        self.order = np.stack([_belt(rng, self.labels, WARM + AFTER) for _ in CAMERAS])
        self.chance = rng.random((len(CAMERAS), WARM + AFTER, 3))

    def begin(self) -> bool:
        """Watch the cameras until the change; whether they are then watched and no incident is open."""
        self._calibrate()
        report = VersionKnown(self.time(0) - 10, "report", "", "m", "1", "", "accepted", self.reported_error, REPORTED)
        self.engine.feed([("registry/0", False, report)])
        healthy = Run(self, Cell("none", "nothing", 3), self.healthy, self.engine)
        healthy.play(0, WARM)
        self.given = healthy.old.given
        watch = self.engine.models["m"]
        self.watched = pickle.dumps(self.engine)
        ready = all(c.reference is not None for c in watch.cameras.values())
        return watch.case is None and len(watch.cameras) == len(CAMERAS) and ready

    def change(self, cell: Cell, changed: Shots) -> Outcome:
        """The change comes; `changed` are the same images through it."""
        run = Run(self, cell, changed, pickle.loads(self.watched))
        run.play(WARM, WARM + AFTER)
        return run.outcome()

    def time(self, frame: int, camera: int = 0) -> float:
        """When a frame was captured."""
        return ONSET + (frame - WARM + camera / len(CAMERAS)) / RATE

    def _calibrate(self) -> None:
        rng = np.random.default_rng([19, self.seed])
        truths: list[LabelTruth] = []
        for hour in range(1, CALIBRATING_HOURS + 1):
            for camera in CAMERAS:
                for image in rng.choice(len(self.labels), CALIBRATING_LABELS, replace=False):
                    key = f"{hour}-{camera}-{image}"
                    at = int((ONSET - (hour + 1) * HOUR + len(truths) % 1000) * 1e6)
                    name, score = self.names[self.healthy.said[image]], float(self.healthy.scores[image])
                    said = {key: Said("m", "1", "champion", name, score)}
                    truth = self.names[self.labels[image]]
                    truths.append(LabelTruth(key, camera, at, at, 1, truth, UNIFORM_SHARE, said))
        self.engine.learn(truths)


@dataclass(slots=True)
class Run:
    """One world with one change before one engine."""

    world: World
    cell: Cell
    changed: Shots
    engine: Engine
    findings: list[Finding] = field(default_factory=list)
    waiting: list[Labelled] = field(default_factory=list)
    drawn: set[tuple[int, int]] = field(default_factory=set)
    incident: DriftFound | None = None
    old: OldAnswers = field(init=False)

    def __post_init__(self) -> None:
        self.old = OldAnswers(self._named_now, delay=DELAY_LEAST + DELAY_MORE, given=dict(self.world.given))

    def _named_now(self, label: Labelled, who: str) -> str:
        """What people call an old frame after the change."""
        frame, camera = (int(part) for part in label.asset_id.split("-"))
        name: str = self.world.names[self.cell.truth(self.world.labels)[self.world.order[camera, frame]]]
        return name

    def play(self, start: int, end: int) -> None:
        """All frames of `start` to `end`, a second of all cameras at once."""
        shown = [self._shown(camera, start, end) for camera in range(len(CAMERAS))]
        moved = [self._moved(camera, start, shown[camera]) for camera in range(len(CAMERAS))]
        step = int(RATE)
        for begin in range(start, end, step):
            batch: list[tuple[str, bool, Input]] = []
            for frame in range(begin, min(begin + step, end)):
                for camera in range(len(CAMERAS)):
                    place = frame - start
                    item = self._seen(frame, camera, int(shown[camera][place]), moved[camera][place])
                    batch.append((f"predictions/{camera}", True, item))
                    self._draw(frame, camera, int(shown[camera][place]), item)
            self._feed(batch, self.world.time(min(begin + step, end) - 1, len(CAMERAS) - 1))

    def _feed(self, batch: list[tuple[str, bool, Input]], now: float) -> None:
        due = sorted((one for one in self.waiting if one.at <= now), key=lambda one: (one.at, one.ce_id))
        self.waiting = [one for one in self.waiting if one.at > now]
        for one in due:
            self.old.note(one)
        answers = [("labels/0", False, one) for one in [*due, *self.old.due(now)]]
        heard = self.engine.feed([*batch, *answers])
        self.findings += heard
        for finding in heard:
            if isinstance(finding, DriftFound):
                self.incident = None if finding.incident.closed_at else finding
            elif isinstance(finding, ProbeRequest):
                self.old.ask(finding)

    def _touched(self, camera: int, frame: int) -> bool:
        return frame >= WARM and (self.cell.cause != "camera" or CAMERAS[camera] == BROKEN)

    def _shown(self, camera: int, start: int, end: int) -> NDArray[np.int64]:
        """Which image each frame shows."""
        order = self.world.order[camera, start:end]
        if self.cell.kind != "frozen" or not self._touched(camera, start):
            return order
        hold = FROZEN[self.cell.severity - 1] or len(order)
        return order[np.arange(len(order)) // hold * hold]

    def _moved(self, camera: int, start: int, shown: NDArray[np.int64]) -> list[float]:
        """Ingest's difference of each frame to the one before."""
        pool = self.changed if self._touched(camera, start) else self.world.healthy
        before = self.world.healthy.thumbnails[self.world.order[camera, start - 1]].tobytes() if start else None
        found = differences(before, [one.tobytes() for one in pool.thumbnails[shown]])
        return [float("nan") if one is None else one for one in found]

    def _seen(self, frame: int, camera: int, image: int, moved: float) -> Seen:
        pool = self.changed if self._touched(camera, frame) else self.world.healthy
        values = pool.features[image].tolist()
        values[FRAME_DIFFERENCE] = moved
        key = f"{frame}-{camera}"
        name, score = self.world.names[pool.said[image]], float(pool.scores[image])
        at = self.world.time(frame, camera)
        return Seen(at, key, "", "m", "1", "champion", CAMERAS[camera], key, name, score, tuple(values))

    def _draw(self, frame: int, camera: int, image: int, seen: Seen) -> None:
        chance = self.world.chance[camera, frame]
        if chance[0] < UNIFORM_SHARE:
            self._ask(frame, camera, image, seen.class_name, UNIFORM, seen.at)
        elif chance[0] < UNIFORM_SHARE + DRIFT_SHARE and self.incident is not None:
            named = self.incident.incident.cameras
            if not named or seen.camera_id in named:
                self._ask(frame, camera, image, seen.class_name, DRIFT, seen.at)

    def _ask(self, frame: int, camera: int, image: int, said: str, origin: str, at: float) -> None:
        world, chance = self.world, self.world.chance[camera, frame]
        truths = self.cell.truth(world.labels) if self._touched(camera, frame) else world.labels
        answered = at + DELAY_LEAST + DELAY_MORE * chance[1]
        key = f"{frame}-{camera}"
        before = (PredictionOf("m", "1", "champion", said, 0.0),)
        share = UNIFORM_SHARE if origin == UNIFORM else DRIFT_SHARE
        self.waiting.append(
            Labelled(
                answered, f"l{key}", "", key, CAMERAS[camera], at, 1, world.names[truths[image]], origin, share, before
            )
        )

    def outcome(self) -> Outcome:
        """What had been said of the incidents after the change, and whether anything was asked for."""
        found = Outcome(self.cell.name, self.world.seed)
        words = [f.incident for f in self.findings if isinstance(f, DriftFound)]
        found.blamed = tuple(_blame(w) for w in _newest(words) if w.cause is Cause.CAMERA)
        first = next((w.id for w in words if self._concerns(w)), "")
        said = [w for w in words if w.id == first]
        if said:
            open_ = [w for w in said if not w.closed_at] or said[:1]
            last = open_[-1]
            found.found = max(round((said[0].detected_at - ONSET) * RATE), 0)
            found.cause, found.shape, found.harm = (w.name.lower() for w in (last.cause, last.shape, last.harm))
            found.cameras = last.cameras
            found.state = max(w.state for w in open_).name
        asked = [f for f in self.findings if isinstance(f, Request)]
        found.requests = len(asked)
        found.asked = round((asked[0].at - ONSET) * RATE) if asked else None
        self._rate(found)
        return found

    def _concerns(self, incident: Incident) -> bool:
        """Whether it is about a camera that changed; one of labels may name none."""
        changed = {name for number, name in enumerate(CAMERAS) if self._touched(number, WARM)}
        return not incident.cameras or bool(changed.intersection(incident.cameras))

    def _rate(self, found: Outcome) -> None:
        """The accuracy that the run had on the changed cameras, and what was thought of it without labels."""
        right = total = 0
        for camera in range(len(CAMERAS)):
            if self._touched(camera, WARM):
                shown = self._shown(camera, WARM, WARM + AFTER)
                right += int((self.changed.said[shown] == self.cell.truth(self.world.labels)[shown]).sum())
                total += len(shown)
        found.accuracy = right / total
        thought = self._estimate()
        found.estimate, found.low, found.high, found.unknown = (
            thought.accuracy, thought.low, thought.high, thought.unknown,
        )  # fmt: skip

    def _estimate(self) -> Estimate:
        hours = self.engine.traffic.chosen(
            lambda cell: cell.hour >= int(ONSET // HOUR) and (self.cell.cause != "camera" or cell.camera_id == BROKEN)
        )
        known = [tally for cell, tally in self.engine.truth.cells.items() if cell.drawn]
        seen = doubts(self.engine.models["m"].incidents)
        plain = [counts for cell, counts in hours.items() if not doubt_about(cell, seen)]
        doubtful = {f"{n}": counts for n, (cell, counts) in enumerate(hours.items()) if doubt_about(cell, seen)}
        return estimate(plain, calibrate(known), doubtful)


def _newest(words: list[Incident]) -> list[Incident]:
    """The newest word about each incident; of one that is over, the last before."""
    ended = {w.id: w for w in words if w.closed_at}
    return list({**ended, **{w.id: w for w in words if not w.closed_at}}.values())


def _blame(incident: Incident) -> Blame:
    return Blame(incident.cameras, ", ".join(sorted({f.kind for f in incident.faults})))


def _belt(rng: np.random.Generator, labels: NDArray[np.int64], frames: int) -> NDArray[np.int64]:
    """Indices of images, [frames], in runs of a class; each class's images come in an order of their own."""
    classes = int(labels.max()) + 1
    piles = [rng.permutation(np.flatnonzero(labels == number)) for number in range(classes)]
    drawn, stays = rng.integers(0, classes, frames), rng.random(frames) < STAY
    places, current = [0] * classes, int(drawn[0])
    found = np.empty(frames, np.int64)
    for frame in range(frames):
        current = current if stays[frame] else int(drawn[frame])
        found[frame] = piles[current][places[current] % len(piles[current])]
        places[current] += 1
    return found
