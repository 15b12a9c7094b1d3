"""The batch test behind a camera's CONFIRMED: how often it rejects when nothing has changed, on frames like their
neighbours, beside permuting single frames; and how often it sees a change.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from services.monitor.domain.batch_test import BLOCKS, FRESH, LEVEL, p_value, stretches
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.runlength import block_deviation, correlation_time
from tests.bench.monitor.figures import share_interval

CHANNELS: Final = 32
SIZE_AIM: Final = 0.07
BEFORE: Final = (6, 22)
"""Stretches before the alarm: of a young camera, and of one with a full trace."""


def blocks(rng: np.random.Generator, rho: float, count: int) -> Vector:
    """Means of blocks of AR(1) frames as a camera scores them, shape (count, 32)."""
    size = max(10, int(np.ceil(2.0 * correlation_time(rho))))
    last = rng.normal(size=CHANNELS)
    found = np.zeros((count, CHANNELS))
    step = np.sqrt(1.0 - rho * rho)
    for n in range(count):
        for noise in rng.normal(size=(size, CHANNELS)):
            last = rho * last + step * noise
            found[n] += last
    return found / size / block_deviation(rho, size)


def measure(rho: float, before: int, shift: float, tests: int) -> dict[str, Any]:
    """Shares of tests that reject at .05 when one channel moves by `shift` deviations of a frame, also where blocks are
    permuted singly.
    """
    size = max(10, int(np.ceil(2.0 * correlation_time(rho))))
    moved = shift / block_deviation(rho, size)
    rejected = singly = 0
    for seed in range(tests):
        rng = np.random.default_rng([12, seed])
        means = blocks(rng, rho, (before + FRESH + 1) * BLOCKS)
        means[(before + 1) * BLOCKS :, 0] += moved
        old, fresh = means[: before * BLOCKS], means[(before + 1) * BLOCKS :]
        rejected += p_value(*(stretches(part, [1] * len(part), BLOCKS) for part in (old, fresh))) <= LEVEL
        singly += p_value(old, fresh[-FRESH:]) <= LEVEL
    low, high = share_interval(rejected, tests)
    return {
        "rho": rho, "before": before, "shift": shift, "tests": tests, "aim": SIZE_AIM if not shift else None,
        "rejected": rejected / tests, "low": low, "high": high, "single_blocks": singly / tests,
    }  # fmt: skip


CASES: Final = (*((rho, before, 0.0) for rho in (0.0, 0.5, 0.9) for before in BEFORE), *((0.0, b, 0.5) for b in BEFORE))
