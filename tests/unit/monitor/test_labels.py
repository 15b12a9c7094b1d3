"""Labels joined to predictions, and the watch over them: what it believes before it has seen enough."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from services.monitor.domain.events import CHAMPION, OTHER, UNIFORM, Labelled, PredictionOf
from services.monitor.domain.labels import Joined, LabelBook, LabelWatch
from services.monitor.domain.risk import Count
from tests.unit.monitor.worlds import policy


def alarms(classes: int, lives: int, error: float = 0.16) -> int:
    """In how many lives of 1,000 labels the watch alarms although the error stays what the report said."""
    found, rules = 0, policy().labels
    for seed in range(lives):
        rng = np.random.default_rng([classes, seed])
        watch = LabelWatch(Count(600.0 * error, 600.0))
        for n in range(1000):
            truth = int(rng.integers(classes))
            said = truth if rng.random() >= error else (truth + int(rng.integers(1, classes))) % classes
            names = f"class-{said}", f"class-{truth}"
            watch.update(Joined(str(n), "c", n, n, 1, "1", *names, "uniform", n), rules)
        found += watch.alarmed()
    return found


@pytest.mark.parametrize("classes", [2, 3])
def test_a_few_classes_whose_error_is_known_raise_no_alarm(classes: int) -> None:
    """One life in ten may alarm (a run length of 10,000 labels), so that 5 of 8 have a chance of 1 in 2,000. With a
    prior for ten classes all lives of two classes did, and a third of those of three.
    """
    assert alarms(classes, 8) < 5


def said_of(number: int, truth: str, **more: Any) -> Labelled:
    reference = PredictionOf("m", "1", CHAMPION, "coat", 0.9)
    one = Labelled(100.0 + number, f"l{number}", "", "asset", "gate", 50.0, number, truth, UNIFORM, 0.05, (reference,))
    return replace(one, **more)


def test_a_label_that_somebody_corrects_without_a_task_still_estimates_risk() -> None:
    book = LabelBook()
    book.join(said_of(1, "coat"), "m")
    book.join(said_of(2, "boot", origin=OTHER, propensity=0.0), "m")
    (entry,) = book.choose(lambda _: True)
    assert (entry.truth, entry.wrong) == ("boot", True)


def test_a_label_taken_back_estimates_nothing_and_an_earlier_revision_does_not_return() -> None:
    book = LabelBook()
    book.join(said_of(1, "boot"), "m")
    book.join(said_of(3, "", origin=OTHER, propensity=0.0), "m")
    assert book.choose(lambda _: True) == []
    assert book.join(said_of(2, "boot"), "m") is None
    assert book.choose(lambda _: True) == []
    book.join(said_of(4, "coat"), "m")
    assert [entry.truth for entry in book.choose(lambda _: True)] == ["coat"]
