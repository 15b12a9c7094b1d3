"""What is broken in a camera, read from how its pixel statistics moved together.

A gain g on the light multiplies brightness, contrast and the difference between frames by g, and the sharpness (a
variance) by its square. A lens out of focus lowers the sharpness by more than the contrast's square. A picture that
stands still loses its difference to the frame before and nothing else; one that is covered loses its contrast. Pixels
that died add sharpness that does not move: noise would raise the difference between frames as well. What moves the
embedding and none of these has changed what is in view: a camera that was knocked aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log, sqrt
from typing import Final

import numpy as np

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.channels import FEATURES, group
from services.monitor.domain.detectors.protocol import Vector
from services.monitor.domain.events import CameraFault
from services.monitor.domain.runlength import block_deviation

NEWEST: Final = 12  # The newest blocks since the change say how things stand.
_SURE: Final = 4.0  # Standard errors that a ratio must be away from 1 to count as moved.
_PLAIN: Final = log(1.1)  # And by how much: a tenth.
_HALVED: Final = log(2.0)
_TENTH: Final = log(10.0)


class Fault(StrEnum):
    """The kinds that are told apart; the value is what people read."""

    FLAT = "no contrast"
    FROZEN = "frozen"
    DARK = "dark"
    BLUR = "blur"
    DEAD_PIXELS = "dead pixels"
    SHIFTED = "shifted"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Logarithm of how many times as large something is as it was, and its standard error."""

    value: float
    error: float

    def minus(self, other: Ratio, times: float = 1.0) -> Ratio:
        """This one less the other's `times`-fold; the errors add as of independent ones, which is too much."""
        return Ratio(self.value - times * other.value, sqrt(self.error**2 + (times * other.error) ** 2))

    def fell(self, least: float = _PLAIN) -> bool:
        """Whether it is surely smaller, and plainly so."""
        return self.value < -least and self.value < -_SURE * self.error

    def rose(self, least: float = _PLAIN) -> bool:
        """Whether it is surely larger, and plainly so."""
        return self.value > least and self.value > _SURE * self.error


def diagnose(camera: CameraWatch, since: float) -> Fault | None:
    """What is broken in a camera that alone has changed `since`; None where what is seen fits nothing here."""
    shift, error = recent(camera, since)
    if shift is None or camera.reference is None:
        return None
    light, contrast = (_ratio(camera, shift, error, name) for name in ("brightness", "contrast"))
    sharpness, motion = (_ratio(camera, shift, error, name) for name in ("sharpness", "frame_difference"))
    darker = light.fell() and contrast.fell() and contrast.value < light.value / 2.0
    gain = light if darker and light.value < contrast.value else contrast
    detail = sharpness.minus(contrast, 2.0)
    if contrast.fell(_TENTH):
        return Fault.FLAT
    if _stands_still(motion, motion.minus(gain), detail):
        return Fault.FROZEN
    if darker:
        return Fault.DARK
    if detail.fell():
        return Fault.BLUR
    if detail.rose() and not motion.rose():
        return Fault.DEAD_PIXELS
    return Fault.SHIFTED if _embedding_moved(camera) and not (motion.rose() or light.rose()) else None


def _stands_still(motion: Ratio, beside_gain: Ratio, detail: Ratio) -> bool:
    """Whether the frames differ less than their light and contrast explain. Some motion may be left where each picture
    is shown for some frames; then the pictures' detail is as it was.
    """
    less = motion.fell(_HALVED / 2.0) and beside_gain.fell(_HALVED / 2.0)
    return less and (motion.fell(_TENTH) or not (detail.fell(_HALVED) or detail.rose(_HALVED)))


def recent(camera: CameraWatch, since: float, most: int = NEWEST) -> tuple[Vector | None, Vector]:
    """Mean shift of the blocks that began after `since`, the newest `most`, in standard deviations of a frame, and its
    standard error, both (channels,); None before there is one.
    """
    if camera.reference is None or not camera.trace.times:
        return None, np.empty(0)
    times = camera.trace.times[-most:]
    starts = [camera.trace.times[-most - 1] if len(camera.trace.times) > most else 0.0, *times[:-1]]
    after = [place for place, start in enumerate(starts) if start >= since]
    if not after:
        return None, np.empty(0)
    step = block_deviation(camera.reference.rho, camera.block)
    means = np.array(camera.trace.means[-most:], dtype=np.float64)[after]
    error = step * sqrt(1.0 / len(after) + 1.0 / (camera.reference.effective() * step**2))
    return means.mean(axis=0) * step, np.full(means.shape[1], error)


def _ratio(camera: CameraWatch, shift: Vector, error: Vector, name: str) -> Ratio:
    reference, place = camera.reference, FEATURES.index(f"pixels.{name}")
    assert reference is not None
    if not reference.active[place]:
        return Ratio(0.0, float("inf"))
    unit = float(reference.scale[place] * reference.deviation[place])
    before = float(reference.centre[place] + reference.mean[place] * reference.scale[place])
    if before <= 0.0:
        return Ratio(0.0, float("inf"))
    now = max(before + float(shift[place]) * unit, 1e-3 * before)
    return Ratio(log(now / before), float(error[place]) * unit / before)


def _embedding_moved(camera: CameraWatch) -> bool:
    return any(group(e.channel) == "embedding" and e.statistic >= e.threshold for e in camera.evidence(64))


def beyond_training(faults: Sequence[CameraFault]) -> bool:
    """Whether no retraining should be asked for: something is to be mended. A camera that looks elsewhere may be meant
    to, and can be learnt.
    """
    return any(fault.kind != Fault.SHIFTED for fault in faults)


def said_of(faults: Sequence[CameraFault]) -> str:
    """One line for people."""
    return "; ".join(f"{fault.camera_id}: {fault.kind}" for fault in faults)


def report(camera: CameraWatch, since: float) -> CameraFault | None:
    """For people: what, which, since when, and a frame of before and after."""
    kind = diagnose(camera, since)
    if kind is None:
        return None
    before = [asset for at, asset in camera.sights if at < since] or [asset for _, asset in camera.sights[:1]]
    return CameraFault(camera.camera_id, kind.value, since, before[-1] if before else "", camera.trigger[0])
