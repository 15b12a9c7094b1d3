"""The cells of the table: which change, how strong, on which cameras, and what is true of its cause and shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tests.bench.monitor.images import blur, digital, faults, noise, weather
from tests.bench.monitor.images.lattice import Images, Rng

Change = Callable[[Images, int, Rng], Images]

CORRUPTIONS: Final[dict[str, Change]] = {
    "gaussian noise": noise.gaussian_noise,
    "shot noise": noise.shot_noise,
    "impulse noise": noise.impulse_noise,
    "defocus blur": blur.defocus_blur,
    "glass blur": blur.glass_blur,
    "motion blur": blur.motion_blur,
    "zoom blur": blur.zoom_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": weather.brightness,
    "contrast": digital.contrast,
    "elastic": digital.elastic,
    "pixelate": digital.pixelate,
    "jpeg": digital.jpeg,
    "speckle noise": noise.speckle_noise,
    "gaussian blur": blur.gaussian_blur,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}
"""The 15 and the 4 extra ones of Hendrycks and Dietterich (ICLR 2019, arXiv:1903.12261), as CIFAR-10-C scales them."""

TUNED_ON: Final = frozenset(
    ("gaussian noise", "defocus blur", "motion blur", "fog", "brightness", "contrast", "jpeg", "speckle noise")
)
"""The families that may be looked at, on digits, while the monitor is being worked on; all others are for reports."""

FAULTS: Final[dict[str, Change]] = {
    "blur": faults.blurred,
    "dark": faults.dark,
    "frozen": faults.untouched,
    "shifted": faults.shifted,
    "dead pixels": faults.dead,
}
SWAPS: Final = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
"""Classes that trade names, by their numbers: fixed before any model was seen."""
SEVERITIES: Final = (1, 2, 3, 4, 5)
JUDGED: Final = (3, 4, 5)
"""Severities that the aims are about."""
HURTS: Final = 0.05
HARMLESS: Final = 0.02
"""Accuracy that a cell costs: from the first on it is to be found, below the second nothing is to be asked for."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One change from one frame on. `cause` is scene (all cameras), camera (one of five), labels, or none; `kind` the
    corruption, the fault, the two classes or nothing. All are sudden, and level from the first frame on.
    """

    cause: str
    kind: str
    severity: int

    @property
    def name(self) -> str:
        """Unique, and the key of the truth."""
        return f"{self.cause}/{self.kind}/{self.severity}"

    @property
    def shape(self) -> str:
        """How it comes."""
        return "none" if self.cause == "none" else "sudden"

    @property
    def judged(self) -> bool:
        """Whether the aims are about it."""
        return self.severity in JUDGED

    def seen(self, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """What its camera sees instead of `images`, both [n, side, side]; the same every time."""
        change = {"scene": CORRUPTIONS, "camera": FAULTS}.get(self.cause, {}).get(self.kind)
        if change is None or self.kind == "frozen":
            return images
        rng = np.random.default_rng([self.severity, *self.kind.encode()])
        found: NDArray[np.uint8] = np.rint(np.clip(change(images / 255.0, self.severity, rng), 0.0, 1.0) * 255.0)
        return found.astype(np.uint8)

    def truth(self, labels: NDArray[np.int64]) -> NDArray[np.int64]:
        """What is right to say, once it has come."""
        found = labels.copy()
        if self.cause == "labels":
            one, other = SWAPS[int(self.kind)]
            found[labels == one], found[labels == other] = other, one
        return found


def all_cells() -> list[Cell]:
    """Every cell, in the order of the tables."""
    return [
        Cell("none", "nothing", 3),
        *(Cell("scene", kind, severity) for kind in CORRUPTIONS for severity in SEVERITIES),
        *(Cell("camera", kind, severity) for kind in FAULTS for severity in SEVERITIES),
        *(Cell("labels", str(number), 3) for number in range(len(SWAPS))),
    ]
