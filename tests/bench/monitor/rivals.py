"""River's detectors beside ours: at their defaults, and at the most sensitive setting that is no louder than ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from river import drift
from river.drift import binary

from services.monitor.domain.detectors.river import RiverDetector


@dataclass(frozen=True, slots=True)
class Rival:
    """One of River's detectors; `make` takes the one setting that decides how loud it is, `grid` goes from loud to
    quiet and holds the `default`.
    """

    name: str
    make: Callable[[float], RiverDetector]
    default: float
    grid: tuple[float, ...]
    slow: bool = False


def _decades(first: int, last: int) -> tuple[float, ...]:
    return tuple(base * 10.0**power for power in range(first, last, -1) for base in (1.0, 0.3))


def _bounded(make: Callable[[float], RiverDetector]) -> Callable[[float], RiverDetector]:
    return lambda value: _Bounded(make(value))


class _Bounded:
    """Standardised values into [0, 1], as HDDM asks for."""

    def __init__(self, inner: RiverDetector) -> None:
        self.inner = inner

    @property
    def drift_detected(self) -> bool:
        """The inner one's."""
        return self.inner.drift_detected

    def update(self, x: float) -> object:
        """Four standard deviations either way are the whole range."""
        return self.inner.update(min(max((x + 4.0) / 8.0, 0.0), 1.0))


def _made(kind: Callable[..., Any], **options: float) -> RiverDetector:
    made: RiverDetector = kind(**options)
    return made


def _hddm(two_sided: bool) -> Callable[[float], RiverDetector]:
    def make(value: float) -> RiverDetector:
        return _made(binary.HDDMW, drift_confidence=value, two_sided_test=two_sided)

    return make


def _adwin(value: float) -> RiverDetector:
    return _made(drift.ADWIN, delta=value)


def _page_hinkley(value: float) -> RiverDetector:
    return _made(drift.PageHinkley, threshold=value)


def _kswin(value: float) -> RiverDetector:
    return _made(drift.KSWIN, alpha=value, seed=1)


_HDDM_GRID: Final = (0.1, 0.03, 0.01, 0.003, *_decades(-3, -15))
_ADWIN: Final = Rival("ADWIN", _adwin, 0.002, (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, *_decades(-3, -10)))
_PAGE: Final = tuple(float(x) for x in (5, 7, 10, 14, 20, 28, 40, 50, 70, 100, 140, 200, 280, 400, 560, 800))
_PAGE_HINKLEY: Final = Rival("PageHinkley", _page_hinkley, 50.0, _PAGE)
_KSWIN: Final = Rival("KSWIN", _kswin, 0.005, (0.005, *_decades(-3, -6)), slow=True)

LABELS: Final = (_ADWIN, Rival("HDDM_W", _hddm(False), 0.001, _HDDM_GRID), _PAGE_HINKLEY, _KSWIN)
CHANNELS: Final = (_ADWIN, Rival("HDDM_W", _bounded(_hddm(True)), 0.001, _HDDM_GRID), _PAGE_HINKLEY, _KSWIN)


def alarms(detector: RiverDetector, values: Iterable[float], enough: int = 1_000_000) -> int:
    """How often it finds a drift, at most `enough`."""
    count = 0
    for value in values:
        detector.update(value)
        if detector.drift_detected:
            count += 1
            if count >= enough:
                break
    return count


def matched(rival: Rival, values: Sequence[float], wanted: float) -> float | None:
    """The loudest setting that alarms at most `wanted` times, or the one nearest, in values without a change."""
    for setting in rival.grid:
        if alarms(rival.make(setting), values, int(wanted) + 1) <= wanted:
            return setting
    return None


def delay(detector: RiverDetector, values: Sequence[float], onset: int) -> int | None:
    """Values from `onset` until the first drift found after it; None when there was none. Drifts found before it are
    forgotten, as River's detectors reset themselves.
    """
    for value in islice(values, onset):
        detector.update(value)
    for number, value in enumerate(islice(values, onset, None), start=1):
        detector.update(value)
        if detector.drift_detected:
            return number
    return None


def outcomes(rng: np.random.Generator, error: float, size: int) -> list[float]:
    """Wrong answers as 1."""
    wrong: list[float] = (rng.random(size) < error).astype(np.float64).tolist()
    return wrong
