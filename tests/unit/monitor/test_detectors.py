"""One suite for every detector: it stays quiet, it alarms, it is reset, and it goes on alike from what it dumped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pytest

from services.monitor.domain.detectors.adwin import AdwinBank
from services.monitor.domain.detectors.cusum import CusumBank
from services.monitor.domain.detectors.kswin import KswinBank
from services.monitor.domain.detectors.mixture import MixtureDetector
from services.monitor.domain.detectors.page_hinkley import PageHinkleyBank
from services.monitor.domain.detectors.protocol import Detector, Vector
from services.monitor.domain.runlength import block_deviation, block_inflation, run_length, skew_factor, threshold

Made: TypeAlias = tuple[int, Detector, Callable[[int, float], Vector]]

MAKERS: dict[str, tuple[int, Callable[[], Detector]]] = {
    "cusum": (3, lambda: CusumBank(np.full(3, 0.5), np.full(3, 9.0))),
    "adwin": (3, lambda: AdwinBank(3, {"delta": 0.0001})),
    "page-hinkley": (3, lambda: PageHinkleyBank(3, {"threshold": 40.0, "delta": 0.2})),
    "kswin": (3, lambda: KswinBank(3, {"alpha": 1e-6, "window_size": 60, "stat_size": 20, "seed": 1})),
    "e-detector": (1, lambda: MixtureDetector(0.1, 1e4, (0.2, 0.3, 0.5))),
}


@pytest.fixture(params=sorted(MAKERS))
def made(request: pytest.FixtureRequest) -> Made:
    """Width, a detector, and a source of values that are moved by so much (an error rate for the e-detector)."""
    width, maker = MAKERS[request.param]
    rng = np.random.default_rng(7)

    def values(count: int, moved: float) -> Vector:
        if width == 1:
            return (rng.random((count, 1)) < (0.6 if moved else 0.08)).astype(np.float64)
        noise = rng.normal(size=(count, width))
        noise[:, 0] += moved
        return noise

    return width, maker(), values


def feed(detector: Detector, values: Vector) -> None:
    for row in values:
        detector.update(row)


def test_it_is_quiet_and_then_alarms_on_the_stream_that_moved(made: Made) -> None:
    width, detector, values = made
    feed(detector, values(120, 0.0))
    assert not detector.alarmed().any()
    feed(detector, values(120, 3.0))
    assert detector.alarmed().tolist() == [True] + [False] * (width - 1)
    assert detector.statistic().shape == detector.threshold().shape == (width,)
    detector.reset()
    assert not detector.alarmed().any()


def test_it_goes_on_alike_from_its_dump(made: Made) -> None:
    _, detector, values = made
    feed(detector, values(100, 0.0))
    other = type(detector).load(detector.dump())
    for row in values(120, 3.0):
        detector.update(row)
        other.update(row)
        assert other.statistic().tolist() == detector.statistic().tolist()
        assert other.alarmed().tolist() == detector.alarmed().tolist()
    assert other.alarmed().any()


def test_a_missing_value_changes_nothing(made: Made) -> None:
    width, detector, values = made
    feed(detector, values(50, 0.0))
    before = detector.statistic().tolist()
    detector.update(np.full(width, np.nan))
    assert detector.statistic().tolist() == before


def test_a_threshold_gives_the_run_length_that_was_asked_for() -> None:
    """Simulated: 400 walks with an exact reference; the mean run length is within a tenth of 1,000."""
    limit = threshold(0.5, 0.0, 1000.0)
    assert abs(run_length(-0.5, limit) - 1000.0) < 5.0
    rng = np.random.default_rng(1)
    sums, lengths = np.zeros(400), np.zeros(400)
    open_walks = np.ones(400, dtype=bool)
    for step in range(1, 12_000):
        sums = np.maximum(sums + rng.normal(size=400) - 0.5, 0.0)
        done = open_walks & (sums >= limit)
        lengths[done] = step
        open_walks &= ~done
        if not open_walks.any():
            break
    lengths[open_walks] = 12_000
    assert 850 < lengths.mean() < 1150


def test_a_short_reference_and_a_skewed_channel_raise_the_threshold() -> None:
    assert threshold(0.6, 0.2, 1e5) > threshold(0.6, 0.0, 1e5) > threshold(0.6, 0.0, 1e4)
    assert skew_factor(0.6, 0.8) > skew_factor(0.6, 0.1) > skew_factor(0.6, 0.0) == 1.0
    assert abs(skew_factor(0.6, 1e-5) - 1.0) < 1e-3


def test_the_deviation_of_a_block_mean_of_an_autoregressive_series_is_known() -> None:
    rng = np.random.default_rng(3)
    series = np.zeros(400_000)
    noise = rng.normal(size=len(series)) * np.sqrt(1 - 0.81)
    for n in range(1, len(series)):
        series[n] = 0.9 * series[n - 1] + noise[n]
    assert abs(series.reshape(-1, 40).mean(axis=1).std() / block_deviation(0.9, 40) - 1.0) < 0.03


def test_blocks_that_resemble_each_other_do_not_raise_the_rate_of_false_alarms() -> None:
    """Simulated: 300 walks over block means of an AR(1) series with rho .9; 1,000 steps are wanted. Measured 1,385
    with the inflation and 424 without, with standard errors of a twentieth.
    """
    rho, size, walks = 0.9, 38, 300
    unit, deviation = block_inflation(rho, size), block_deviation(rho, size)
    limit = unit * threshold(0.5 / unit, 0.0, 1000.0)
    rng = np.random.default_rng(2)
    last, sums, alarms = rng.normal(size=walks), np.zeros(walks), 0
    steps = 1_000
    for _ in range(steps):
        total = np.zeros(walks)
        for noise in rng.normal(size=(size, walks)) * np.sqrt(1 - rho * rho):
            last = rho * last + noise
            total += last
        sums = np.maximum(sums + total / size / deviation - 0.5, 0.0)
        alarms += int((sums >= limit).sum())
        sums[sums >= limit] = 0.0
    assert 700 < walks * steps / alarms < 2_200
    assert block_inflation(0.0, 10) == 1.0
    assert block_inflation(0.05, 10) < 1.01
