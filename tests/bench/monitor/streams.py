"""Cameras whose features are known to the last parameter, as inputs to the judge's engine: independent from frame to
frame or autoregressive, with a daily cycle or without, and with one change at a known frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.monitor.domain.channels import PIXELS, WIDTH
from services.monitor.domain.inputs import Input, Labelled, PredictionOf, Seen, VersionKnown
from tests.unit.monitor.worlds import CLASSES, EPOCH

Batch: TypeAlias = list[tuple[str, bool, Input]]

DAY: Final = 86_400
"""Frames of a day, for each camera with a daily cycle: one a second."""
LABEL_DELAY: Final = 3.0
_CHUNK: Final = 2_000


@dataclass(frozen=True, slots=True)
class Noise:
    """What a camera's features look like while nothing changes: `rho` from frame to frame, and a sine of `cycle`
    standard deviations on the pixel channels, once a day, whose phase differs from camera to camera.
    """

    name: str
    rho: float = 0.0
    cycle: float = 0.0


QUIET: Final = (Noise("i.i.d."), Noise("AR(1), rho .5", 0.5), Noise("AR(1), rho .9", 0.9))
CYCLED: Final = tuple(Noise(f"{n.name}, daily cycle", n.rho, 1.0) for n in QUIET)


@dataclass(frozen=True, slots=True)
class Change:
    """From frame `onset` of each camera on: so many standard deviations on one channel, and another error."""

    onset: int
    shift: float = 0.0
    channel: int = 0
    error: float = 0.1


@dataclass(slots=True)
class Scene:
    """Cameras under one model with ten classes, right in .9; `labelled` of the frames are drawn uniformly for a label,
    which comes `LABEL_DELAY` later (at once where `prompt`).
    """

    noise: Noise
    seed: int
    frames: int
    cameras: int = 5
    rate: float = 20.0
    labelled: float = 0.05
    error: float = 0.1
    change: Change | None = None
    prompt: bool = False

    def batches(self, step: int = 10) -> Iterator[Batch]:
        """All inputs, in order of event time, `step` frames of each camera at once."""
        rng = np.random.default_rng(self.seed)
        phase = rng.random(self.cameras) * 2.0 * np.pi
        last = rng.normal(size=(self.cameras, WIDTH))
        waiting: list[Labelled] = []
        yield [("registry/0", False, self._report())]
        for start in range(0, self.frames, _CHUNK):
            size = min(_CHUNK, self.frames - start)
            features, last = self._features(rng, start, size, phase, last)
            truth = rng.integers(0, len(CLASSES), (size, self.cameras))
            chance = rng.random((size, self.cameras, 3))
            said = self._said(start, truth, chance)
            for begin in range(0, size, step):
                rows = range(begin, min(begin + step, size))
                yield self._batch(start, rows, features, truth, said, chance[..., 2], waiting)

    def time(self, frame: int, camera: int = 0) -> float:
        """When a camera's frame was captured."""
        return EPOCH + (frame + camera / self.cameras) / self.rate

    def _report(self) -> VersionKnown:
        return VersionKnown(EPOCH - 10, "report", "", "m", "1", "", "accepted", self.error, 2000)

    def _features(
        self,
        rng: np.random.Generator,
        start: int,
        size: int,
        phase: NDArray[np.float64],
        last: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Frames of shape (size, cameras, WIDTH), of unit variance about the cycle, and the last one's noise."""
        values = rng.normal(size=(size, self.cameras, WIDTH))
        rho = self.noise.rho
        if rho:
            values *= np.sqrt(1.0 - rho * rho)
            for n in range(size):
                last = values[n] = rho * last + values[n]
        last = values[-1].copy()
        if self.noise.cycle:
            turn = 2.0 * np.pi * np.arange(start, start + size)[:, None] / DAY + phase
            values[:, :, : len(PIXELS)] += self.noise.cycle * np.sin(turn)[:, :, None]
        if self.change is not None:
            values[max(self.change.onset - start, 0) :, :, self.change.channel] += self.change.shift
        return values, last

    def _said(self, start: int, truth: NDArray[np.int64], chance: NDArray[np.float64]) -> NDArray[np.int64]:
        """The model's answers: another class where it errs."""
        error = np.full(len(truth), self.error)
        if self.change is not None:
            error[max(self.change.onset - start, 0) :] = self.change.error
        other = (truth + 1 + (chance[..., 1] * (len(CLASSES) - 1)).astype(np.int64)) % len(CLASSES)
        return np.where(chance[..., 0] < error[:, None], other, truth)

    def _batch(
        self,
        start: int,
        rows: range,
        features: NDArray[np.float64],
        truth: NDArray[np.int64],
        said: NDArray[np.int64],
        drawn: NDArray[np.float64],
        waiting: list[Labelled],
    ) -> Batch:
        batch: Batch = []
        for n in rows:
            for camera in range(self.cameras):
                frame, name = start + n, CLASSES[said[n, camera]]
                item = self._seen(frame, camera, tuple(features[n, camera].tolist()), name)
                batch.append((f"predictions/{camera}", True, item))
                if drawn[n, camera] < self.labelled:
                    waiting.append(self._label(item, frame, camera, CLASSES[truth[n, camera]], name))
        now = self.time(start + rows[-1], self.cameras - 1)
        while waiting and waiting[0].at <= now:
            batch.append(("labels/0", False, waiting.pop(0)))
        return batch

    def _seen(self, frame: int, camera: int, features: tuple[float, ...], name: str) -> Seen:
        key = f"{frame}-{camera}"
        at = self.time(frame, camera)
        return Seen(at, key, "", "m", "1", "champion", f"camera-{camera}", key, name, 0.9, features)

    def _label(self, seen: Seen, frame: int, camera: int, truth: str, name: str) -> Labelled:
        at = seen.at + (0.0 if self.prompt else LABEL_DELAY)
        said = (PredictionOf("m", "1", "champion", name, 0.9),)
        key = seen.asset_id
        return Labelled(
            at, f"l{key}", "", key, seen.camera_id, seen.at, 1, truth, "uniform", self.labelled, said
        )  # fmt: skip
