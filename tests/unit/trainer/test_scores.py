"""From logits to what a report says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from services.trainer.child.evaluation import UNKNOWN, aligned, fit
from services.trainer.domain.scores import conditions, log_softmax, score, temperature, wilson


@pytest.mark.parametrize(
    ("right", "count", "low", "high"),
    [(0, 0, 0.0, 1.0), (9, 10, 0.5958, 0.9821), (50, 100, 0.4038, 0.5962), (0, 20, 0.0, 0.1611), (20, 20, 0.8389, 1.0)],
)
def test_the_wilson_interval(right: int, count: int, low: float, high: float) -> None:
    assert list(wilson(right, count)) == pytest.approx([low, high], abs=1e-4)


def test_a_score_counts_hits_loss_and_recall() -> None:
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]], np.float32))
    found = score("all", logits, np.array([0, 1, 1, 0]), ["a", "b", "c"])
    assert (found.condition, found.assets, found.accuracy) == ("all", 4, 0.75)
    assert found.recall == {"a": 1.0, "b": 0.5}
    assert found.mean_loss == pytest.approx(-np.mean(np.log([0.7, 0.2, 0.8, 0.5])), abs=1e-5)
    assert found.accuracy_low < 0.75 < found.accuracy_high


def test_nothing_is_scored_as_nothing() -> None:
    found = score("new", np.zeros((0, 3), np.float32), np.zeros(0, np.int64), ["a", "b", "c"])
    assert (found.assets, found.accuracy, found.recall) == (0, 0.0, {})


def test_conditions_are_told_apart() -> None:
    new, in_force = np.array([True, True, False, False]), np.array([True, False, True, False])
    rows = {name: chosen.tolist() for name, chosen in conditions(new, in_force).items()}
    assert rows == {
        "all": [True, False, True, False],
        "old": [False, False, True, True],
        "new": [True, False, False, False],
        "old_in_force": [False, False, True, False],
    }


def test_large_logits_do_not_overflow() -> None:
    assert np.isfinite(log_softmax(np.array([[1e4, -1e4, 0.0]], np.float32))).all()


def test_the_temperature_undoes_overconfidence() -> None:
    rng = np.random.default_rng(3)
    truth = rng.normal(0, 1.5, (4000, 3))
    shares = np.exp(log_softmax(truth.astype(np.float32)))
    labels = np.array([rng.choice(3, p=share / share.sum()) for share in shares])
    assert temperature((truth * 2.5).astype(np.float32), labels) == pytest.approx(2.5, rel=0.12)
    assert temperature(truth.astype(np.float32), labels) == pytest.approx(1.0, rel=0.12)
    assert temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64)) == 1.0
    certain = np.eye(3, dtype=np.float32)[labels] * 50
    assert temperature(certain, labels) == pytest.approx(math.exp(math.log(0.25)))


def test_a_champion_of_other_classes_is_measured_on_those_it_knows() -> None:
    logits = np.array([[1.0, 2.0], [3.0, 0.5]], np.float32)
    same = aligned(logits, ["a", "b"], ["a", "b"])
    assert same is logits
    other = aligned(logits, ["a", "gone"], ["new", "a"])
    assert other.tolist() == [[UNKNOWN, 1.0], [UNKNOWN, 3.0]]
    assert score("all", other, np.array([1, 0]), ["new", "a"]).accuracy == 0.5


def test_images_are_brought_to_a_models_own_shape() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 32, 24), np.uint8)
    assert fit(images, 3, 32, 24) is images
    assert fit(images, 1, 16, 16).shape == (2, 1, 16, 16)
    assert fit(images[:, :1], 3, 8, 9).shape == (2, 3, 8, 9)
