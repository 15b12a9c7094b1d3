"""What a retraining regains of what each cell costs, beside what the monitor's probe says of the same labels.

The truth is trainer's own warm run on the labels and as many old images, judged on held-out images; the probe has the
labels' features and answers alone, as `annotation confirmed` brings them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.local.data import Dataset
from services.monitor.domain.events import Outlook
from services.monitor.domain.inputs import UNIFORM
from services.monitor.domain.labels import Joined
from services.monitor.domain.regain import probe
from services.monitor.domain.risk import Count
from services.trainer.child.data import Rows, Splits
from services.trainer.child.network import SmallNetwork
from services.trainer.child.run import train
from services.trainer.child.training import predict
from services.trainer.settings import TrainerSettings
from tests.bench.monitor.figures import table
from tests.bench.monitor.images import truth
from tests.bench.monitor.images.bench import PLACE, Bar, Ground
from tests.bench.monitor.images.cells import HURTS, Cell
from tests.bench.monitor.images.frames import Shots, kept
from tests.bench.monitor.images.model import HELD_OUT, LIVE, SEED, TRAIN, Part, part, planned

LABELS: Final = 400
"""Of the new condition: a run's `labels_wanted` less what is held out."""
HALF: Final = 0.5
_OLD: Final = 3_000


@dataclass(frozen=True, slots=True)
class Row:
    """Error of the frozen model in the cell, the share that a run regains of the loss, and the probe's word."""

    cell: str
    error: float
    healthy: float
    run: float
    share: float
    low: float
    high: float
    outlook: str

    def document(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def measure(ground: Ground, cells: Iterable[Cell], place: Path = PLACE) -> list[Row]:
    """A row for each cell that costs at least .05, by the committed truth and on these images."""
    truths = truth.read(ground.dataset.name, ground.model)
    live, held_out = part(ground.dataset, LIVE), part(ground.dataset, HELD_OUT)
    frozen = _network(ground.dataset, place)
    healthy = _error(frozen, held_out.images, held_out.labels)
    listed, rows = [cell for cell in cells if truths[cell.name].cost >= HURTS], []
    bar = Bar(len(listed))
    for cell in listed:
        right, changed = cell.truth(held_out.labels), cell.seen(held_out.images)
        error = _error(frozen, changed, right)
        if error - healthy >= HURTS:
            labelled = Part(cell.seen(live.images[:LABELS]), cell.truth(live.labels[:LABELS]))
            retrained = _run(ground.dataset, place, labelled, cell)
            regained = (error - _error(retrained, changed, right)) / (error - healthy)
            shots = kept(cell, live, ground.model, place, lambda _: None)
            rows.append(_row(cell, error, healthy, regained, shots, labelled.labels))
        bar.step(cell.name)
    return rows


def _row(cell: Cell, error: float, healthy: float, regained: float, shots: Shots, right: NDArray[np.int64]) -> Row:
    entries = [
        Joined(str(n), "c", float(n), float(n), 1, "1", str(shots.said[n]), str(right[n]), UNIFORM,
               features=tuple(shots.features[n].tolist()))
        for n in range(LABELS)
    ]  # fmt: skip
    said = probe(entries, Count(healthy * 600, 600.0), HALF)
    if said is None:
        return Row(cell.name, error, healthy, regained, 0.0, 0.0, 1.0, "NONE")
    return Row(cell.name, error, healthy, regained, said.share, said.low, said.high, said.outlook.name)


def _network(dataset: Dataset, place: Path) -> SmallNetwork:
    """The model's own weights, as its training left them."""
    state = torch.load(place / f"{dataset.name}.checkpoint", weights_only=True)["network"]
    network = SmallNetwork(1, len(dataset.class_names), 0.0, 1.0)
    network.load_state_dict(state)
    return network


def _run(dataset: Dataset, place: Path, labelled: Part, cell: Cell) -> SmallNetwork:
    """Trainer's run that starts warm, on these labels and old images whose labels are still in force."""
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    old = part(dataset, TRAIN)
    in_force = np.flatnonzero(cell.truth(old.labels) == old.labels)[:_OLD]
    images = np.concatenate([labelled.images, old.images[in_force]])[:, None]
    labels = np.concatenate([labelled.labels, old.labels[in_force]])
    new = np.arange(len(labels)) < len(labelled.labels)
    rows = Rows(images, labels, new, np.ones(len(labels), np.bool_))
    job = replace(planned(dataset), weights="champion", epochs=TrainerSettings().warm_epochs)
    network = _network(dataset, place)
    with TemporaryDirectory() as folder, redirect_stdout(StringIO()):
        train(job, network, Splits(rows, rows.where(new), rows.where(new)), Path(folder) / "checkpoint")
    return network


def _error(network: SmallNetwork, images: NDArray[np.uint8], right: NDArray[np.int64]) -> float:
    return float((predict(network, images[:, None])[0].argmax(1) != right).mean())


def show(rows: Sequence[Row]) -> str:
    """As docs/benchmarks.md has it, and what the probe's word was worth."""
    lines = [
        (r.cell, f"{r.error:.3f}", f"{r.run:.2f}", f"{r.share:.2f}", f"{r.low:.2f} to {r.high:.2f}", r.outlook.lower())
        for r in sorted(rows, key=lambda r: r.run)
    ]
    said = [r for r in rows if r.outlook == Outlook.RECOVERABLE.name]
    lost = [r for r in rows if r.run < HALF]
    below = [r for r in rows if r.high < HALF]
    right, no = sum(r.run >= HALF for r in said), sum(r.run < HALF for r in below)
    return (
        table(("cell", "error", "a run regains", "the probe", "90 % interval", "its word"), lines)
        + f"\nA run regains half or more in {len(rows) - len(lost)} of {len(rows)} cells. The probe says "
        f"`recoverable` in {len(said)}, rightly in {right}. Its interval lies below half in {len(below)}, of which "
        f"{no} are not recoverable. It says no more than a run regains in {sum(r.low <= r.run for r in rows)} cells by "
        f"its lower end, in {sum(r.share <= r.run for r in rows)} by its estimate.\n"
    )
