"""What happens to the cameras' picture, and when: drawn from a seed, known to the demo alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""Grey, shape [height, width], 0..255."""


class Family(StrEnum):
    """The scenarios of `irisloop demo --scenario`."""

    FOG = "fog"
    NOISE = "noise"
    RELABEL = "relabel"
    HARMLESS = "harmless"
    NONE = "none"
    RANDOM = "random"


MENDABLE: Final = (Family.FOG, Family.NOISE, Family.RELABEL)
"""Families that cost accuracy and that retraining can mend."""

CAMERAS: Final = {
    "north/gate-1": "north",
    "north/gate-2": "north",
    "north/belt-1": "north",
    "south/gate-1": "south",
    "south/belt-1": "south",
}
"""Five cameras and the site of each."""

FOG_CONTRAST: Final = 0.5
HEALTHY_FRAMES: Final = 3_600
HARMLESS_FRAMES: Final = 3_000


@dataclass(frozen=True, slots=True)
class Scenario:
    """One change. `onset` and `ramp` count live frames of all cameras together.

    At full change: luma contrast about the image's mean is multiplied by `contrast`, blurred by a gaussian of
    `blur_sigma` pixels, `noise_sigma` (of full scale) added, brightness raised by `brightness` (of full scale), and
    the two classes in `swapped` trade names.
    """

    family: Family
    onset: int
    ramp: int
    cameras: frozenset[str]
    contrast: float = 1.0
    blur_sigma: float = 0.0
    noise_sigma: float = 0.0
    brightness: float = 0.0
    swapped: tuple[int, int] | None = None

    @property
    def mendable(self) -> bool:
        """Whether retraining is what should follow."""
        return self.family in MENDABLE

    def progress(self, frame: int) -> float:
        """How much of the change is there at that live frame, 0..1."""
        if self.family is Family.NONE or frame < self.onset:
            return 0.0
        return 1.0 if frame >= self.onset + self.ramp else (frame - self.onset + 1) / (self.ramp + 1)

    def picture(self, image: Image, camera: str, frame: int, rng: np.random.Generator) -> Image:
        """What the camera sees instead of `image` at that live frame."""
        share = self.progress(frame) if camera in self.cameras else 0.0
        if share == 0.0 or self.swapped is not None:
            return image
        pixels = image.astype(np.float32) / 255.0
        mean = float(pixels.mean())
        pixels = mean + (pixels - mean) * (1.0 - share * (1.0 - self.contrast)) + share * self.brightness
        pixels = blur(pixels, share * self.blur_sigma)
        if self.noise_sigma:
            pixels = pixels + rng.normal(0.0, share * self.noise_sigma, pixels.shape).astype(np.float32)
        seen: Image = np.clip(np.rint(pixels * 255.0), 0, 255).astype(np.uint8)
        return seen

    def truth(self, label: int, camera: str, frame: int) -> int:
        """The right class index of that frame: what a person who knows today's names would say."""
        if self.swapped is None or camera not in self.cameras or self.progress(frame) == 0.0:
            return label
        first, second = self.swapped
        return {first: second, second: first}.get(label, label)


def fog_contrast(dataset: str) -> float:
    """The contrast that fog leaves: what costs a tenth to a quarter of the answers. Digits bear more than clothes."""
    return 0.42 if dataset == "mnist-digits" else FOG_CONTRAST


def draw(family: Family, seed: int, classes: int, contrast: float = FOG_CONTRAST) -> Scenario:
    """The scenario of a family; what is not fixed by the family comes from the seed. `contrast`: under `fog`."""
    rng = np.random.default_rng([seed, 7])
    names = sorted(CAMERAS)
    unchanged = names[int(rng.integers(len(names)))]
    cameras = frozenset(names) - {unchanged}
    pair = rng.choice(classes, size=2, replace=False)
    swapped = (int(pair[0]), int(pair[1]))
    match family:
        case Family.FOG:
            return Scenario(family, HEALTHY_FRAMES, 300, cameras, contrast=contrast, blur_sigma=0.5)
        case Family.NOISE:
            return Scenario(family, HEALTHY_FRAMES, 0, cameras, noise_sigma=0.20)
        case Family.RELABEL:
            return Scenario(family, HEALTHY_FRAMES, 0, cameras, swapped=swapped)
        case Family.HARMLESS:
            return Scenario(family, HEALTHY_FRAMES, 0, cameras, brightness=0.05)
        case Family.NONE:
            return Scenario(family, HEALTHY_FRAMES, 0, frozenset())
        case Family.RANDOM:
            return _random(rng, cameras, swapped)


def _random(rng: np.random.Generator, cameras: frozenset[str], swapped: tuple[int, int]) -> Scenario:
    """Severities between what hurts by .10 and what 800 labels can mend."""
    family = MENDABLE[int(rng.integers(len(MENDABLE)))]
    onset = HEALTHY_FRAMES + int(rng.integers(-400, 800))
    ramp = int(rng.integers(0, 400))
    match family:
        case Family.FOG:
            contrast, sigma = float(rng.uniform(0.42, 0.55)), float(rng.uniform(0.4, 0.6))
            return Scenario(family, onset, ramp, cameras, contrast=contrast, blur_sigma=sigma)
        case Family.NOISE:
            return Scenario(family, onset, ramp, cameras, noise_sigma=float(rng.uniform(0.16, 0.21)))
        case _:
            return Scenario(family, onset, 0, cameras, swapped=swapped)


def blur(pixels: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """A separable gaussian of `sigma` pixels, edges repeated."""
    if sigma < 0.05:
        return pixels
    reach = max(1, int(np.ceil(3.0 * sigma)))
    offsets = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offsets / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padding = [(reach, reach) if axis == place else (0, 0) for place in (0, 1)]
        padded = np.pad(pixels, padding, mode="edge")
        length = pixels.shape[axis]
        pixels = sum(
            weight * np.take(padded, range(shift, shift + length), axis=axis) for shift, weight in enumerate(kernel)
        ).astype(np.float32)
    return pixels
