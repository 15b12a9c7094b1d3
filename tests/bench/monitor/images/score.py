"""The outcomes against the truth: the lines of the aim, each a mean over cells with its 95 % interval, and what
policies that look at nothing would get on the same table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tests.bench.monitor.images.cells import HARMLESS, HURTS
from tests.bench.monitor.images.play import AFTER, BROKEN, CAMERAS, Blame, Outcome
from tests.bench.monitor.images.truth import Truth

SOON: Final = 300
"""Frames of a camera within which a change that hurts is to be found."""
TIMER: Final = 1_000
"""Frames of a camera between two alarms of the policy that looks at the clock alone."""
LEVEL: Final = 0.90
"""Of the interval of the accuracy without labels."""


@dataclass(frozen=True, slots=True)
class Line:
    """One figure beside its aim; `cells` and `runs` went into it. Means of cells are taken as independent."""

    name: str
    aim: float
    at_least: bool
    value: float
    half: float
    cells: int
    runs: int

    @property
    def met(self) -> bool:
        """Whether the figure itself reaches the aim; without a run it does not."""
        return self.runs > 0 and (self.value >= self.aim if self.at_least else self.value <= self.aim)


@dataclass(frozen=True, slots=True)
class Pair:
    """What came of a run and what was true."""

    outcome: Outcome
    truth: Truth

    @property
    def broken(self) -> list[Blame]:
        """Where incidents call the broken camera broken, and no other one."""
        return [blame for blame in self.outcome.blamed if self.is_right(blame)]

    def is_right(self, blame: Blame) -> bool:
        """Whether the camera that is blamed, alone, is the broken one."""
        return self.truth.cell.cause == "camera" and blame.cameras == (BROKEN,)

    @property
    def soon(self) -> bool:
        """Whether it was found in time."""
        return self.outcome.found is not None and self.outcome.found <= SOON


def lines(outcomes: Iterable[Outcome], truths: Mapping[str, Truth], *, judged: bool = True) -> list[Line]:
    """The lines of the aim over the cells of severities 3 to 5, or over the milder ones."""
    pairs = [Pair(o, truths[o.cell]) for o in outcomes]
    pairs = [p for p in pairs if p.truth.cell.judged is judged]
    scene = [p for p in pairs if p.truth.cell.cause in ("scene", "none")]
    hurt = [p for p in scene if p.truth.cost >= HURTS]
    calm = [p for p in scene if p.truth.cost < HARMLESS]
    due = [p for p in pairs if p.truth.cell.cause != "none" and (p.outcome.found is not None or p.truth.cost >= HURTS)]
    known = [p for p in pairs if p.truth.cell.cause in ("scene", "camera") and not p.outcome.unknown]
    asked = [p for p in pairs if p.truth.cell.cause in ("scene", "camera")]
    return [
        _line(f"cost >= {HURTS}: found within {SOON} frames", 0.90, True, hurt, lambda p: float(p.soon)),
        _line(f"cost < {HARMLESS}: retraining asked for", 0.05, False, calm, lambda p: float(p.outcome.requests > 0)),
        _line("cause right", 0.85, True, due, lambda p: float(p.outcome.cause == p.truth.cell.cause)),
        _line("camera faults, precision", 0.95, True, [p for p in pairs if p.outcome.blamed], _precision),
        _line("camera faults, recall", 0.90, True, _faulty(pairs), lambda p: float(bool(p.broken))),
        _line("what is broken, right (no aim)", 0.0, True, [p for p in pairs if p.broken], _kind),
        _line("accuracy without labels, off by", 0.08, False, known, _off),
        _line(f"its {LEVEL:.0%} interval covers", 0.85, True, known, _covers),
        _line("it is stated (no aim)", 0.0, True, asked, lambda p: float(not p.outcome.unknown)),
    ]


def _faulty(pairs: Sequence[Pair]) -> list[Pair]:
    return [p for p in pairs if p.truth.cell.cause == "camera"]


def _precision(pair: Pair) -> float:
    return len(pair.broken) / len(pair.outcome.blamed)


def _kind(pair: Pair) -> float:
    return float(pair.broken[0].fault == pair.truth.cell.kind)


def _off(pair: Pair) -> float:
    return abs(pair.outcome.estimate - pair.outcome.accuracy)


def _covers(pair: Pair) -> float:
    return float(pair.outcome.low <= pair.outcome.accuracy <= pair.outcome.high)


def _line(name: str, aim: float, at_least: bool, pairs: Sequence[Pair], value: Callable[[Pair], float]) -> Line:
    cells: dict[str, list[float]] = {}
    for pair in pairs:
        cells.setdefault(pair.outcome.cell, []).append(float(value(pair)))
    means = [sum(values) / len(values) for values in cells.values()]
    mean = sum(map(sum, cells.values())) / max(len(pairs), 1)
    spread = sum((m - mean) ** 2 for m in means) / max(len(means) - 1, 1)
    return Line(name, aim, at_least, mean, 1.96 * (spread / max(len(means), 1)) ** 0.5, len(means), len(pairs))


def never(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Says nothing, and thinks that the model is as good as ever."""
    return [_blank(o) for o in outcomes]


def always(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Cries at the first frame that the scene has changed, and asks for a retraining."""
    return [replace(_blank(o), found=0, cause="scene", cameras=CAMERAS, requests=1, asked=0) for o in outcomes]


def timer(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Does so every `TIMER` frames, whatever happens; where the change falls in between differs from seed to seed."""
    found = []
    for outcome in outcomes:
        due = outcome.seed * 137 % TIMER
        rings = due < AFTER
        found.append(
            replace(
                _blank(outcome), found=due if rings else None, cause="scene" if rings else "",
                cameras=CAMERAS if rings else (), requests=int(rings), asked=due if rings else None,
            )
        )  # fmt: skip
    return found


POLICIES: Final = {"never": never, "always": always, f"every {TIMER} frames": timer}


def _blank(outcome: Outcome) -> Outcome:
    return Outcome(outcome.cell, outcome.seed, accuracy=outcome.accuracy, estimate=1.0, low=1.0, high=1.0)
