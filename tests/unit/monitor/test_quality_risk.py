"""The interval of the risk: right at all times at once, narrow enough to be of use, and honest about its weights."""

from __future__ import annotations

import numpy as np
import pytest

from services.monitor.domain.policy import QualityPolicy
from services.monitor.domain.quality.book import TruthBook
from services.monitor.domain.quality.measures import risk
from services.monitor.domain.quality.sequence import interval
from services.monitor.domain.quality.tally import STEPS, Tally
from services.monitor.domain.quality.truth import Said, Truth

LOOKS = (*range(1, 30, 2), *(int(30 * 1.15**n) for n in range(34)))


def looked_at(rng: np.random.Generator, error: float, weights: tuple[int, ...]) -> bool:
    """Whether the interval missed the error at any of many looks."""
    wrong, step = rng.random(LOOKS[-1]) < error, rng.choice(weights, LOOKS[-1])
    for look in LOOKS:
        outcomes: dict[tuple[int, float], int] = {
            (w, hit): int(((step[:look] == w) & (wrong[:look] == hit)).sum()) for w in weights for hit in (False, True)
        }
        low, high = interval(outcomes, STEPS, 0.05)
        if not low <= error <= high:
            return True
    return False


@pytest.mark.parametrize(("error", "weights"), [(0.02, (64,)), (0.13, (64,)), (0.5, (64, 20, 3))])
def test_the_interval_holds_at_all_looks_at_once(error: float, weights: tuple[int, ...]) -> None:
    rng = np.random.default_rng(7)
    missed = sum(looked_at(rng, error, weights) for _ in range(40))
    assert missed <= 3  # Expected at most 2 of 40.


@pytest.mark.parametrize(("labels", "wrong", "width"), [(100, 13, 0.25), (1000, 130, 0.08), (10_000, 1300, 0.03)])
def test_the_interval_narrows_with_labels(labels: int, wrong: int, width: float) -> None:
    low, high = interval({(64, True): wrong, (64, False): labels - wrong}, STEPS, 0.05)
    assert low < 0.13 < high
    assert high - low < width


def test_the_interval_ends_at_what_cannot_be_excluded() -> None:
    assert interval({}, STEPS, 0.05) == (0.0, 1.0)
    low, high = interval({(64, False): 300}, STEPS, 0.05)
    assert low == 0.0
    assert 0.005 < high < 0.05
    low, high = interval({(64, True): 300}, STEPS, 0.05)
    assert high == 1.0
    assert 0.95 < low < 0.995


def test_labels_that_were_drawn_more_often_do_not_bend_the_weighted_risk() -> None:
    """Frames of the night are wrong four times as often, and labelled ten times as often."""
    rng, book = np.random.default_rng(2), TruthBook()
    for n in range(40_000):
        night = n % 2 == 0
        propensity = 0.2 if night else 0.02
        if rng.random() < propensity:
            right = rng.random() >= (0.4 if night else 0.1)
            said = Said("m", "1", "champion", "bag" if right else "boot", 0.9)
            book.take(Truth(f"a{n}", "c", n, n, 1, "bag", propensity, {f"p{n}": said}))
    tally = Tally()
    for one in book.cells.values():
        tally.add(one)
    found = risk(tally, 0.05)
    assert found.raw > 0.34
    assert found.weighted == pytest.approx(0.25, abs=0.02)


def test_labels_without_a_known_probability_never_enter_the_risk() -> None:
    book = TruthBook(QualityPolicy())
    for n in range(50):
        said = {f"p{n}": Said("m", "1", "champion", "boot", 0.3)}
        book.take(Truth(f"a{n}", "c", n, n, 1, "bag", 0.0, said))
    ((cell, tally),) = book.cells.items()
    assert not cell.drawn
    assert (risk(tally, 0.05).labels, tally.labels) == (0, 50)


def test_a_label_drawn_very_rarely_weighs_no_more_than_the_bound_and_is_counted() -> None:
    book = TruthBook(QualityPolicy(weight_max=100.0))
    for n, (propensity, name) in enumerate([(0.01, "bag"), (0.0001, "boot")]):
        book.take(Truth(f"a{n}", "c", n, n, 1, "bag", propensity, {"p": Said("m", "1", "champion", name, 0.9)}))
    (tally,) = book.cells.values()
    found = risk(tally, 0.05)
    assert (found.weighted, found.clipped) == (0.5, 1)
