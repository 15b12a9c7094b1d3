"""Labels that come late, change and go: what is counted is what an offline run over all of them counts, exactly."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import replace
from fractions import Fraction

import pytest
import yaml

from services.monitor.domain.engine import Engine
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy, QualityPolicy
from services.monitor.domain.quality.book import HOUR, Cell, TruthBook
from services.monitor.domain.quality.measures import Measures, RiskMeasure, measure, risk
from services.monitor.domain.quality.pieces import FORMAT
from services.monitor.domain.quality.tally import Tally
from services.monitor.domain.quality.truth import UNKNOWN, Said, Truth
from services.monitor.domain.snapshot import dump
from tests.unit.monitor.late_labels import LABELS, START, Outcome, events, offline
from tests.unit.monitor.worlds import POLICY_FILE, policy


def assert_equals(m: Measures, r: RiskMeasure, outcomes: list[Outcome]) -> None:
    """Every metric, computed the plain way, to the last bit."""
    rows = [row for row in outcomes if row[0] != UNKNOWN]
    right = sum(t == p for t, p, *_ in rows)
    assert (m.labels, m.right) == (len(rows), right)
    assert m.accuracy == right / len(rows)
    f1s = []
    for place, name in enumerate(sorted({t for t, *_ in rows} | {p for _, p, *_ in rows})):
        both = sum(t == p == name for t, p, *_ in rows)
        labels, predictions = sum(t == name for t, *_ in rows), sum(p == name for _, p, *_ in rows)
        found = m.classes[place]
        assert (found.class_name, found.labels, found.predictions, found.right) == (name, labels, predictions, both)
        f1s.append(Fraction(2 * both, labels + predictions))
    assert m.macro_f1 == float(sum(f1s) / len(f1s))
    assert sum(count for *_, count in m.confusion) == len(rows)
    assert all(count == sum((t, p) == (a, b) for t, p, *_ in rows) for a, b, count in m.confusion)
    bins: dict[int, list[tuple[Fraction, bool]]] = defaultdict(list)
    for truth, predicted, score, *_ in rows:
        bins[min(int(float(score) * 15), 14)].append((score, truth == predicted))
    apart = [abs(sum((s - ok for s, ok in several), Fraction())) for several in bins.values()]
    assert m.calibration_error == float(sum(apart, Fraction()) / len(rows))
    drawn = [row for row in rows if row[3] > 0.0]
    wrong = sum(t != p for t, p, *_ in drawn)
    assert (r.labels, r.raw) == (len(drawn), wrong / len(drawn))
    weights = [Fraction(min(1 / p, 500.0)) for *_, p, _ in drawn]
    lost = sum(w for w, (t, p, *_) in zip(weights, drawn, strict=True) if t != p)
    assert r.weighted == float(Fraction(lost) / sum(weights))
    assert r.clipped == sum(1 / p > 500.0 for *_, p, _ in drawn)
    assert r.corrected == sum(disputed for *_, p, disputed in outcomes if p > 0.0)


def measured(book: TruthBook, version: str, camera: str | None = None) -> tuple[Measures, RiskMeasure, Tally]:
    def chosen(cell: Cell) -> bool:
        return cell.version == version and camera in (None, cell.camera_id)

    drawn, whole = Tally(), Tally()
    for cell, tally in book.cells.items():
        if chosen(cell):
            whole.add(tally)
            if cell.drawn:
                drawn.add(tally)
    return measure(whole), risk(drawn, 0.05), whole


def restored(engine: Engine, pieces: dict[str, bytes]) -> Engine:
    again = Engine.new(engine.policy)
    rebuild(again, pieces)
    return again


@pytest.mark.parametrize("seed", range(6))
def test_metrics_equal_an_offline_run_over_all_labels_exactly(seed: int) -> None:
    found = events(seed)
    engine, snapshots, written = Engine.new(policy()), Snapshots(), dict[str, bytes]()
    step = 37 + seed
    for place, start in enumerate(range(0, len(found), step)):
        engine.learn(found[start : start + step])
        written.update(snapshots.changed(engine))
        if place % 13 == 6:  # Killed: another instance goes on from what was written.
            engine, snapshots = restored(engine, written), Snapshots()
    book = engine.truth
    for version in "12":
        for camera in (None, "camera-0", "camera-1", "camera-2"):
            m, r, _ = measured(book, version, camera)
            assert_equals(m, r, offline(found, version, camera))
    assert book.account.heard == len(found)
    assert book.size == LABELS
    assert book.withdrawn == len({one.asset_id for one in found if one.class_name == UNKNOWN})


def test_the_order_of_labels_leaves_no_trace_in_any_count() -> None:
    found = events(11)
    books = [TruthBook(), TruthBook()]
    for book, ordered in zip(books, (found, sorted(found, key=lambda t: (-t.revision, t.asset_id))), strict=True):
        for truth in ordered:
            book.take(truth)
    assert books[0].cells == books[1].cells
    assert books[0].shelves == books[1].shelves
    assert measured(books[0], "1") == measured(books[1], "1")


def test_a_label_taken_back_by_everyone_leaves_empty_counts() -> None:
    book = TruthBook()
    found = [replace(one, propensity=0.0) for one in events(5)]
    for truth in [*found, *(replace(one, revision=9, class_name=UNKNOWN) for one in found)]:
        book.take(truth)
    assert book.cells == {}
    assert book.withdrawn == LABELS


@pytest.mark.parametrize("remembered", [100, 1000])
def test_beyond_the_horizon_labels_are_let_go_and_counted_and_what_stays_depends_on_no_order(remembered: int) -> None:
    limits = QualityPolicy(horizon_hours=4.0, remembered=remembered)
    rng, found = random.Random(3), events(3)
    books = []
    for _ in range(3):
        book = TruthBook(limits)
        for truth in found:
            book.take(truth)
        books.append(book)
        rng.shuffle(found)
    newest = max(one.captured_at for one in found)
    by_asset = {one.asset_id: one.captured_at for one in found if one.captured_at >= newest - 4 * HOUR}
    kept = sorted(by_asset, key=lambda asset: (by_asset[asset], asset))[-remembered:]
    for book in books:
        assert sorted(asset for shelf in book.shelves for asset in shelf) == sorted(kept)
        assert book.cells == books[0].cells
        assert book.lost.keys() == {("m", "1"), ("m", "2")}
        account = book.account
        assert account.too_late + account.expired >= LABELS - len(kept)
        assert book.since() == max(newest - 4 * HOUR, book.floor[0])
    _, _, tally = measured(books[0], "1")
    assert tally.labels == sum(e.class_name != UNKNOWN for shelf in books[0].shelves for e in shelf.values())


def test_what_cannot_be_joined_or_comes_from_the_future_is_counted_and_left_out() -> None:
    book = TruthBook()
    label = Truth("a", "c", START, START + 10, 1, "bag")
    book.take(label)
    book.take(replace(label, given_at=START - 400_000_000, said={"p": Said("m", "1", "champion", "bag", 0.9)}))
    assert (book.account.unjoined, book.account.ahead, book.cells) == (1, 1, {})


def test_a_correction_that_is_heard_before_what_it_corrects_is_not_forgotten() -> None:
    first = Truth("a", "c", START, START, 1, "bag", 0.1, {"p": Said("m", "1", "champion", "bag", 0.9)})
    book = TruthBook()
    book.take(replace(first, revision=2, class_name="boot", propensity=0.0, said={}))
    book.take(first)
    (tally,) = book.cells.values()
    assert tally.confusion == {("boot", "bag"): 1}
    assert tally.disputed == 1


def test_a_snapshot_from_before_there_was_quality_is_taken_up_and_one_of_another_format_is_left_out() -> None:
    engine = Engine.new(policy())
    engine.learn(events(1)[:50])
    pieces = dict(Snapshots().changed(engine))
    before = {key: piece for key, piece in pieces.items() if not key.startswith(("@truth", "@traffic"))}
    assert restored(engine, before).truth.size == 0
    other = {**pieces, "@truth": dump([FORMAT + 1, "whatever"])}
    assert restored(engine, other).truth.size == 0
    assert restored(engine, pieces).truth.cells == engine.truth.cells


def test_a_policy_without_quality_takes_the_shipped_values_and_a_wrong_one_is_refused() -> None:
    document = yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8"))
    assert Policy.read(document) == Policy.read({k: v for k, v in document.items() if k != "quality"})
    for field, value in (("alpha", 1.0), ("propensity", 0.0), ("weight_max", 0.5), ("remembered", 0)):
        with pytest.raises(ValueError, match="quality"):
            Policy.read({**document, "quality": {**document["quality"], field: value}})
