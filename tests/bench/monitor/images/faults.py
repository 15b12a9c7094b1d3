"""What breaks in one camera: it blurs, darkens, stands still, is knocked aside, or its pixels die."""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.bench.monitor.images.lattice import Images, Rng, smooth

BLUR: Final = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Sigma of a lens out of focus, pixels."""
DARK: Final = (0.8, 0.65, 0.5, 0.3, 0.15)
"""What is left of the light."""
FROZEN: Final = (2, 5, 20, 100, 0)
"""Frames for which each picture stands still; 0 is for ever."""
SHIFTED: Final = (1, 2, 3, 5, 8)
"""Pixels to the right; a black edge comes in."""
DEAD: Final = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Share of pixels that stay black or white, always the same ones."""


def blurred(images: Images, severity: int, _: Rng) -> Images:
    """The lens has moved."""
    return smooth(images, BLUR[severity - 1])


def dark(images: Images, severity: int, _: Rng) -> Images:
    """The iris is stuck, or the lamp has failed."""
    return images * DARK[severity - 1]


def shifted(images: Images, severity: int, _: Rng) -> Images:
    """The mount was knocked."""
    found = np.zeros_like(images)
    found[:, :, SHIFTED[severity - 1] :] = images[:, :, : -SHIFTED[severity - 1]]
    return found


def dead(images: Images, severity: int, rng: Rng) -> Images:
    """Pixels of the sensor no longer answer; half of them are stuck at white."""
    found, drawn = images.copy(), rng.random(images.shape[1:])
    found[:, drawn < DEAD[severity - 1]] = 0.0
    found[:, drawn < DEAD[severity - 1] / 2] = 1.0
    return found


def untouched(images: Images, _: int, __: Rng) -> Images:
    """Each picture is good; that it is always the same is made when frames are put in order."""
    return images
