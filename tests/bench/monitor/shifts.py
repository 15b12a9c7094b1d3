"""One channel of a camera moves: frames until ALARM and CONFIRMED through the whole engine, and the same of River's
detectors, one for each channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, State
from services.monitor.domain.runlength import correlation_time
from tests.bench.monitor import rivals
from tests.bench.monitor.null import ALARM_AIM
from tests.bench.monitor.streams import QUIET, Change, Noise, Scene
from tests.unit.monitor.worlds import policy

ALARM_AIM_SAMPLES: Final = 40
CONFIRMED_AIM_SAMPLES: Final = 150
_CAP: Final = 4_000
_SETTLED: Final = {0.0: 2_000, 0.5: 2_000, 0.9: 3_000}
"""Frames after which a camera has been watched for a while, by rho: likeness makes it begin later."""


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of camera, how much it moves, after how many frames, and until which state it is watched."""

    noise: Noise
    shift: float
    onset: int
    until: State = State.ALARM
    aim: int | None = None


CASES: Final = (
    *(Case(noise, 1.0, _SETTLED[noise.rho], aim=ALARM_AIM_SAMPLES) for noise in QUIET),
    Case(QUIET[0], 0.5, _SETTLED[0.0]),
    Case(QUIET[0], 1.0, 500, aim=ALARM_AIM_SAMPLES),
    Case(QUIET[0], 0.5, 500),
    Case(QUIET[0], 1.0, 500, State.CONFIRMED, CONFIRMED_AIM_SAMPLES),
)


def measure(case: Case, seeds: int) -> dict[str, Any]:
    """Effective frames, n (1 - rho) / (1 + rho), from the change until the state; early ones are false alarms."""
    found = [_one(case, seed) for seed in range(seeds)]
    worth = correlation_time(case.noise.rho)
    return {
        "stream": case.noise.name,
        "shift": case.shift,
        "onset": case.onset,
        "until": case.until.name,
        "aim": case.aim,
        "false_before": sum(1 for d in found if d is not None and d <= 0),
        "delays": [None if d is None else round(d / worth, 1) for d in found if d is None or d > 0],
    }


def _one(case: Case, seed: int) -> int | None:
    """Frames from the change on; 0 or less when the state came before it."""
    labelled = case.until is State.CONFIRMED
    onset = case.onset + seed % 40
    scene = Scene(
        case.noise, 50_000 + seed, onset + _CAP, cameras=1, rate=1.0 if labelled else 20.0,
        labelled=float(labelled), prompt=True, change=Change(onset, case.shift, error=0.3 if labelled else 0.1),
    )  # fmt: skip
    engine = Engine.new(policy())
    for batch in scene.batches(step=1):
        findings = engine.feed(batch)
        watch = engine.models.get("m")
        if watch is None or not watch.cameras:
            continue
        (camera,) = watch.cameras.values()
        reached = [f for f in findings if isinstance(f, DriftFound) and f.incident.state >= case.until]
        if reached or (not labelled and camera.state >= State.ALARM):
            return camera.frames - onset
    return None


def rival_rows(seeds: int, values: int) -> list[dict[str, Any]]:
    """River's detectors on one channel of independent frames; matched: all channels of a camera together alarm no more
    often than the aim. Each is measured on a single channel, whose rate is that of the camera divided by the channels.
    """
    quiet = np.random.default_rng(98).normal(size=values).tolist()
    rows = []
    for rival in rivals.CHANNELS:
        if rival.slow:
            rows.append(_row(rival, "default", rival.default, quiet[: values // 100], max(seeds // 10, 1)))
            continue
        rows.append(_row(rival, "default", rival.default, quiet[: values // 10], seeds))
        setting = rivals.matched(rival, quiet, max(values * ALARM_AIM / WIDTH, 1.0))
        rows.append(_row(rival, "matched", setting, quiet, seeds))
    return rows


def _row(rival: rivals.Rival, kind: str, setting: float | None, quiet: Sequence[float], seeds: int) -> dict[str, Any]:
    row: dict[str, Any] = {"detector": rival.name, "kind": kind, "setting": setting}
    if setting is None:
        return row
    row["per_100k_frames"] = 1e5 * WIDTH * rivals.alarms(rival.make(setting), quiet) / len(quiet)
    row["correlated_per_100k_frames"] = {
        str(rho): 1e5 * WIDTH * rivals.alarms(rival.make(setting), values) / len(values)
        for rho in (0.5, 0.9)
        if (values := _autoregressive(rho, min(len(quiet), 100_000)))
    }
    row["delays"] = {str(shift): [_of_rival(rival, setting, shift, s) for s in range(seeds)] for shift in (1.0, 0.5)}
    return row


def _autoregressive(rho: float, size: int) -> list[float]:
    noise = np.random.default_rng(97).normal(size=size) * np.sqrt(1.0 - rho * rho)
    for n in range(1, size):
        noise[n] += rho * noise[n - 1]
    values: list[float] = noise.tolist()
    return values


def _of_rival(rival: rivals.Rival, setting: float, shift: float, seed: int) -> int | None:
    onset = 500 if rival.slow else _SETTLED[0.0]
    values = np.random.default_rng([8, seed]).normal(size=onset + _CAP)
    values[onset:] += shift
    return rivals.delay(rival.make(setting), values.tolist(), onset)
