"""The batch test behind a camera's CONFIRMED: exact, the same each time, and on frames that did not raise the alarm."""

from __future__ import annotations

import numpy as np
import pytest

from services.monitor.domain.batch_test import LEVEL, least, p_value, stretches
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import State
from services.monitor.domain.inputs import Seen
from tests.unit.monitor.worlds import EPOCH, policy


def test_a_change_of_one_channel_is_seen_and_none_is_not() -> None:
    rng = np.random.default_rng(1)
    before, fresh = rng.normal(size=(20, 32)), rng.normal(size=(2, 32))
    assert p_value(before, fresh) > LEVEL
    fresh[:, 3] += 9.0
    assert p_value(before, fresh) == 1 / 231  # The most telling of all ways to choose 2 of 22.


def test_under_the_null_each_p_value_is_as_rare_as_it_says() -> None:
    """400 tests: 20 expected at .05, and more than 34 in one of 1,000 suites."""
    found = []
    for seed in range(400):
        points = np.random.default_rng([3, seed]).normal(size=(14, 8))
        found.append(p_value(points[:12], points[12:]))
    assert sum(p <= LEVEL for p in found) <= 34
    assert 0.4 < np.mean(found) < 0.65


def test_too_few_stretches_say_nothing() -> None:
    assert least(2) == 5
    points = np.arange(12.0).reshape(6, 2)
    assert p_value(points[:4], points[4:] + 100.0) == 1.0
    assert p_value(points, points[:0]) == 1.0


def test_stretches_hold_the_same_number_of_frames_whatever_the_blocks_were_halved_to() -> None:
    means = np.array([[1.0], [2.0], [4.0], [6.0], [8.0], [10.0]])
    found = stretches(means, [10, 40, 20, 20, 10, 30], 40)
    assert found[:, 0].tolist() == [2.0, 5.0, 9.5]
    assert stretches(means, [10, 50, 20, 20, 10, 30], 40)[:, 0].tolist() == [5.0, 9.5]
    assert stretches(means[:0], [], 40).shape == (0, 1)


def frames(first: int, count: int, moved: float) -> list[tuple[str, bool, Seen]]:
    rng = np.random.default_rng(first + 1)
    found = []
    for n in range(first, first + count):
        features = rng.normal(size=WIDTH)
        features[4] += moved
        key = str(n)
        seen = Seen(EPOCH + n / 20, key, "", "m", "1", "champion", "c", key, f"class-{n % 3}", 0.9, tuple(features))
        found.append(("p", True, seen))
    return found


@pytest.mark.parametrize(("stays", "state"), [(True, State.CONFIRMED), (False, State.ALARM)])
def test_a_camera_is_confirmed_when_the_change_is_still_there_after_the_alarm(stays: bool, state: State) -> None:
    engine, at = Engine.new(policy()), 2_000
    engine.feed(frames(0, at, 0.0))
    camera = engine.models["m"].cameras["c"]
    while camera.state < State.ALARM:
        engine.feed(frames(at, 10, 1.0))
        at += 10
    engine.feed(frames(at, 150, float(stays)))
    assert camera.state is State.ALARM
    engine.feed(frames(at + 150, 60, float(stays)))
    assert camera.state is state
