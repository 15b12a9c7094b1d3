"""Mixture Shiryaev-Roberts e-detector for a stream in 0..1 (Shin, Ramdas & Rinaldo, arXiv 2203.03532; 2309.09111).

Its mean run length without a change is at least the threshold, whatever the true rate below the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any, ClassVar, Self

import numpy as np

from services.monitor.domain.detectors.protocol import LABELS, Flags, Vector, chosen


class MixtureDetector:
    """Watches for a rate above `baseline`; several alternatives side by side, so that no size of change must be
    guessed.
    """

    name = "e-detector"
    fits: ClassVar[tuple[str, ...]] = (LABELS,)
    told: ClassVar[tuple[str, ...]] = ("run_length", "baseline")

    def __init__(self, baseline: float, run_length: float, alternatives: Sequence[float]) -> None:
        """`baseline` in (0, 1); `alternatives` are rates above it; `run_length` in steps is the threshold."""
        self.run_length = run_length
        self.alternatives = np.array(alternatives, dtype=np.float64)
        self.sums = np.zeros(len(alternatives))
        self.peak = 0.0
        self.rebase(baseline)

    @classmethod
    def make(cls, width: int, options: Mapping[str, float]) -> Self:
        """Options: `baseline` (default 0.1) and `run_length` (default 10,000); rates .04 to .4 above the baseline are
        looked for. Raises ValueError for others, and for more than one stream: each has a baseline of its own.
        """
        if width != 1:
            raise ValueError(f"detector {cls.name!r} watches one stream, not {width}")
        given = chosen(cls.name, {"baseline": 0.1, "run_length": 1e4}, options)
        above = [min(given["baseline"] + step, 0.95) for step in (0.04, 0.08, 0.15, 0.25, 0.4)]
        return cls(given["baseline"], given["run_length"], above)

    def rebase(self, baseline: float) -> None:
        """Go on from a better estimate of the baseline; sums are kept."""
        self.baseline = min(max(baseline, 1e-4), 0.98)
        above = np.maximum(self.alternatives, self.baseline + 0.01)
        self.hit = above / self.baseline
        self.miss = (1.0 - above) / (1.0 - self.baseline)

    def update(self, values: Vector) -> None:
        """Take the next outcome, shape (1,), 0..1: 1 is the event watched for, what lies between is as much of it."""
        share = float(values[0])
        if isnan(share):
            return
        self.sums = np.minimum((self.sums + 1.0) * (share * self.hit + (1.0 - share) * self.miss), 1e30)
        self.peak = max(self.peak, float(self.sums.mean()))

    def statistic(self) -> Vector:
        """The mixture, shape (1,)."""
        return np.array([self.sums.mean()])

    def threshold(self) -> Vector:
        """The wanted run length, shape (1,)."""
        return np.array([self.run_length])

    def alarmed(self) -> Flags:
        """Whether the mixture has ever reached the run length."""
        return np.array([self.peak >= self.run_length])

    def reset(self) -> None:
        """Back to zero."""
        self.sums[:] = 0.0
        self.peak = 0.0

    def dump(self) -> dict[str, Any]:
        """Plain values."""
        return {k: getattr(self, k) for k in ("baseline", "run_length", "alternatives", "sums", "peak")}

    @classmethod
    def load(cls, state: Mapping[str, Any]) -> Self:
        """From `dump`."""
        detector = cls(state["baseline"], state["run_length"], state["alternatives"])
        detector.sums, detector.peak = state["sums"], state["peak"]
        return detector
