"""Noise: gaussian, shot, impulse and speckle, with CIFAR-C's severities."""

from __future__ import annotations

from typing import Final

from tests.bench.monitor.images.lattice import Images, Rng

GAUSSIAN: Final = (0.04, 0.06, 0.08, 0.09, 0.10)
"""Standard deviation, of full scale."""
SHOT: Final = (500.0, 250.0, 100.0, 75.0, 50.0)
"""Photons of a white pixel."""
IMPULSE: Final = (0.01, 0.02, 0.03, 0.05, 0.07)
"""Share of pixels that are black or white."""
SPECKLE: Final = (0.06, 0.10, 0.12, 0.16, 0.20)
"""Standard deviation, of the pixel's own level."""


def gaussian_noise(images: Images, severity: int, rng: Rng) -> Images:
    """Of a sensor in low light."""
    return images + rng.normal(0.0, GAUSSIAN[severity - 1], images.shape)


def shot_noise(images: Images, severity: int, rng: Rng) -> Images:
    """Of photons that are few (Poisson)."""
    photons = SHOT[severity - 1]
    return rng.poisson(images * photons) / photons


def impulse_noise(images: Images, severity: int, rng: Rng) -> Images:
    """Salt and pepper."""
    drawn, white, found = rng.random(images.shape), rng.random(images.shape) < 0.5, images.copy()
    hit = drawn < IMPULSE[severity - 1]
    found[hit] = white[hit]
    return found


def speckle_noise(images: Images, severity: int, rng: Rng) -> Images:
    """Stronger where it is brighter."""
    return images + images * rng.normal(0.0, SPECKLE[severity - 1], images.shape)
