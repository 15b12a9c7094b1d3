"""Accuracy without labels: right about as often as stated where labels have been, and unknown where they have not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from services.monitor.domain.case import Case
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import CameraFault, Cause, Incident
from services.monitor.domain.inputs import Seen
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import QualityPolicy
from services.monitor.domain.quality.book import Cell
from services.monitor.domain.quality.doubt import doubt_about, doubts
from services.monitor.domain.quality.labelfree import CELLS_MIN, Estimate, answered, calibrate, estimate
from services.monitor.domain.quality.tally import UNIT, Tally
from services.monitor.domain.quality.traffic import HOURS, Traffic
from services.monitor.domain.quality.truth import Entry, Said
from tests.unit.monitor.worlds import EPOCH, World, policy


def cell(rng: np.random.Generator, confidence: float, overconfident: float, labels: int = 80) -> Tally:
    """An hour of a camera: scores about `confidence`, right less often by `overconfident`, give or take .03."""
    tally, gap = Tally(), rng.normal(overconfident, 0.03)
    for n in range(labels):
        score = float(np.clip(rng.normal(confidence, 0.05), 0, 1))
        right = rng.random() < score - gap
        entry = Entry(f"a{n}", "c", 0, 1, "bag", propensity=0.08)
        tally.count(entry, Said("m", "1", "champion", "bag" if right else "boot", score), QualityPolicy(), 1)
    return tally


def sure(tally: Tally) -> tuple[int, int]:
    return sum(tally.bin_sizes.values()), sum(tally.bin_scores.values())


def told(rng: np.random.Generator) -> Iterator[tuple[Estimate, float]]:
    """Estimates for new cells after thirty labelled ones, and what labels would have said of them."""
    for _ in range(40):
        known = [cell(rng, rng.uniform(0.8, 0.9), 0.06) for _ in range(30)]
        calibration = calibrate(known)
        for _ in range(5):
            new = cell(rng, rng.uniform(0.82, 0.88), 0.06)
            yield estimate([sure(new)], calibration), sum(new.bin_right.values()) / new.labels


def test_the_interval_holds_nine_times_in_ten_and_sits_where_labels_put_it() -> None:
    found = list(told(np.random.default_rng(4)))
    held = [e.low <= accuracy <= e.high for e, accuracy in found]
    assert 0.87 <= np.mean(held) <= 0.97
    assert np.mean([e.confidence - e.accuracy for e, _ in found]) == pytest.approx(0.06, abs=0.01)
    assert np.mean([e.high - e.low for e, _ in found]) < 0.25


def test_beyond_what_labels_covered_the_interval_grows_by_as_much_as_confidence_fell_on_either_side() -> None:
    rng = np.random.default_rng(5)
    calibration = calibrate([cell(rng, rng.uniform(0.8, 0.9), 0.06) for _ in range(30)])
    for confidence, fell in ((calibration.lowest, 0.0), (calibration.lowest - 0.1, 0.1)):
        found = estimate([(1000, int(1000 * confidence * UNIT))], calibration)
        assert found.unknown == ""
        assert found.accuracy == pytest.approx(confidence + calibration.offset)
        assert found.accuracy - found.low == pytest.approx(calibration.radius + fell)
        assert found.high - found.accuracy == pytest.approx(min(calibration.radius + fell, 1.0 - found.accuracy))


def test_confidence_far_from_what_labels_covered_is_not_translated() -> None:
    rng = np.random.default_rng(5)
    calibration = calibrate([cell(rng, rng.uniform(0.8, 0.9), 0.06) for _ in range(30)])
    found = estimate([sure(cell(rng, 0.4, 0.06))], calibration)
    assert "outside" in found.unknown
    assert (found.low, found.high) == (0.0, 1.0)
    mostly = [sure(cell(rng, 0.85, 0.06, labels=1000)), sure(cell(rng, 0.4, 0.06, labels=50))]
    assert estimate(mostly, calibration).unknown == ""


def test_too_few_labelled_cells_say_so() -> None:
    rng = np.random.default_rng(6)
    cells = [cell(rng, 0.85, 0.0) for _ in range(CELLS_MIN - 1)] + [cell(rng, 0.85, 0.0, labels=20) for _ in range(9)]
    assert estimate([(10, 8 * UNIT)], calibrate(cells)).unknown.startswith("19 of 20")
    assert estimate([], calibrate(cells)).unknown == "no predictions"


def fault(kind: str, since: float, closed_at: float = 0.0, camera: str = "gate") -> Incident:
    broken = CameraFault(camera, kind, since, "before", "after")
    case = Case("i", "m", "1", "", "after", since, Cause.CAMERA, began_at=since, closed_at=closed_at, faults=[broken])
    return case.incident()


def test_of_a_camera_whose_fault_makes_a_model_wrong_and_sure_accuracy_is_unknown_and_the_reason_named() -> None:
    rng = np.random.default_rng(5)
    calibration = calibrate([cell(rng, rng.uniform(0.8, 0.9), 0.06) for _ in range(30)])
    sure_of = (100, int(100 * 0.85 * UNIT))
    assert estimate([sure_of], calibration).unknown == ""
    found = estimate([], calibration, {"dead pixels on gate": sure_of})
    assert found.unknown.endswith("where a camera is broken: dead pixels on gate")
    assert (found.predictions, found.low, found.high) == (100, 0.0, 1.0)


def test_one_broken_camera_of_many_widens_the_interval_by_its_share() -> None:
    rng = np.random.default_rng(5)
    calibration = calibrate([cell(rng, rng.uniform(0.8, 0.9), 0.06) for _ in range(30)])
    hour = (100, int(100 * 0.85 * UNIT))
    whole = estimate([hour] * 20, calibration)
    partly = estimate([hour] * 19, calibration, {"dead pixels on gate": hour})
    assert partly.accuracy == pytest.approx(whole.accuracy)
    assert partly.accuracy - partly.low == pytest.approx(whole.accuracy - whole.low + 0.05)


def test_only_the_hours_of_a_fault_that_deceives_are_doubted_whatever_the_version() -> None:
    hour = int(EPOCH // 3600)
    known = doubts(
        [fault("dead pixels", hour * 3600.0 + 1800.0, (hour + 2) * 3600.0), fault("blur", 0.0, camera="door")]
    )
    said = [doubt_about(Cell("m", "2", "shadow", "gate", hour + n, False), known) for n in (-1, 0, 1, 2)]
    assert said == ["", "dead pixels on gate", "dead pixels on gate", ""]
    assert doubt_about(Cell("m", "1", "champion", "door", hour, False), known) == ""
    still = doubts([fault("frozen", hour * 3600.0)])
    assert doubt_about(Cell("m", "1", "champion", "gate", hour + 1000, False), still) == "frozen on gate"


def test_the_answered_share_of_a_draw_is_estimated_with_its_error() -> None:
    rng = np.random.default_rng(8)
    for share in (0.4, 1.0):
        tally = Tally()
        for n in range(int(rng.binomial(20_000, 0.08) * share)):
            entry = Entry(f"a{n}", "c", 0, 1, "bag", propensity=0.08)
            tally.count(entry, Said("m", "1", "champion", "bag", 0.9), QualityPolicy(), 1)
        found, error = answered(tally, 20_000)
        assert abs(found - share) < 3 * error
        assert 0.01 < error < 0.03
    assert answered(Tally(), 0) == (0.0, 0.0)


def test_traffic_is_counted_once_in_whole_hours_and_survives_a_restart() -> None:
    engine, snapshots, written = Engine.new(policy()), Snapshots(), dict[str, bytes]()
    heard = 0
    for batch in World(5, frames=400).inputs():
        heard += sum(isinstance(item, Seen) for _, _, item in batch)
        engine.feed(batch)
        engine.feed(batch)  # Sent again.
        written.update(snapshots.changed(engine))
    engine.drain()
    written.update(snapshots.changed(engine))
    again = Engine.new(policy())
    rebuild(again, written)
    assert again.traffic == replace(engine.traffic, changes=again.traffic.changes)
    counts = again.traffic.chosen(lambda cell: cell.role == "champion")
    assert sum(number for number, _ in counts.values()) == heard
    assert all(scores == number * int(0.9 * UNIT) for number, scores in counts.values())


def test_traffic_keeps_the_newest_hours() -> None:
    traffic = Traffic()
    seen = next(item for batch in World(1).inputs() for *_, item in batch if isinstance(item, Seen))
    for hour in range(HOURS + 10):
        traffic.see(replace(seen, at=EPOCH + hour * 3600.0, ce_id=str(hour)))
    traffic.see(replace(seen, at=EPOCH, ce_id="late"))
    assert len(traffic.hours) == traffic.cells == HOURS
    assert min(traffic.hours) == int(EPOCH // 3600) + 10
