"""The benchmark on real images is honest by construction: what it compares with stands there before."""

from __future__ import annotations

import numpy as np
import pytest

from services.local.data import Dataset
from tests.bench.monitor.images import model, score, truth
from tests.bench.monitor.images.cells import CORRUPTIONS, FAULTS, SEVERITIES, TUNED_ON, Cell, all_cells
from tests.bench.monitor.images.play import Blame, Outcome

DATASETS = ("fashion-mnist", "mnist-digits")


def pictures(count: int = 6) -> np.ndarray:
    rows, columns = np.indices((28, 28))
    waves = [127.5 + 127.5 * np.sin(rows / (2 + n)) * np.cos(columns / 3) for n in range(count)]
    return np.rint(waves).astype(np.uint8)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_truth_of_every_cell_stands_in_the_table(dataset: str) -> None:
    truths = truth.read(dataset)
    assert list(truths) == [cell.name for cell in all_cells()]
    assert truths["none/nothing/3"].cost == 0.0
    assert {t.harm for t in truths.values()} == {"crossed", "none", "between"}
    assert all(t.harm == "crossed" for t in truths.values() if t.cell.cause == "labels")


def test_eight_families_may_be_looked_at_and_eleven_are_for_the_report() -> None:
    assert set(CORRUPTIONS) > TUNED_ON
    assert (len(CORRUPTIONS), len(TUNED_ON)) == (19, 8)


@pytest.mark.parametrize("kind", [*CORRUPTIONS, *FAULTS])
def test_a_change_is_the_same_every_time_and_grows_with_its_severity(kind: str) -> None:
    cause = "scene" if kind in CORRUPTIONS else "camera"
    images = pictures()
    seen = {severity: Cell(cause, kind, severity).seen(images) for severity in SEVERITIES}
    assert all(one.shape == images.shape and one.dtype == np.uint8 for one in seen.values())
    assert np.array_equal(seen[3], Cell(cause, kind, 3).seen(images))
    away = [float(np.abs(one.astype(float) - images).mean()) for one in seen.values()]
    if kind in ("frozen", "saturate"):  # Frames stand still in time; grey has no saturation.
        assert away[0] == 0.0
    elif kind == "elastic":  # The severities of CIFAR-C move corners less and pull neighbourhoods more.
        assert min(away) > 0.0
    else:
        assert 0.0 < min(away[:2]) < max(away[3:])


def test_classes_trade_names_and_only_these() -> None:
    labels = np.arange(10)
    assert Cell("labels", "1", 3).truth(labels).tolist() == [0, 1, 3, 2, 4, 5, 6, 7, 8, 9]
    assert Cell("scene", "fog", 3).truth(labels).tolist() == labels.tolist()


@pytest.mark.parametrize("count", [5_000, 70_000])
def test_another_data_set_is_cut_by_the_same_constants(count: int) -> None:
    dataset = Dataset("any", np.zeros((count, 1, 1), np.uint8), np.arange(count), ("a",))
    parts = [model.part(dataset, which).labels for which in (model.TRAIN, model.VALIDATE, model.LIVE, model.HELD_OUT)]
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    assert min(map(len, parts)) >= 400


def right(cell: Cell, cost: float, seed: int) -> Outcome:
    """What a perfect monitor says."""
    found = Outcome(cell.name, seed, accuracy=0.9 - cost, estimate=0.9 - cost, low=0.5 - cost, high=1.0)
    if cell.cause != "none":
        found.found, found.cause, found.requests = 40, cell.cause, int(cost >= 0.05)
        found.cameras = ("belt-2",) if cell.cause == "camera" else ("belt-0", "belt-1")
        found.blamed = (Blame(found.cameras, cell.kind),) if cell.cause == "camera" else ()
    return found


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_perfect_monitor_meets_every_line_and_policies_that_look_at_nothing_do_not(dataset: str) -> None:
    truths = truth.read(dataset)
    outcomes = [right(t.cell, t.cost, seed) for t in truths.values() for seed in range(10)]
    assert all(line.met for line in score.lines(outcomes, truths))
    for policy in score.POLICIES.values():
        missed = [line.name for line in score.lines(policy(outcomes), truths) if not line.met]
        assert "camera faults, recall" in missed and "cause right" in missed


def test_a_change_that_is_not_found_counts_as_a_wrong_cause() -> None:
    truths = truth.read("fashion-mnist")
    hurting = next(t for t in truths.values() if t.cell.judged and t.cost >= 0.05)
    lines = {line.name: line for line in score.lines([Outcome(hurting.cell.name, 0)], truths)}
    assert lines["cause right"].value == 0.0 and lines["cause right"].runs == 1


def test_every_camera_that_is_called_broken_counts_and_the_broken_one_is_found_in_any_incident() -> None:
    truths = truth.read("fashion-mnist")
    cell = Cell("camera", "dark", 4)
    run = right(cell, truths[cell.name].cost, 0)
    run.blamed = (Blame(("belt-0",), "blur"), *run.blamed)
    lines = {line.name: line for line in score.lines([run], truths)}
    assert lines["camera faults, precision"].value == 0.5
    assert lines["camera faults, recall"].value == 1.0
    run.blamed = (Blame(("belt-0", "belt-2"), "dark"),)
    lines = {line.name: line for line in score.lines([run], truths)}
    assert lines["camera faults, recall"].value == lines["camera faults, precision"].value == 0.0
