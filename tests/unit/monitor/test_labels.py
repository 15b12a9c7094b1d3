"""The watch over labels: what it believes before it has seen enough of them."""

from __future__ import annotations

import numpy as np
import pytest

from services.monitor.domain.labels import Joined, LabelWatch
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
