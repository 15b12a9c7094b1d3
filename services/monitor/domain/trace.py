"""The recent past of a camera as block means, from which onset, shape and level are read."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from services.monitor.domain.detectors.protocol import Vector

CAPACITY = 192


@dataclass(slots=True)
class Trace:
    """At most `CAPACITY` blocks, numbered from `first` on: the time of the last frame, the frames, standardised
    means and within-block variances.

    When full it forgets the oldest, or, while `pinned`, halves its resolution so that the beginning of a drift stays.
    """

    times: list[float] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    means: list[Vector] = field(default_factory=list)
    spreads: list[Vector] = field(default_factory=list)
    pinned: bool = False
    first: int = 0
    generation: int = 0

    def add(self, time: float, frames: int, means: Vector, spreads: Vector) -> None:
        """Append a block; `means` and `spreads` have shape (channels,) and are kept in single precision.

        A channel that a frame of the block does not have (the first frame of a camera differs from none before it) says
        nothing: it stands at the reference.
        """
        self.times.append(time)
        self.frames.append(frames)
        self.means.append(_single(means))
        self.spreads.append(_single(spreads))
        if len(self.times) > CAPACITY:
            self._halve() if self.pinned else self._forget()

    def _forget(self) -> None:
        for column in (self.times, self.frames, self.means, self.spreads):
            del column[0]
        self.first += 1

    def _halve(self) -> None:
        pairs = range(0, len(self.times) - 1, 2)
        rest = len(self.times) % 2
        tail = (
            (self.times[-rest:], self.frames[-rest:], self.means[-rest:], self.spreads[-rest:])
            if rest
            else ([], [], [], [])
        )
        self.first, self.generation = 0, self.generation + 1
        self.means = [(self.means[i] + self.means[i + 1]) / 2 for i in pairs] + tail[2]
        self.spreads = [(self.spreads[i] + self.spreads[i + 1]) / 2 for i in pairs] + tail[3]
        self.frames = [self.frames[i] + self.frames[i + 1] for i in pairs] + tail[1]
        self.times = [self.times[i + 1] for i in pairs] + tail[0]

    def matrix(self) -> Vector:
        """All means, shape (blocks, channels)."""
        return np.array(self.means, dtype=np.float64)


def _single(values: Vector) -> Vector:
    """In single precision, 0 where nothing is known."""
    known = values if np.isfinite(values).all() else np.nan_to_num(values)
    return known.astype(np.float32)
