"""Which of many cameras' alarms are beyond chance: e-d-BH over the fleet, on e-detectors out of the run lengths.

e-d-BH (Dandapanthula & Ramdas, arXiv 2501.04130): of K e-detectors, the k largest are believed when each is at least
K / (a k). The expected share of wrong alarms over the expected time waited (error over patience) is then at most a, at
any time one looks and however streams depend on each other. An e-detector is a statistic whose mean never exceeds the
time it has run for, as long as nothing changes. A CUSUM is none. Its own mean run length up to where it stands is one:
Siegmund's formula (1985, eq. 2.57) solves g(0) = 0, E g(next) = g(now) + 1 for a reflected Brownian motion, so g(W) - t
is a martingale. The mean over channels is an e-detector again. As in `runlength.threshold`, rates are averaged over the
reference's error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp

import numpy as np

from services.monitor.domain.camera import ALLOWANCES, CameraWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.runlength import _NODES, _WEIGHTS, block_inflation, run_length, threshold


def believed(steps: Mapping[str, float], streams: int, run_length_wanted: float) -> set[str]:
    """Names whose e-detector e-d-BH believes, of `streams` in all; those not in `steps` count as 0."""
    ordered: Sequence[tuple[float, str]] = sorted(((-value, name) for name, value in steps.items()))
    chosen = 0
    for rank, (value, _) in enumerate(ordered, start=1):
        if -value * rank >= streams * run_length_wanted:
            chosen = rank
    return {name for _, name in ordered[:chosen]}


def steps_of(camera: CameraWatch, policy: Policy) -> float:
    """How many frames one would wait on average, were nothing wrong, until as much is seen as this camera shows."""
    reference, bank = camera.reference, camera.bank
    if reference is None or bank is None:
        return 0.0
    active = max(int(reference.active.sum()), 1)
    unit = block_inflation(reference.rho, camera.block)
    error = camera.armed_for
    allowance = float(ALLOWANCES[0] @ [policy.channels.allowance, error]) / unit
    streams = 2.0 * active * len(ALLOWANCES)  # Both ways, by each rule; of a channel's, the highest is counted alone.
    wanted = policy.channels.run_length_alarm * streams / camera.block
    height = threshold(allowance, error / unit, wanted)
    share = bank.statistic() / bank.threshold()
    heights = np.round(share[reference.active] * height, 3)
    total = sum(_steps(h, allowance, error / unit) for h in heights.tolist() if h > 0.0)
    return min(camera.block * total / streams, 1e300)


def _steps(height: float, allowance: float, error: float) -> float:
    rates = (w / run_length(x * error - allowance, height) for x, w in zip(_NODES, _WEIGHTS, strict=True))
    return 1.0 / max(sum(rates), exp(-600.0))
