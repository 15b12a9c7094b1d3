"""Plays every cell with every seed, and keeps what came of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.local.data import Dataset, DataSettings, Source, load
from tests.bench.monitor.figures import FOLDER
from tests.bench.monitor.images import truth
from tests.bench.monitor.images.cells import Cell, all_cells
from tests.bench.monitor.images.frames import kept
from tests.bench.monitor.images.model import HELD_OUT, LIVE, Model, opened, part
from tests.bench.monitor.images.play import Outcome, World

PLACE: Final = FOLDER / "images"
MILD: Final = 4
"""Cells of severities 1 and 2, which no aim is about, get one seed in so many."""
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Ground:
    """A data set and its model."""

    dataset: Dataset
    model: Model

    @classmethod
    def of(cls, source: Source, place: Path = PLACE) -> Ground:
        """Read what `make data` fetched; train where there is no model yet."""
        place.mkdir(parents=True, exist_ok=True)
        dataset = load(DataSettings().folder, source)
        return cls(dataset, opened(dataset, place))


class Bar:
    """How far it is, on standard error, in one line."""

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0

    def step(self, what: str) -> None:
        """One more is done."""
        self._done += 1
        filled = 30 * self._done // self._total
        line = f"\r[{'=' * filled}{' ' * (30 - filled)}] {self._done}/{self._total} {what[:40]:<40}"
        sys.stderr.write(line if self._done < self._total else f"{line}\n")
        sys.stderr.flush()


def measure_truth(ground: Ground) -> list[truth.Truth]:
    """The harm of every cell on held-out images."""
    held_out, bar, found = part(ground.dataset, HELD_OUT), Bar(len(all_cells())), []
    said = truth.answers(ground.model, held_out.images)
    for cell in all_cells():
        found.append(truth.measure(cell, held_out, said, ground.model))
        bar.step(cell.name)
    return found


def play(ground: Ground, cells: Sequence[Cell], seeds: int, place: Path = PLACE) -> tuple[list[Outcome], int]:
    """Outcomes of `cells` with `seeds` seeds each, and how many worlds had an incident before any change: those are
    left out, and another one is taken.
    """
    live, bar = part(ground.dataset, LIVE), Bar(len(cells))
    truths = truth.read(ground.dataset.name, ground.model)
    healthy = kept(Cell("none", "nothing", 3), live, ground.model, place, lambda _: None)
    error = 1.0 - next(iter(truths.values())).before

    def make(seed: int) -> World:
        return World(seed, healthy, live.labels, ground.model.card.classes, error)

    worlds, left_out = _worlds(make, seeds)
    found = []
    for cell in cells:
        changed = kept(cell, live, ground.model, place, lambda _: None)
        few = worlds if cell.judged else worlds[: max(seeds // MILD, 1)]
        found += [world.change(cell, changed) for world in few]
        bar.step(cell.name)
    return found, left_out


def _worlds(make: Callable[[int], World], seeds: int) -> tuple[list[World], int]:
    found: list[World] = []
    for seed in range(seeds * _TRIES):
        world = make(seed)
        if world.begin():
            found.append(world)
        if len(found) == seeds:
            return found, seed + 1 - seeds
    raise RuntimeError(f"of {seeds * _TRIES} worlds only {len(found)} were quiet before the change")


def by_cell(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """In the order of the cells."""
    found: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        found.setdefault(outcome.cell, []).append(outcome)
    return found
