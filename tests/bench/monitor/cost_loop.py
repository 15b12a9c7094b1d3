"""The loop around a policy of retraining: frames are answered, labels come late, runs take time and money.

Every policy gets the same frames, the same uniform labels, the same trainer and the same gate; it only says when to
retrain, and since when labels are of the new condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Protocol

import numpy as np

from services.monitor.domain.inputs import Tried
from tests.bench.monitor import cost_world as world
from tests.bench.monitor.cost_world import DAY, Array, Burst, Episode, Ints, World, answers, train

EPOCH = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Label:
    """A frame's true class, known at `at`; `origin` says why it was asked for."""

    at: float
    captured_at: float
    frame: Array
    truth: int
    said: int
    camera: int
    key: str
    origin: str
    version: int


@dataclass(frozen=True, slots=True)
class Version:
    """A trained model; `error` on `assets` held-out labels is what its gate saw."""

    number: int
    weights: Array
    error: float
    assets: int


class Asker(Protocol):
    """A policy of retraining."""

    name: str

    def see(self, now: float, burst: Burst, said: Ints, version: Version, labels: Sequence[Label]) -> float | None:
        """A burst that was answered and the labels that have come; the time since when labels are of the new condition
        when a retraining is asked for, else None.
        """

    def wants(self, camera: int) -> bool:
        """Whether frames of this camera should be drawn for labels beside the uniform ones."""

    def ended(self, now: float, version: Version | None, tried: Tried) -> None:
        """A run ended: a new version is live, or it was refused; `tried` is what its gate saw."""


@dataclass(slots=True)
class Course:
    """What a policy cost, in the unit of one wrong answer."""

    name: str
    seed: int
    harm: float = 0.0
    runs: int = 0
    run_cost: float = 0.0
    label_cost: float = 0.0
    asked: list[float] = field(default_factory=list)
    live: list[float] = field(default_factory=list)
    refused: int = 0
    episodes: list[Episode] = field(default_factory=list)
    settled: float = 0.0
    """Of the harm, what a version does that was trained on the present concept: from so few labels none is perfect."""

    @property
    def total(self) -> float:
        return self.harm + self.run_cost + self.label_cost

    def answered(self) -> int:
        """Episodes that pay to which a version came live that was asked for since they began."""
        return sum(self._is_answered(episode) for episode in self.episodes if episode.pays)

    def answered_kinds(self) -> dict[str, tuple[int, int]]:
        """By kind of change: (answered, all) of those that pay."""
        kinds = sorted({e.kind for e in self.episodes if e.pays})
        paying = {kind: [e for e in self.episodes if e.pays and e.kind == kind] for kind in kinds}
        return {kind: (sum(map(self._is_answered, some)), len(some)) for kind, some in paying.items()}

    def _is_answered(self, episode: Episode) -> bool:
        pairs = zip(self.asked, self.live, strict=False)
        return any(time(episode.begin) <= asked and live <= time(episode.end) for asked, live in pairs)


def time(burst: float) -> float:
    """Event time of a burst."""
    return EPOCH + burst * DAY / world.BURSTS


def next_burst(at: float) -> float:
    """Event time of the first burst from then on."""
    return time(ceil((at - EPOCH) * world.BURSTS / DAY))


@dataclass(slots=True)
class _Run:
    asked: float
    since: float
    begun: float = 0.0


