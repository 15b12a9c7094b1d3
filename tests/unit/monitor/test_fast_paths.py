"""What is done in a quicker way gives the same bits as the plain way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from irisloop.serving.v1 import serving_pb2

from services.monitor.domain import runlength
from services.monitor.domain.channels import FEATURES
from services.monitor.domain.drafts import make_seen
from services.monitor.domain.inputs import Seen
from services.monitor.domain.reference import moments
from services.monitor.domain.rows import Rows
from services.monitor.domain.tables import REJECTIONS
from services.monitor.wire import features_of


@pytest.mark.parametrize("frames", [1, 2, 9, 10, 38, 200])
def test_the_moments_of_a_block_are_those_that_leave_out_nan(frames: int) -> None:
    rng = np.random.default_rng(frames)
    for scale in (1e-3, 1.0, 1e4):
        values = rng.normal(size=(frames, 24)) * scale
        means, spreads = moments(values.copy(), np.zeros(24))
        assert means.tobytes() == np.nanmean(values, axis=0).tobytes()
        assert spreads.tobytes() == np.nanvar(values, axis=0).tobytes()


def test_a_channel_that_is_missing_has_no_mean_and_a_frame_that_misses_one_does_not_count() -> None:
    values = np.array([[1.0, math.nan, math.nan], [3.0, 5.0, math.nan]])
    means, spreads = moments(values, np.array([0.0, 0.0, 7.0]))
    assert means[:2].tolist() == [2.0, 5.0]
    assert math.isnan(means[2])
    assert spreads.tolist() == [1.0, 0.0, 0.0]


def test_a_prediction_made_quickly_is_a_prediction() -> None:
    given = (1.5, "id", "trace", "m", "1", "champion", "c", "a", "x", 0.5, (1.0, 2.0), "pair", "roll", 3.0, True)
    assert make_seen(*given) == Seen(*given)
    assert type(make_seen(*given)) is Seen
    with pytest.raises(AttributeError):
        make_seen(*given).at = 2.0  # type: ignore[misc]


def test_a_feature_that_is_there_and_0_is_not_missing() -> None:
    assert all(math.isnan(value) for value in features_of(serving_pb2.Features()))
    there = serving_pb2.Features(max_probability=0, margin=0, entropy=0, energy=0, embedding_norm=0)
    there.projections.extend([0.0] * 8)
    there.pixels.SetInParent()
    values = dict(zip(FEATURES, features_of(there), strict=True))
    assert math.isnan(values.pop("pixels.frame_difference"))
    assert set(values.values()) == {0.0}
    there.pixels.frame_difference = 0.0
    assert features_of(there) == (0.0,) * len(FEATURES)


def test_rows_of_several_days_are_cut_by_day_in_order() -> None:
    day = 86_400_000_000
    at = [day + 1, 2 * day, day - 1, 2 * day + 5]
    text = ["a", "b", "c", "d"]
    rows = Rows(REJECTIONS, "t", 0, [4, 5, 6, 7], [text, text, at, at, text, text, text, text])
    assert [(number, list(part.offsets), list(part.columns[0])) for number, part in rows.by_day()] == [
        (0, [6], ["c"]),
        (1, [4], ["a"]),
        (2, [5, 7], ["b", "d"]),
    ]
    assert rows.after(5).by_day()[0][1].offsets == [6]


def plain_threshold(allowance: float, uncertainty: float, steps: float) -> float:
    low, high = 0.0, 400.0
    for _ in range(60):
        middle = (low + high) / 2.0
        rate = sum(
            weight / runlength.run_length(node * uncertainty - allowance, middle)
            for node, weight in zip(runlength._NODES, runlength._WEIGHTS, strict=True)
        )
        low, high = (middle, high) if rate > 1.0 / steps else (low, middle)
    return high


def test_a_threshold_is_the_one_that_plain_halving_finds() -> None:
    rng = np.random.default_rng(5)
    asked = [(float(a), float(u), float(10**s)) for a, u, s in rng.uniform([0.05, 0, 1], [3, 1, 12], (400, 3))]
    asked += [(0.5, 0.0, 1.0), (0.5, 0.0, 0.01), (0.1, 3.0, 1e12), (1e-7, 0.0, 1e5), (0.25, 0.25 / 1.3556262, 1e6)]
    for one in asked:
        assert runlength.threshold(*one).hex() == plain_threshold(*one).hex(), one
