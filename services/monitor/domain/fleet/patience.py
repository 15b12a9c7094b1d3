"""Which of many cameras' alarms are beyond chance: e-d-BH over the fleet, on e-detectors out of the run lengths.

e-d-BH (Dandapanthula & Ramdas, arXiv 2501.04130): of K e-detectors, the k largest are believed when each is at least
K / (a k). The expected share of wrong alarms over the expected time waited (error over patience) is then at most a, at
any time one looks and however streams depend on each other. An e-detector is a statistic whose mean never exceeds the
time it has run for, as long as nothing changes. A CUSUM is none. Its own mean run length up to where it stands is one:
Siegmund's formula (1985, eq. 2.57) solves g(0) = 0, E g(next) = g(now) + 1 for a reflected Brownian motion, so g(W) - t
is a martingale. The mean over channels is an e-detector again. What is not known of the reference is in the CUSUM's
limit: a sum counts as its share of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.monitor.domain.arming import ALLOWANCES
from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.policy import Policy
from services.monitor.domain.runlength import block_inflation, run_length, threshold


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
    allowance = policy.channels.allowance / block_inflation(reference.rho, camera.block)
    streams = 2.0 * active * len(ALLOWANCES)  # Both ways, by each rule; of a channel's, the highest is counted alone.
    height = threshold(allowance, 0.0, policy.channels.run_length_alarm * streams / camera.block)
    share = bank.statistic() / bank.threshold()
    total = sum(run_length(-allowance, s * height) for s in share[reference.active].tolist() if s > 0.0)
    return min(camera.block * total / streams, 1e300)
