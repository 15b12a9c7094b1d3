"""The watch over the labelled error: how many labels between two false alarms, how many until a worse error is seen,
and the same of River's detectors on the same labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from services.monitor.domain.labels import Joined, LabelWatch
from services.monitor.domain.policy import LabelPolicy
from services.monitor.domain.risk import Count
from tests.bench.monitor import rivals
from tests.bench.monitor.figures import poisson_upper
from tests.unit.monitor.worlds import CLASSES, policy

BEFORE: Final = 0.1
AFTER: Final = {0.3: 75, 0.15: 1_100}
"""Errors after the change, and in how many labels half of them should be found."""
WARM_UP: Final = 300
CAP: Final = 5_000
_ASSETS: Final = 2_000
_WEIGHT: Final = 600.0


def report(rng: np.random.Generator) -> Count:
    """What registry knew of the version: measured on 2,000 held-out assets, worth 600 labels, as in the engine."""
    return Count(float(rng.binomial(_ASSETS, BEFORE)) * _WEIGHT / _ASSETS, _WEIGHT)


def joined(number: int, predicted: str, truth: str) -> Joined:
    """A uniform label."""
    key = str(number)
    return Joined(key, "c", number, number, 1, "1", predicted, truth, "uniform", number)


def confusion(rng: np.random.Generator, wrong: float) -> tuple[str, str]:
    """Predicted and true class of one label among ten classes; a wrong one is any other."""
    truth = int(rng.integers(len(CLASSES)))
    other = (truth + int(rng.integers(1, len(CLASSES)))) % len(CLASSES)
    return CLASSES[other if wrong else truth], CLASSES[truth]


def watch_delay(watch: LabelWatch, pairs: Sequence[tuple[str, str]], onset: int, rules: LabelPolicy) -> list[int]:
    """Numbers of the labels (0 is the first after `onset`) at which the watch alarmed: all before the onset, answered
    and forgotten as the engine does, and the first after it.
    """
    found = []
    for number, (predicted, truth) in enumerate(pairs):
        watch.update(joined(number, predicted, truth), rules)
        if watch.alarmed():
            found.append(number - onset)
            if number >= onset:
                break
            watch.forgive(harmless=number < onset)
    return found


def null(labels: int, seed: int) -> dict[str, Any]:
    """False alarms of the watch in labels with an error of .1, in lives of 10,000 labels; and of the rivals."""
    found, life = 0, 10_000
    for number in range(max(labels // life, 1)):
        rng = np.random.default_rng([seed, number])
        pairs = [confusion(rng, wrong) for wrong in rivals.outcomes(rng, BEFORE, life)]
        found += len(watch_delay(LabelWatch(report(rng)), pairs, life, policy().labels))
    seen = max(labels // life, 1) * life
    return {
        "labels": seen,
        "alarms": found,
        "per_10k": 1e4 * found / seen,
        "per_10k_upper": 1e4 * poisson_upper(found) / seen,
    }


def measure(after: float, seeds: int) -> dict[str, Any]:
    """Labels until the watch sees this error."""
    return {"error": after, "aim": AFTER[after], "delays": [_one(after, seed) for seed in range(seeds)]}


def _one(after: float, seed: int) -> int | None:
    watch = LabelWatch(report(np.random.default_rng([6, seed])))
    found = watch_delay(watch, stream(after, seed), WARM_UP, policy().labels)
    return next((number + 1 for number in found if number >= 0), None)


def stream(after: float, seed: int) -> list[tuple[str, str]]:
    """Labels before and after, the same for everyone who is compared."""
    rng = np.random.default_rng([7, seed])
    wrong = rivals.outcomes(rng, BEFORE, WARM_UP) + rivals.outcomes(rng, after, CAP)
    return [confusion(rng, w) for w in wrong]


def rival_rows(seeds: int, labels: int, rate: float) -> list[dict[str, Any]]:
    """River's detectors at their defaults and matched to `rate` false alarms a label."""
    rows = []
    values = rivals.outcomes(np.random.default_rng(99), BEFORE, labels)
    for rival in rivals.LABELS:
        few = values[: len(values) // 40] if rival.slow else values
        rows.append(_rival_row(rival, "default", rival.default, few, seeds))
        if not rival.slow:
            matching = rivals.matched(rival, few, max(rate * len(few), 1.0))
            rows.append(_rival_row(rival, "matched", matching, few, seeds))
    return rows


def _rival_row(
    rival: rivals.Rival, kind: str, setting: float | None, quiet: Sequence[float], seeds: int
) -> dict[str, Any]:
    row: dict[str, Any] = {"detector": rival.name, "kind": kind, "setting": setting}
    if setting is not None:
        row["per_10k"] = 1e4 * rivals.alarms(rival.make(setting), quiet) / len(quiet)
        few = max(seeds // 10, 1) if rival.slow else seeds
        row["delays"] = {str(after): _of_rival(rival, setting, after, few) for after in AFTER}
    return row


def _of_rival(rival: rivals.Rival, setting: float, after: float, seeds: int) -> list[int | None]:
    return [
        rivals.delay(rival.make(setting), [float(p != t) for p, t in stream(after, s)], WARM_UP) for s in range(seeds)
    ]
