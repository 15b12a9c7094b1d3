"""Blur: defocus, glass, motion, zoom and gaussian, with CIFAR-C's severities."""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.bench.monitor.images.lattice import Images, Rng, grid, look_up, smeared, smooth, zoomed

DEFOCUS: Final = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1))
"""Radius of the disk and sigma of its soft edge, pixels."""
GLASS: Final = ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2))
"""Sigma before and after, furthest neighbour in pixels, how often."""
MOTION: Final = ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
"""Reach and sigma, pixels."""
ZOOM: Final = (0.06, 0.11, 0.16, 0.21, 0.26)
"""How much nearer the nearest of the pictures that are laid over each other is, in steps of 0.01."""
GAUSSIAN: Final = (0.4, 0.6, 0.7, 0.8, 1.0)
"""Sigma, pixels."""
_DISK: Final = 8


def defocus_blur(images: Images, severity: int, _: Rng) -> Images:
    """A point becomes a disk."""
    radius, edge = DEFOCUS[severity - 1]
    rows, columns = np.indices((2 * _DISK + 1, 2 * _DISK + 1)) - _DISK
    disk = (rows**2 + columns**2 <= radius**2).astype(np.float64)[None]
    kernel = smooth(disk, edge)[0]
    side = images.shape[-1]
    padded = np.pad(images, ((0, 0), (_DISK, _DISK), (_DISK, _DISK)), mode="reflect")
    found = np.zeros_like(images)
    for dy, dx in zip(*np.nonzero(kernel > 1e-4), strict=True):
        found += kernel[dy, dx] * padded[:, dy : dy + side, dx : dx + side]
    sharp: Images = found / kernel[kernel > 1e-4].sum()
    return sharp


def glass_blur(images: Images, severity: int, rng: Rng) -> Images:
    """Each pixel takes the place of a neighbour, between two blurs: ImageNet-C's code means to exchange the two, and
    copies one upon the other.
    """
    sigma, furthest, times = GLASS[severity - 1]
    found = smooth(images, sigma)
    rows, columns = grid(images)
    for _ in range(times):
        dy, dx = rng.integers(-furthest, furthest, (2, *images.shape))
        found = look_up(found, rows + dy, columns + dx)
    return smooth(found, sigma)


def motion_blur(images: Images, severity: int, rng: Rng) -> Images:
    """Smeared along a direction within 45 degrees of the horizontal."""
    reach, sigma = MOTION[severity - 1]
    return smeared(images, np.deg2rad(rng.uniform(-45.0, 45.0, len(images))), reach, sigma)


def zoom_blur(images: Images, severity: int, _: Rng) -> Images:
    """The camera moves towards it while the shutter is open."""
    zooms = np.arange(1.0, 1.0 + ZOOM[severity - 1], 0.01)
    found: Images = (images + np.sum([zoomed(images, round(float(z), 2)) for z in zooms], axis=0)) / (len(zooms) + 1)
    return found


def gaussian_blur(images: Images, severity: int, _: Rng) -> Images:
    """A point becomes a gaussian."""
    return smooth(images, GAUSSIAN[severity - 1])


def displaced(images: Images, dy: Images, dx: Images) -> Images:
    """Each pixel is looked up so many pixels further down and to the right."""
    rows, columns = grid(images)
    return look_up(images, rows + dy, columns + dx)
