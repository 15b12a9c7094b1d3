"""Twenty simulated months of four cameras: a small real model on frames whose concept is known at every moment.

A frame is 16 numbers: a class's mean in the first eight, the concept's offset, and normal noise. What changes is the
offset of the informative numbers (at once, by mixing, or by moving), the offset of the others (which harms nobody), or
the names of two classes. Costs, lengths and delays stand here and were fixed before the first run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

DAY: Final = 86_400.0
DAYS: Final = 600
BURSTS: Final = 20
"""A day; each is 25 frames within a second, so that there are 500 a day."""
FRAMES: Final = 25
CAMERAS: Final = 4
CLASSES: Final = 4
WIDTH: Final = 16
TOLD: Final = 8

COST_OF_ERROR: Final = 1.0
COST_OF_LABEL: Final = 0.5
COST_OF_TRAINING: Final = 100.0
LABELS_WANTED: Final = 300
COST_OF_RUN: Final = COST_OF_TRAINING + LABELS_WANTED * COST_OF_LABEL
TRAINING: Final = 2 * 3_600.0
LABEL_DELAY: Final = (3 * 3_600.0, 9 * 3_600.0)
UNIFORM: Final = 0.1

QUIET_DAYS: Final = 30
GAP_DAYS: Final = (20, 36)
RAMP_DAYS: Final = 8
KINDS: Final = {
    "sudden": 4,
    "gradual": 3,
    "incremental": 2,
    "recurring": 3,
    "labels": 2,
    "harmless": 4,
    "mild": 2,
}
"""How many of each in 20 months."""
HARM: Final = (0.10, 0.30)
"""Excess error of a model of the concept before, for what harms."""
MILD: Final = (0.003, 0.012)
"""The same for what harms too little to pay for a run."""
_PROBE: Final = 4_000


@dataclass(frozen=True)
class Concept:
    """How frames look and what they are called; arrays of shape (16,) and (4,)."""

    number: int
    offset: Array
    names: Ints


@dataclass(frozen=True)
class Episode:
    """From `begin` on (a burst's number) the world goes over to `after`, completely at `level`; until `end`."""

    kind: str
    begin: int
    level: int
    end: int
    before: Concept
    after: Concept
    pays: bool


@dataclass(frozen=True)
class Burst:
    """25 frames: shapes (25, 16), (25,), and (25,) draws in 0..1 for whoever needs chance."""

    number: int
    frames: Array
    truth: Ints
    chance: Array


@dataclass
class World:
    """One course of 20 months; the same seed gives the same frames to every policy."""

    seed: int
    days: int = DAYS
    episodes: list[Episode] = field(default_factory=list)
    _errors: dict[tuple[bytes, int, int, float], float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng([1, self.seed])
        means = rng.normal(size=(CLASSES, TOLD))
        means -= means.mean(axis=0)
        distances = [float(np.linalg.norm(means[i] - means[j])) for i in range(CLASSES) for j in range(i)]
        self.means = np.hstack([means * 4.0 / np.mean(distances), np.zeros((CLASSES, WIDTH - TOLD))])
        self.probe = rng.normal(size=(_PROBE, WIDTH))
        self.classes = rng.integers(0, CLASSES, _PROBE)
        self.first = Concept(0, np.zeros(WIDTH), np.arange(CLASSES))
        self._plan(rng)

    @property
    def bursts(self) -> int:
        return self.days * BURSTS

    @cached_property
    def floor(self) -> float:
        """The least error any classifier of these frames can have (the same in every concept, while it lasts)."""
        return self.error(self.best(self.first), self.first.offset, self.first.names)

    @cached_property
    def attainable(self) -> float:
        """The mean error of a version trained on as many labels as a run has, in its own concept: all are congruent."""
        rng = np.random.default_rng([4, self.seed])
        found = []
        for _ in range(10):
            classes = rng.integers(0, CLASSES, 3 * LABELS_WANTED // 4)
            weights = train(self.means[classes] + rng.normal(size=(len(classes), WIDTH)), classes)
            found.append(self.error(weights, self.first.offset, self.first.names))
        return float(np.mean(found))

    def best(self, concept: Concept) -> Array:
        """Weights, shape (17, 4), of the classifier with the least error in a concept: the nearest mean."""
        centres = np.empty_like(self.means)
        centres[concept.names] = self.means + concept.offset
        return np.vstack([centres.T, -0.5 * (centres**2).sum(axis=1)])

    def error(self, weights: Array, offset: Array, names: Ints) -> float:
        """Of a classifier in a concept, on 4,000 frames."""
        frames = self.means[self.classes] + offset + self.probe
        return float((answers(weights, frames) != names[self.classes]).mean())

    def share(self, episode: Episode, burst: int) -> float:
        """How far an episode has come at a burst, 0..1."""
        if burst >= episode.level:
            return 1.0
        return (burst - episode.begin + 1) / (episode.level - episode.begin + 1)

    def episode(self, burst: int) -> Episode | None:
        """The one that a burst lies in."""
        return next((e for e in self.episodes if e.begin <= burst < e.end), None)

    def error_now(self, weights: Array, burst: int) -> float:
        """The expected error of a classifier at a burst."""
        episode = self.episode(burst)
        if episode is None:
            return self._error(weights, self.first, self.first, 0.0)
        share, a, b = self.share(episode, burst), episode.before, episode.after
        if episode.kind == "incremental":
            return self._error(weights, a, b, share)
        after = self._error(weights, b, b, 1.0)
        return after if share == 1.0 else share * after + (1 - share) * self._error(weights, a, a, 1.0)

    def _error(self, weights: Array, a: Concept, b: Concept, share: float) -> float:
        """Half way from one concept to another; asked for again and again, so it is remembered."""
        key = (weights.tobytes(), a.number, b.number, share)
        if key not in self._errors:
            self._errors[key] = self.error(weights, a.offset + share * (b.offset - a.offset), b.names)
        return self._errors[key]

    def burst(self, number: int) -> Burst:
        """The frames of a burst, and what people would call them."""
        rng = np.random.default_rng([2, self.seed, number])
        classes, noise = rng.integers(0, CLASSES, FRAMES), rng.normal(size=(FRAMES, WIDTH))
        mixing, chance = rng.random(FRAMES), rng.random((FRAMES, 4))
        episode = self.episode(number)
        if episode is None:
            return Burst(number, self.means[classes] + noise, classes, chance)
        share, a, b = self.share(episode, number), episode.before, episode.after
        if episode.kind == "incremental":
            moved = a.offset + share * (b.offset - a.offset)
            return Burst(number, self.means[classes] + moved + noise, b.names[classes], chance)
        new = mixing < share
        offsets = np.where(new[:, None], b.offset, a.offset)
        truth = np.where(new, b.names[classes], a.names[classes])
        return Burst(number, self.means[classes] + offsets + noise, truth, chance)

    # ---- the plan ----

    def _plan(self, rng: np.random.Generator) -> None:
        kinds = [kind for kind, count in KINDS.items() for _ in range(count)]
        rng.shuffle(kinds)
        begin, concept, past = QUIET_DAYS * BURSTS, self.first, [self.first]
        for place, kind in enumerate(kinds):
            if begin >= self.bursts:
                break
            end = min(begin + int(rng.integers(*GAP_DAYS)) * BURSTS, self.bursts)
            end = self.bursts if place == len(kinds) - 1 else end  # the last concept stays
            kind = "sudden" if kind == "recurring" and self._differing(concept, past) is None else kind
            after = self._next(kind, concept, past, rng)
            ramp = RAMP_DAYS * BURSTS if kind in ("gradual", "incremental") else 0
            level = min(begin + ramp, end)
            excess = self.error(self.best(concept), after.offset, after.names) - self.floor
            pays = excess * FRAMES * (end - level) * COST_OF_ERROR > COST_OF_RUN
            self.episodes.append(Episode(kind, begin, level, end, concept, after, pays))
            begin, concept = end, after
            past.append(after)

    def _next(self, kind: str, now: Concept, past: list[Concept], rng: np.random.Generator) -> Concept:
        number = len(past)
        if kind == "recurring":
            back = self._differing(now, past)
            assert back is not None
            return Concept(number, back.offset, back.names)
        if kind == "labels":
            one, other = rng.choice(CLASSES, 2, replace=False)
            names = now.names.copy()
            names[[one, other]] = names[[other, one]]
            return Concept(number, now.offset, names)
        offset = now.offset.copy()
        if kind == "harmless":
            offset[TOLD:] += 0.5 * rng.normal(size=WIDTH - TOLD)
            return Concept(number, offset, now.names)
        return Concept(number, self._moved(now, MILD if kind == "mild" else HARM, rng), now.names)

    def _moved(self, now: Concept, wanted: tuple[float, float], rng: np.random.Generator) -> Array:
        """An offset that costs a model of `now` as much error as wanted."""
        weights, target = self.best(now), rng.uniform(*wanted)
        while True:
            direction = np.zeros(WIDTH)
            direction[:TOLD] = rng.normal(size=TOLD)
            direction /= np.linalg.norm(direction)
            for size in np.arange(0.05, 4.0, 0.05):
                offset: Array = now.offset + size * direction
                if target <= self.error(weights, offset, now.names) - self.floor <= wanted[1]:
                    return offset

    def _differing(self, now: Concept, past: list[Concept]) -> Concept | None:
        """The newest concept before this one in which a model of this one would do harm."""
        weights = self.best(now)
        low = self.floor + HARM[0]
        return next((c for c in reversed(past) if self.error(weights, c.offset, c.names) >= low), None)


def logits(weights: Array, frames: Array) -> Array:
    """Shape (n, 4), of weights of shape (17, 4): the last row is the bias."""
    scores: Array = frames @ weights[:-1] + weights[-1]
    return scores


def answers(weights: Array, frames: Array) -> Ints:
    """Class numbers, shape (n,)."""
    found: Ints = logits(weights, frames).argmax(axis=1)
    return found


def probabilities(scores: Array) -> Array:
    """Softmax, shape (n, 4)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def train(frames: Array, truth: Ints, *, decay: float = 10.0, steps: int = 60) -> Array:
    """Multinomial logistic regression on centred frames with weight decay, by steps with a fixed bound of the curvature
    (Bohning, Ann. Inst. Statist. Math. 1992); returns weights of shape (17, 4) for frames as they come.
    """
    centre = frames.mean(axis=0)
    inputs = np.hstack([frames - centre, np.ones((len(frames), 1))])
    wanted = np.eye(CLASSES)[truth]
    shrink = np.diag([decay] * WIDTH + [1e-3])
    solve = np.linalg.inv(0.5 * inputs.T @ inputs + shrink)
    weights = np.zeros((WIDTH + 1, CLASSES))
    for _ in range(steps):
        shares = probabilities(inputs @ weights)
        weights -= solve @ (inputs.T @ (shares - wanted) + shrink @ weights)
    weights[-1] -= centre @ weights[:-1]
    return weights
