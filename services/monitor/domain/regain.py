"""What share of the error that a change added a retraining regains: probed on labels, and known once a run has ended.

The probe is a small model of what events carry: the frozen model's answer, its score and the features. It sees eight
directions of the embedding and no pixel, so a retraining regains no less than it does; what it cannot regain may still
be learnt. A run tells more: its new version and the champion are held against the same assets of the new condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import Outlook, Regain
from services.monitor.domain.inputs import Tried
from services.monitor.domain.labels import Joined
from services.monitor.domain.risk import Count

LEAST: Final = 100
"""Labels before the probe says anything, and held-out assets from which on a run's estimate counts as it stands."""
MOST: Final = 500
"""It is fitted to the newest so many."""
PROBE: Final = "probe"
RUN: Final = "run"
_LEAST_HELD: Final = 30  # Held-out assets before a run says anything at all.
_FOLDS: Final = 10  # Stretches of time: neighbours are alike and stay together.
_RIDGE: Final = 0.3
_QUANTILES: Final = (1.645, 1.833)  # 90 % two-sided: normal, and Student's t of 9 degrees of freedom (ten folds).


def probe(since: Sequence[Joined], healthy: Count, least: float) -> Regain | None:
    """From labels since a change, by capture time, and the error before it; None with fewer than 100, no loss, or of a
    detector, whose labels are boxes.

    Kernel ridge regression (Saunders et al., ICML 1998) of the classes on features and answer, cross-validated by
    stretches of time. A lower bound, so its word is `recoverable` when the interval lies above `least`, else unknown.
    """
    entries = list(since)[-MOST:]
    if len(entries) < LEAST or any(e.loss is not None for e in entries):
        return None
    frozen = np.array([e.wrong for e in entries], dtype=np.float64)
    probed = _cross_validated(entries)
    found = _share(frozen, probed, healthy)
    if found is None:
        return None
    share, error = found
    low, high = share - _QUANTILES[1] * error, share + _QUANTILES[1] * error
    outlook = Outlook.RECOVERABLE if low >= least else Outlook.UNKNOWN
    return _told(outlook, share, low, high, len(entries), PROBE)


def of_run(tried: Tried, healthy: float, least: float) -> Regain | None:
    """What a run regained: the share of the champion's error above `healthy` (0..1) that its version is rid of.

    None where too few assets were held out or the champion errs no more than before. With fewer than 100, a word needs
    the whole interval on one side of `least`. The interval takes the two errors as independent, which is wider than it
    need be for the same assets.
    """
    loss = tried.champion_error - healthy
    if tried.assets < _LEAST_HELD or loss <= 0.0:
        return None
    share = (tried.champion_error - tried.error) / loss
    spread = [e * (1.0 - e) / tried.assets for e in (tried.error, tried.champion_error)]
    error = sqrt(spread[0] + (1.0 - share) ** 2 * spread[1]) / loss
    low, high = share - _QUANTILES[0] * error, share + _QUANTILES[0] * error
    outlook = Outlook.RECOVERABLE if share >= least else Outlook.NOT_RECOVERABLE
    if tried.assets < LEAST and low < least <= high:
        outlook = Outlook.UNKNOWN
    return _told(outlook, share, low, high, tried.assets, RUN)


def together(tries: Sequence[Tried]) -> Tried:
    """Several runs in one condition as one on all their assets."""
    assets = sum(one.assets for one in tries)
    error = sum(one.error * one.assets for one in tries) / assets
    return Tried(error, sum(one.champion_error * one.assets for one in tries) / assets, assets)


def _told(outlook: Outlook, share: float, low: float, high: float, labels: int, by: str) -> Regain:
    share, low, high = (min(max(value, 0.0), 1.0) for value in (share, low, high))
    return Regain(outlook, share, low, high, labels, by)


def _share(frozen: Vector, probed: Vector, healthy: Count) -> tuple[float, float] | None:
    """The share regained and its standard error (delta method, over stretches); None when there is no loss."""
    loss = float(frozen.mean()) - healthy.error
    if loss <= 0.0:
        return None
    share = float((frozen - probed).mean()) / loss
    parts = np.array_split(frozen - probed - share * frozen, _FOLDS)
    spread = float(np.var([part.mean() for part in parts], ddof=1)) / _FOLDS
    known = healthy.error * (1.0 - healthy.error) / max(healthy.labels, 1.0)
    return share, sqrt(spread + share**2 * known) / loss


def _cross_validated(entries: Sequence[Joined]) -> Vector:
    """1 where the probe, fitted to the other stretches of time, is wrong; shape (labels,)."""
    names = sorted({name for e in entries for name in (e.truth, e.predicted)})
    place = {name: number for number, name in enumerate(names)}
    truth = np.array([place[e.truth] for e in entries])
    kernel = _kernel(entries, np.array([place[e.predicted] for e in entries]))
    wanted = np.eye(len(names))[truth]
    said = np.empty(len(entries), dtype=np.int64)
    for held in np.array_split(np.arange(len(entries)), _FOLDS):
        rest = np.setdiff1d(np.arange(len(entries)), held)
        mean = wanted[rest].mean(axis=0)
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)] + _RIDGE * np.eye(len(rest)), wanted[rest] - mean)
        said[held] = (kernel[np.ix_(held, rest)] @ weights + mean).argmax(axis=1)
    wrong: Vector = (said != truth).astype(np.float64)
    return wrong


def _kernel(entries: Sequence[Joined], answers: NDArray[np.int64]) -> Vector:
    """How alike two labels are: Gaussian in the features, plus 1 where the frozen model gave the same answer."""
    rows = np.array([e.features if len(e.features) == WIDTH else (np.nan,) * WIDTH for e in entries])
    known = np.isfinite(rows)
    count = np.maximum(known.sum(axis=0), 1)
    filled = np.where(known, rows, 0.0)
    centred = np.where(known, rows - filled.sum(axis=0) / count, 0.0)
    spread = np.sqrt((centred**2).sum(axis=0) / count)
    moving = spread > 1e-9
    scaled = centred[:, moving] / spread[moving]
    square = (scaled**2).sum(axis=1)
    apart = np.maximum(square[:, None] + square - 2.0 * scaled @ scaled.T, 0.0)
    alike: Vector = np.exp(-apart / (2.0 * max(int(moving.sum()), 1))) + (answers[:, None] == answers)
    return alike