@dataclass(slots=True)
class Loop:
    """One policy through one world."""

    world: World
    asker: Asker
    version: Version
    course: Course
    pending: list[Label] = field(default_factory=list)
    known: list[Label] = field(default_factory=list)
    run: _Run | None = None
    trained_since: float = EPOCH

    @classmethod
    def begin(cls, plan: World, asker: Asker) -> Loop:
        """The first version is trained on labels of the first concept, which every policy is given."""
        rng = np.random.default_rng([3, plan.seed])
        classes = rng.integers(0, world.CLASSES, 2 * world.LABELS_WANTED)
        frames = plan.means[classes] + rng.normal(size=(len(classes), world.WIDTH))
        version = fit(1, frames, classes)
        return cls(plan, asker, version, Course(asker.name, plan.seed, episodes=plan.episodes))

    def play(self) -> Course:
        """All 20 months."""
        for number in range(self.world.bursts):
            self._step(number)
        return self.course

    def _step(self, number: int) -> None:
        now, burst = time(number), self.world.burst(number)
        said = answers(self.version.weights, burst.frames)
        harm = (self.world.error_now(self.version.weights, number) - self.world.floor) * world.FRAMES
        self.course.harm += harm * world.COST_OF_ERROR
        self.course.settled += harm * world.COST_OF_ERROR * self._up_to_date(number)
        self._draw(now, burst, said)
        due = sorted((one for one in self.pending if one.at <= now), key=lambda one: (one.at, one.key))
        self.pending = [one for one in self.pending if one.at > now]
        self.known += due
        since = self.asker.see(now, burst, said, self.version, due)
        if since is not None and self.run is None:
            self.run = _Run(now, since)
            self.course.asked.append(now)
        self._train(now)

    def _up_to_date(self, number: int) -> bool:
        """Whether the live version was trained on labels of the concept in force."""
        begun = [e for e in self.world.episodes if e.pays and e.begin <= number]
        return not begun or self.trained_since >= time(begun[-1].level) - DAY

    def _draw(self, now: float, burst: Burst, said: Ints) -> None:
        """Uniform labels are everybody's; what is drawn beside them is paid for."""
        short = self.run is not None and not self.run.begun and self._held(self.run.since) < world.LABELS_WANTED
        for i, (uniform, wanted, delay, _) in enumerate(burst.chance):
            camera = i % world.CAMERAS
            drift = wanted < 0.5 and self.asker.wants(camera)
            if uniform >= world.UNIFORM and not (drift or short):
                continue
            origin = "uniform" if uniform < world.UNIFORM else "drift" if drift else "request"
            self.course.label_cost += 0.0 if origin == "uniform" else world.COST_OF_LABEL
            low, high = world.LABEL_DELAY
            at, key = now + i / world.FRAMES, f"{burst.number}-{i}"
            known = next_burst(at + low + (high - low) * delay)  # answers are handed in with the next burst
            self.pending.append(
                Label(known, at, burst.frames[i], int(burst.truth[i]), int(said[i]), camera,
                      key, origin, self.version.number)
            )  # fmt: skip

    def _held(self, since: float) -> int:
        return sum(one.captured_at >= since for one in self.pending) + len(self._fit_for(since))

    def _fit_for(self, since: float) -> list[Label]:
        return [one for one in self.known[-4 * world.LABELS_WANTED :] if one.captured_at >= since]

    def _train(self, now: float) -> None:
        run = self.run
        if run is None:
            return
        labels = self._fit_for(run.since)
        if not run.begun and len(labels) >= world.LABELS_WANTED:
            run.begun = now
        if not run.begun or now < run.begun + world.TRAINING:
            return
        labels = sorted(labels, key=lambda one: one.captured_at)[-world.LABELS_WANTED :]
        frames, truth = np.array([one.frame for one in labels]), np.array([one.truth for one in labels])
        challenger = fit(self.version.number + 1, frames, truth)
        held = slice(None, None, 4)
        champion = float((answers(self.version.weights, frames[held]) != truth[held]).mean())
        accepted = challenger.error < champion
        self.course.runs += 1
        self.course.run_cost += world.COST_OF_TRAINING
        self.course.live.append(now if accepted else float("inf"))
        self.course.refused += not accepted
        self.run = None
        if accepted:
            self.version, self.trained_since = challenger, run.since
        tried = Tried(challenger.error, champion, challenger.assets)
        self.asker.ended(now, challenger if accepted else None, tried)


def fit(number: int, frames: Array, truth: Ints) -> Version:
    """Three quarters train, every fourth label is held out."""
    held = np.arange(len(truth)) % 4 == 0
    weights = train(frames[~held], truth[~held])
    error = float((answers(weights, frames[held]) != truth[held]).mean())
    return Version(number, weights, error, int(held.sum()))
