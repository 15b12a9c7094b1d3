"""Weather and light: snow, frost, fog, brightness, spatter, with CIFAR-C's severities."""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.bench.monitor.images.lattice import Images, Rng, clouds, smeared, smooth, zoomed

SNOW: Final = (
    (0.10, 0.2, 1.00, 0.60, 8, 3.0, 0.95),
    (0.10, 0.2, 1.00, 0.50, 10, 4.0, 0.90),
    (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.90),
    (0.25, 0.3, 2.25, 0.60, 12, 6.0, 0.85),
    (0.30, 0.3, 1.25, 0.65, 14, 12.0, 0.80),
)
"""Mean and deviation of the flakes' field, its zoom, from which level on it is a flake, reach and sigma of their fall,
share of the picture that stays as it is."""
FROST: Final = ((1.0, 0.20), (1.0, 0.30), (0.90, 0.40), (0.85, 0.40), (0.75, 0.45))
"""Weight of the picture and of the ice."""
FOG: Final = ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75))
"""Strength, and by how much finer wisps are fainter."""
BRIGHTNESS: Final = (0.05, 0.10, 0.15, 0.20, 0.30)
"""Added, of full scale."""
SPATTER: Final = (
    (0.62, 0.1, 0.7, 0.7, 0.5, False),
    (0.65, 0.1, 0.8, 0.7, 0.5, False),
    (0.65, 0.3, 1.0, 0.69, 0.5, False),
    (0.65, 0.1, 0.7, 0.69, 0.6, True),
    (0.65, 0.1, 0.5, 0.68, 0.6, True),
)
"""Mean and deviation of the field, its sigma in pixels, from which level on it is a drop, how opaque, whether mud."""
_WATER, _MUD = 0.86, 0.2  # Luma of (175, 238, 238) and of (63, 42, 20).


def snow(images: Images, severity: int, rng: Rng) -> Images:
    """Falling flakes over a paler picture."""
    mean, deviation, zoom, least, reach, sigma, kept = SNOW[severity - 1]
    layer = zoomed(rng.normal(mean, deviation, images.shape), zoom)
    layer[layer < least] = 0.0
    layer = smeared(np.clip(layer, 0.0, 1.0), np.deg2rad(rng.uniform(-135.0, -45.0, len(images))), int(reach), sigma)
    pale = kept * images + (1.0 - kept) * np.maximum(images, images * 1.5 + 0.5)
    found: Images = pale + layer + np.rot90(layer, 2, axes=(1, 2))
    return found


def frost(images: Images, severity: int, rng: Rng) -> Images:
    """Ice on the lens. ImageNet-C lays photographs of frost over it; these crystals are computed: bright ridges where a
    random field is near its middle, finer ones upon coarser, over a faint haze.
    """
    weight, ice = FROST[severity - 1]
    coarse, fine = (clouds(rng, len(images), images.shape[-1], decay) for decay in (1.6, 1.1))
    ridges = (1.0 - np.abs(2.0 * coarse - 1.0)) ** 4 + 0.6 * (1.0 - np.abs(2.0 * fine - 1.0)) ** 4
    return weight * images + ice * np.clip(0.25 + ridges, 0.0, 1.0)


def fog(images: Images, severity: int, rng: Rng) -> Images:
    """A bright haze in wisps; the brightest pixel stays as bright as it was."""
    strength, decay = FOG[severity - 1]
    most = np.maximum(images.max(axis=(1, 2), keepdims=True), 1e-6)
    hazy = images + strength * clouds(rng, len(images), images.shape[-1], decay)
    found: Images = hazy * most / (most + strength)
    return found


def brightness(images: Images, severity: int, _: Rng) -> Images:
    """More light, clipped at white."""
    return images + BRIGHTNESS[severity - 1]


def spatter(images: Images, severity: int, rng: Rng) -> Images:
    """Drops of water, or mud, on the lens; ImageNet-C gives its drops shaded rims, these are flat."""
    mean, deviation, sigma, least, opaque, muddy = SPATTER[severity - 1]
    drops = smooth(rng.normal(mean, deviation, images.shape), float(sigma))
    mask = smooth((drops > least).astype(np.float64), 0.6 if muddy else 0.4) * opaque
    return images * (1.0 - mask) + mask * (_MUD if muddy else _WATER)
