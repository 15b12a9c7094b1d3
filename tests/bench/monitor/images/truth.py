"""What is true of each cell before the monitor sees it: accuracy of the model on held-out images without the change and
with it, by a command of its own, in a file that is committed before the run.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.bench.monitor.images.cells import HARMLESS, HURTS, Cell, all_cells
from tests.bench.monitor.images.frames import encoded
from tests.bench.monitor.images.model import Model, Part

Classes: TypeAlias = NDArray[np.int64]

FOLDER: Final = Path(__file__).parent / "truth"
_HEAD: Final = ("cell", "cause", "shape", "before", "after", "cost", "standard_error", "harm")


class OtherModel(Exception):
    """The table is of another model than the one that would be watched."""


@dataclass(frozen=True, slots=True)
class Truth:
    """Of one cell; accuracies 0..1 on the same images, `cost` their difference with its standard error (paired)."""

    cell: Cell
    before: float
    after: float
    error: float

    @property
    def cost(self) -> float:
        """Accuracy lost; negative where it is gained."""
        return self.before - self.after

    @property
    def harm(self) -> str:
        """crossed, none, or between where nothing is promised."""
        return "crossed" if self.cost >= HURTS else "none" if self.cost < HARMLESS else "between"


def measure(cell: Cell, held_out: Part, said: Classes, model: Model) -> Truth:
    """On all held-out images; `said` are the model's answers without the change."""
    before = said == held_out.labels
    after = answers(model, cell.seen(held_out.images)) == cell.truth(held_out.labels)
    lost = before.astype(float) - after.astype(float)
    return Truth(cell, float(before.mean()), float(after.mean()), float(lost.std() / len(lost) ** 0.5))


def answers(model: Model, images: NDArray[np.uint8]) -> Classes:
    """What the model says of the camera's pictures of these, as class indices [n]."""
    numbers = {name: number for number, name in enumerate(model.card.classes)}
    return np.array([numbers[answer.scores[0][0]] for answer in model.answer(encoded(images))])


def path(dataset: str) -> Path:
    """Where the table of a data set is."""
    return FOLDER / f"{dataset}.csv"


def write(dataset: str, model: Model, truths: Iterable[Truth]) -> None:
    """One row a cell, after a line that names the model."""
    FOLDER.mkdir(exist_ok=True)
    with path(dataset).open("w", encoding="utf-8", newline="") as file:
        file.write(f"# model {model.digest}\n")
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(_HEAD)
        for t in truths:
            numbers = (f"{value:.4f}" for value in (t.before, t.after, t.cost, t.error))
            rows.writerow((t.cell.name, t.cell.cause, t.cell.shape, *numbers, t.harm))


def read(dataset: str, model: Model | None = None) -> dict[str, Truth]:
    """By the cell's name. Raises `OtherModel` when it is not of this model, FileNotFoundError when there is none."""
    with path(dataset).open(encoding="utf-8", newline="") as file:
        digest = file.readline().removeprefix("# model ").strip()
        rows = {row["cell"]: row for row in csv.DictReader(file)}
    if model is not None and digest != model.digest:
        raise OtherModel(f"{path(dataset).name} is of model {digest}, here is {model.digest}")
    return {
        c.name: Truth(c, float(r["before"]), float(r["after"]), float(r["standard_error"]))
        for c in all_cells()
        if (r := rows.get(c.name)) is not None
    }
