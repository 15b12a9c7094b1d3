"""Rollouts of challengers that differ from their champion in known ways, as the judge hears of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

import numpy as np

from services.monitor.domain.channels import FEATURES
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import UNIFORM, Judged, Labelled, PredictionOf, RolloutKnown, Seen
from tests.unit.monitor.worlds import EPOCH, policy

CLASSES: Final = 10
RIGHT: Final = 0.9
"""Share of the champion's answers."""
KINDS: Final = ("shuffled", "late", "same", "other", "better", "slightly worse", "failing", "slow")
Kind: TypeAlias = Literal["shuffled", "late", "same", "other", "better", "slightly worse", "failing", "slow"]
FLIPS: Final = {"same": (0.01, 0.01), "other": (0.02, 0.02), "better": (0.01, 0.03), "slightly worse": (0.045, 0.015)}
"""Shares of all answers that are wrong where the champion's are right, and the other way round."""
LATE: Final = 100
NOISE: Final = np.random.default_rng(0).standard_normal((997, len(FEATURES)))


@dataclass(frozen=True, slots=True)
class Course:
    """A rollout: inputs on a camera a second apart, labelled with a chance of `labels`."""

    kind: Kind
    seed: int
    pairs: int = 2000
    labels: float = 1.0
    stage: str = "canary"
    delay: float = 0.0
    """Seconds from a frame to its label."""

    def answers(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Truth, the champion's and the challenger's answers, [pairs] each."""
        rng = np.random.default_rng((self.seed, KINDS.index(self.kind)))
        truth = rng.integers(0, CLASSES, self.pairs)
        wrong = (truth + rng.integers(1, CLASSES, self.pairs)) % CLASSES
        champion = np.where(rng.random(self.pairs) < RIGHT, truth, wrong)
        return truth, champion, self._challenger(rng, truth, wrong, champion)

    def _challenger(
        self, rng: np.random.Generator, truth: np.ndarray, wrong: np.ndarray, champion: np.ndarray
    ) -> np.ndarray:
        if self.kind == "shuffled":
            return (champion + 1 + rng.integers(0, CLASSES - 1)) % CLASSES  # another name for every class
        if self.kind == "late":
            return np.concatenate([rng.integers(0, CLASSES, LATE), champion[:-LATE]])
        if self.kind not in FLIPS:
            return champion
        lost, won = FLIPS[self.kind]
        draw = rng.random(self.pairs)
        right = champion == truth
        spoilt, mended = right & (draw < lost / RIGHT), ~right & (draw < won / (1 - RIGHT))
        return np.where(spoilt, wrong, np.where(mended, truth, champion))

    def inputs(self) -> Iterator[Seen | Labelled | RolloutKnown]:
        """In the order in which they are said; labels after their frames, by `delay`."""
        yield RolloutKnown(EPOCH, "rollout", "", "m", "r", "1", "2", self.stage)
        drawn = np.random.default_rng((self.seed, 99)).random(self.pairs) < self.labels
        waiting: list[Labelled] = []
        for n, (truth, ours, theirs) in enumerate(zip(*self.answers(), strict=True)):
            at = EPOCH + 1.0 + n
            while waiting and waiting[0].at < at:
                yield waiting.pop(0)
            seen = self._seen(n, at, int(ours), int(theirs))
            yield from seen
            if drawn[n]:
                waiting.append(self._label(n, at, int(truth), seen))
        yield from waiting

    def _seen(self, n: int, at: float, ours: int, theirs: int) -> tuple[Seen, Seen]:
        features = tuple(NOISE[n % len(NOISE)].tolist())
        who = "m", "1", "champion", "c", f"asset-{n}"
        champion = Seen(at, f"a{n}", "", *who, str(ours), 0.9, features, "", "r", 10.0)
        challenger = replace(champion, ce_id=f"b{n}", version="2", role="canary", class_name=str(theirs))
        if self.kind == "failing" and n % 10 == 0:
            challenger = replace(challenger, class_name="", error="out of memory")
        if self.kind == "slow":
            challenger = replace(challenger, latency_ms=25.0)
        return champion, challenger

    def _label(self, n: int, at: float, truth: int, seen: tuple[Seen, Seen]) -> Labelled:
        said = tuple(PredictionOf("m", s.version, s.role, s.class_name, s.score) for s in seen)
        return Labelled(at + self.delay, f"l{n}", "", f"asset-{n}", "c", at, 1, str(truth), UNIFORM, self.labels, said)


def judged(course: Course, engine: Engine | None = None) -> Iterator[Judged]:
    """What the judge says, in batches of ten inputs; the rest when nothing more comes."""
    engine = engine or Engine.new(policy())
    inputs = list(course.inputs())
    for start in range(0, len(inputs), 10):
        batch = [(type(item).__name__, isinstance(item, Seen), item) for item in inputs[start : start + 10]]
        yield from (found for found in engine.feed(batch) if isinstance(found, Judged))
    yield from (found for found in engine.drain() if isinstance(found, Judged))


def first(course: Course, *verdicts: str) -> Judged | None:
    """The first time that one of the verdicts is said; None when none ever is."""
    return next((one for one in judged(course) if one.verdict in verdicts), None)
