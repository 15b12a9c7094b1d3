"""How a change came and since when it is level: a step or a ramp is fitted to the shift over time, and the better
one is taken by BIC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import Shape

_GRID = 28


@dataclass(frozen=True, slots=True)
class Fit:
    """Level `before` until `begin`, straight to `after` at `end`, level from there; times as given."""

    shape: Shape
    begin: float
    end: float
    before: float
    after: float
    noise: float


def fit(times: Vector, values: Vector, resolution: float) -> Fit | None:
    """The best step or ramp through `values` at `times` (ascending), each of shape (n,); None below 12 points.

    `resolution` is how long a block lasts: a step within a block looks like a ramp as long as one, so such are steps.
    """
    if len(times) < 12:
        return None
    knots = np.unique(times[np.unique(np.linspace(1, len(times) - 2, _GRID).astype(int))])
    step = _best(times, values, [(k, k) for k in knots])
    step = _best(times, values, [(k, k) for k in _around(times, step[0])])
    ramp = _best(times, values, [(a, b) for i, a in enumerate(knots) for b in knots[i + 1 :]])
    ramp = _best(
        times,
        values,
        [(a, b) for a in _around(times, ramp[0]) for b in _around(times, ramp[1]) if a < b] or [(ramp[0], ramp[1])],
    )
    n = len(times)
    score_step = n * np.log(step[4] / n + 1e-12) + 3 * np.log(n)
    score_ramp = n * np.log(ramp[4] / n + 1e-12) + 4 * np.log(n)
    shape, best = (Shape.SUDDEN, step) if score_step <= score_ramp else (Shape.INCREMENTAL, ramp)
    if best[1] - best[0] <= 1.5 * resolution:
        shape = Shape.SUDDEN
    return Fit(shape, best[0], best[1], best[2], best[3], float(np.sqrt(best[4] / n)))


def _around(times: Vector, knot: float) -> list[float]:
    """A finer grid about a knot of the coarse one."""
    width = max(len(times) // _GRID, 1)
    i = int(np.searchsorted(times, knot))
    picked = np.unique(np.linspace(max(i - width, 0), min(i + width, len(times) - 1), 9).astype(int))
    return [float(t) for t in np.unique(times[picked])]


def _best(times: Vector, values: Vector, spans: list[tuple[float, float]]) -> tuple[float, float, float, float, float]:
    """(begin, end, before, after, squared error) of the span that fits best by least squares."""
    begin, end = (np.array(column) for column in zip(*spans, strict=True))
    length = np.maximum(end - begin, 1e-9)[:, None]
    weight = np.clip((times[None, :] - begin[:, None]) / length, 0.0, 1.0)
    mean, centre = values.mean(), weight.mean(axis=1, keepdims=True)
    moved = weight - centre
    power = np.maximum((moved**2).sum(axis=1), 1e-9)
    slope = moved @ (values - mean) / power
    error = ((values - mean) ** 2).sum() - slope**2 * power
    i = int(np.argmin(error))
    before = float(mean - slope[i] * centre[i, 0])
    return float(begin[i]), float(end[i]), before, before + float(slope[i]), max(float(error[i]), 0.0)


def is_level(times: Vector, values: Vector, since: float, shift: float, tolerance: float) -> bool:
    """Whether the trend after `since` moves the values by surely no more than `tolerance` of the whole `shift`."""
    after = times > since
    if after.sum() < 5:
        return False
    t, y = times[after], values[after]
    span = t[-1] - t[0]
    centred = t - t.mean()
    power = float((centred**2).sum())
    if span <= 0.0 or power <= 0.0:
        return False
    slope = float(centred @ y) / power
    rest = y - y.mean() - slope * centred
    error = float(np.sqrt((rest**2).sum() / max(len(t) - 2, 1) / power))
    return bool(abs(slope) * span <= max(tolerance * abs(shift), 2.0 * error * span))


def mixes(times: Vector, spreads: Vector, begin: float, end: float, shift: float) -> bool:
    """Whether frames between `begin` and `end` are of two kinds (gradual) and not each a little further (incremental).

    `spreads` is the within-block variance along the shift and `shift` the whole change, in the same unit: a mixture
    adds
    w(1 - w) shift^2 to the variance in the middle of the ramp, 1/6 of shift^2 on average.
    """
    inside, outside = (times > begin) & (times < end), (times <= begin) | (times >= end)
    if inside.sum() < 4 or outside.sum() < 4:
        return False
    extra = float(spreads[inside].mean() - spreads[outside].mean())
    return extra > shift**2 / 12.0
