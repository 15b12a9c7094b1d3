"""Shares are met, keys stay where they are, and few keys get the nearest share there is."""

from __future__ import annotations

import numpy as np
import pytest

from services.serving.domain.rollout import place, threshold_of

KEYS = [f"camera-{number}" for number in range(6_000)]


def taken(share: float, salt: str, keys: list[str]) -> set[str]:
    threshold = threshold_of(share, salt, keys)
    return {key for key in keys if place(salt, key) < threshold.value}


def test_a_tenth_of_six_thousand_keys_is_a_tenth_of_the_traffic() -> None:
    drawn = np.random.default_rng(0).integers(0, len(KEYS), 20_000)
    for version in range(50):
        chosen = taken(0.1, f"m/{version}", KEYS)
        assert 0.09 <= sum(KEYS[key] in chosen for key in drawn) / 20_000 <= 0.11


def test_raising_the_share_never_moves_a_key_back() -> None:
    for keys in (KEYS, KEYS[:6], KEYS[:100]):
        before: set[str] = set()
        for share in (0.01, 0.1, 0.25, 0.5, 0.9, 1.0):
            after = taken(share, "m/2", keys)
            assert before <= after
            before = after
        assert before == set(keys)


@pytest.mark.parametrize(("share", "cameras", "wanted"), [(0.1, 6, 1), (0.25, 6, 2), (0.5, 6, 3), (0.1, 3, 0)])
def test_few_cameras_get_the_nearest_share_shown_as_it_is(share: float, cameras: int, wanted: int) -> None:
    keys = KEYS[:cameras]
    threshold = threshold_of(share, "m/2", keys)
    assert (threshold.asked, threshold.real) == (share, wanted / cameras)
    assert len(taken(share, "m/2", keys)) == wanted


def test_another_version_takes_other_keys() -> None:
    first, second = taken(0.1, "m/2", KEYS), taken(0.1, "m/3", KEYS)
    assert len(first & second) < 0.3 * len(first)


def test_the_ends_take_none_and_all() -> None:
    assert taken(0.0, "m/2", KEYS[:5]) == set()
    assert taken(1.0, "m/2", KEYS[:5]) == set(KEYS[:5])
