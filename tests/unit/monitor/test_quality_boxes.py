"""Boxes of detectors: what is measured equals an offline run over all labels, exactly, and is what COCO means."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import fsum

import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.quality.book import TruthBook
from services.monitor.domain.quality.boxes import Boxes, Row, loss, match, overlap
from services.monitor.domain.quality.detection import BoxMeasures, Compared, measure_boxes
from services.monitor.domain.quality.measures import risk
from services.monitor.domain.quality.tally import Tally
from services.monitor.domain.quality.truth import UNKNOWN, Said, Truth
from tests.unit.monitor import late_boxes
from tests.unit.monitor.late_boxes import CLASSES, LEVELS, THRESHOLD, Frame, average_precision, errors, lost, pairs
from tests.unit.monitor.worlds import policy


def compared(drawn: list[Row], found: list[Row]) -> Compared:
    d, f = Boxes.of(drawn), Boxes.of(found)
    return Compared(d, f, match(d, f), THRESHOLD)


def measured(book: TruthBook, camera: str | None = None) -> BoxMeasures:
    return measure_boxes([frame for _, frame in book.compared(lambda cell: camera in (None, cell.camera_id))])


def assert_equals(m: BoxMeasures, frames: list[Frame]) -> None:
    """Every metric, computed the plain way, to the last bit."""
    assert m.frames == len(frames)
    assert m.loss == fsum(map(lost, frames)) / len(frames)
    for one in m.classes:
        name = one.class_name
        aps = [average_precision(frames, name, level) for level in LEVELS]
        known = [ap for ap in aps if ap is not None]
        assert (one.ap50, one.ap75) == (aps[0], aps[5])
        assert one.ap == (fsum(known) / len(known) if known else None)
        told = [pair for frame in frames for pair in pairs(frame, name, 0.5) if pair[0][1] >= THRESHOLD]
        assert (one.predictions, one.right) == (len(told), sum(truth is not None for _, truth in told))
        assert one.labels == sum(row[0] == name for frame in frames for row in frame.drawn)
        assert (one.mae, one.rmse) == errors(frames, [name])
    assert (m.whole.mae, m.whole.rmse) == errors(frames, CLASSES)
    assert m.whole.ap == fsum([one.ap for one in m.classes if one.ap is not None]) / len(m.classes)


@pytest.mark.parametrize("seed", range(3))
def test_metrics_of_boxes_equal_an_offline_run_over_all_labels_exactly(seed: int) -> None:
    found = late_boxes.events(seed)
    engine, snapshots, written = Engine.new(policy()), Snapshots(), dict[str, bytes]()
    for place, start in enumerate(range(0, len(found), 61 + seed)):
        engine.learn(found[start : start + 61 + seed])
        written.update(snapshots.changed(engine))
        if place % 4 == 2:  # Killed: another instance goes on from what was written.
            engine, snapshots = Engine.new(policy()), Snapshots()
            rebuild(engine, written)
    assert len(measured(engine.truth).classes) == len(CLASSES)
    for camera in (None, "camera-0", "camera-1", "camera-2"):
        assert_equals(measured(engine.truth, camera), late_boxes.offline(found, camera))


def test_the_risk_of_a_detector_is_its_mean_loss_on_frames_drawn_at_random() -> None:
    found = late_boxes.events(7)
    book, drawn = TruthBook(), Tally()
    for truth in found:
        book.take(truth)
    for cell, tally in book.cells.items():
        if cell.drawn:
            drawn.add(tally)
    frames = [frame for frame in late_boxes.offline(found) if frame.propensity > 0.0]
    r = risk(drawn, 0.05)
    assert r.labels == len(frames)
    assert r.raw == float(sum(Fraction(lost(frame)) for frame in frames) / len(frames))
    weights = [Fraction(1 / frame.propensity) for frame in frames]
    weighed = sum(w * Fraction(lost(frame)) for w, frame in zip(weights, frames, strict=True))
    assert r.weighted == pytest.approx(float(weighed / sum(weights)), abs=1e-15)
    assert 0.0 < r.low < r.raw < r.high < 1.0
    assert sum(tally.frames_right for tally in book.cells.values()) == sum(
        lost(frame) == 0.0 for frame in late_boxes.offline(found)
    )


def test_the_order_of_labels_leaves_no_trace_and_taking_all_back_leaves_nothing() -> None:
    found = late_boxes.events(11)
    books = [TruthBook(), TruthBook()]
    for book, ordered in zip(books, (found, sorted(found, key=lambda t: (-t.revision, t.asset_id))), strict=True):
        for truth in ordered:
            book.take(truth)
    assert books[0].cells == books[1].cells
    assert measured(books[0]) == measured(books[1])
    for truth in found:
        books[0].take(replace(truth, revision=9, boxes=None, propensity=0.0))
    assert all(tally.labels == 0 for tally in books[0].cells.values())
    assert list(books[0].compared(lambda _: True)) == []
    assert books[0].withdrawn == late_boxes.LABELS


def test_a_perfect_detector_has_a_precision_of_one_and_one_that_finds_nothing_of_zero() -> None:
    drawn: list[Row] = [("bag", 1.0, 10, 10, 20, 20), ("boot", 1.0, 50, 10, 20, 20)]
    perfect = measure_boxes([compared(drawn, [(name, 0.9, *box) for name, _, *box in drawn])])  # type: ignore[misc]
    assert (perfect.whole.ap, perfect.whole.ap50, perfect.whole.mae, perfect.loss) == (1.0, 1.0, 0.0, 0.0)
    blind = measure_boxes([compared(drawn, [])])
    assert (blind.whole.ap, blind.whole.mae, blind.loss) == (0.0, None, 1.0)
    nothing = measure_boxes([compared([], [])])
    assert (nothing.whole.ap, nothing.loss, nothing.frames) == (None, 0.0, 1)


def test_average_precision_by_hand() -> None:
    # Two boxes; best first: right, wrong, right. Recall 0-.5 at precision 1, .51-1 at 2/3: (51 + 50 * 2/3) / 101.
    drawn: list[Row] = [("bag", 1.0, 0, 0, 10, 10), ("bag", 1.0, 50, 0, 10, 10)]
    found: list[Row] = [("bag", 0.9, 0, 0, 10, 10), ("bag", 0.8, 90, 0, 10, 10), ("bag", 0.7, 50, 0, 10, 10)]
    m = measure_boxes([compared(drawn, found)])
    assert m.whole.ap50 == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    # Shifted by 2 of 10 pixels, IoU is 8/12: right at .5, .55, .6, .65 and no more.
    shifted = measure_boxes([compared(drawn[:1], [("bag", 0.9, 2, 0, 10, 10)])])
    assert overlap(drawn[0], ("bag", 0.9, 2, 0, 10, 10)) == pytest.approx(2 / 3)
    assert (shifted.whole.ap50, shifted.whole.ap75, shifted.whole.ap) == (1.0, 0.0, 0.4)
    assert shifted.whole.mae == 1.0
    assert shifted.whole.rmse == pytest.approx(2**0.5)


def test_a_second_detection_of_the_same_box_is_wrong_and_one_below_the_threshold_is_not_the_answer() -> None:
    drawn: list[Row] = [("bag", 1.0, 0, 0, 10, 10)]
    twice = compared(drawn, [("bag", 0.9, 0, 0, 10, 10), ("bag", 0.8, 0, 0, 10, 10)])
    assert loss(twice.drawn, twice.found, twice.matched, 0.5) == pytest.approx(1 / 3)
    unsure = measure_boxes([compared(drawn, [("bag", 0.4, 0, 0, 10, 10)])])
    assert (unsure.whole.predictions, unsure.whole.right, unsure.whole.ap50, unsure.loss) == (0, 0, 1.0, 1.0)


def test_of_detections_that_score_the_same_none_comes_first() -> None:
    drawn: list[Row] = [("bag", 1.0, 0, 0, 10, 10)]
    wrong, right = ("bag", 0.5, 90.0, 0.0, 10.0, 10.0), ("bag", 0.5, 0.0, 0.0, 10.0, 10.0)
    found = {measure_boxes([compared(drawn, order)]).whole.ap50 for order in ([wrong, right], [right, wrong])}
    assert found == {0.5}


def test_a_classifiers_label_is_not_compared_with_a_detector_nor_the_other_way_round() -> None:
    book = TruthBook()
    detector = Said.of("d", "1", "champion", "", 0.0, Boxes.of([("bag", 0.9, 0, 0, 9, 9)]), 0.5)
    classifier = Said.of("c", "1", "champion", "bag", 0.9)
    at = late_boxes.START
    book.take(Truth("a", "cam", at, at, 1, "bag", 0.1, {"d": detector, "c": classifier}))
    assert {cell.model: tally.labels for cell, tally in book.cells.items()} == {"c": 1}
    book.take(Truth("a", "cam", at, at, 2, UNKNOWN, 0.0, {}, Boxes.of([("bag", 1.0, 0, 0, 9, 9)])))
    assert {cell.model: tally.labels for cell, tally in book.cells.items()} == {"c": 0, "d": 1}
