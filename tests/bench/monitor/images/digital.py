"""What happens on the way from sensor to file: contrast, elastic, pixelate, JPEG and saturate, with CIFAR-C's
severities.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Final

import numpy as np
from PIL import Image

from tests.bench.monitor.images.blur import displaced
from tests.bench.monitor.images.lattice import Images, Rng, smooth

CONTRAST: Final = (0.75, 0.5, 0.4, 0.3, 0.15)
"""What is left of the distance to the image's mean."""
ELASTIC: Final = ((0.0, 0.0, 0.08), (0.05, 0.2, 0.07), (0.08, 0.06, 0.06), (0.1, 0.04, 0.05), (0.1, 0.03, 0.03))
"""How far pixels are pulled, over how wide a neighbourhood, and how far corners are moved, in sides of the image."""
PIXELATE: Final = (0.95, 0.9, 0.85, 0.75, 0.65)
"""The side's length in between."""
JPEG: Final = (80, 65, 58, 50, 40)
"""Quality."""
SATURATE: Final = ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2))
"""Factor and addend of the saturation in HSV: grey has none, so the factor alone does nothing."""
_GREEN_AND_BLUE: Final = 0.587 + 0.114


def contrast(images: Images, severity: int, _: Rng) -> Images:
    """Less of it, about the image's own mean."""
    mean = images.mean(axis=(1, 2), keepdims=True)
    found: Images = mean + (images - mean) * CONTRAST[severity - 1]
    return found


def elastic(images: Images, severity: int, rng: Rng) -> Images:
    """Three corners are moved, then every neighbourhood is pulled its own way."""
    pull, wide, corners = (part * images.shape[-1] for part in ELASTIC[severity - 1])
    side, count = images.shape[-1], len(images)
    rows, columns = np.indices((side, side)) / (side - 1.0)
    moved = rng.uniform(-corners, corners, (3, 2, count, 1, 1))
    plane = moved[0] + (moved[1] - moved[0]) * rows + (moved[2] - moved[0]) * columns
    dy, dx = plane[0], plane[1]
    if pull:
        dy, dx = (d + pull * smooth(rng.uniform(-1.0, 1.0, images.shape), wide) for d in (dy, dx))
    return displaced(images, dy, dx)


def pixelate(images: Images, severity: int, _: Rng) -> Images:
    """Brought to fewer pixels and back."""
    side = images.shape[-1]
    fewer = int(side * PIXELATE[severity - 1])
    return _each(
        images, lambda p: p.resize((fewer, fewer), Image.Resampling.BOX).resize((side, side), Image.Resampling.BOX)
    )


def jpeg(images: Images, severity: int, _: Rng) -> Images:
    """Compressed by that quality before the camera sends it."""
    return _each(images, lambda p: _compressed(p, JPEG[severity - 1]))


def saturate(images: Images, severity: int, _: Rng) -> Images:
    """The luma of a grey picture whose saturation in HSV is changed: what is added makes it reddish and darker."""
    return images * (1.0 - _GREEN_AND_BLUE * SATURATE[severity - 1][1])


def _each(images: Images, change: Callable[[Image.Image], Image.Image]) -> Images:
    pictures = (Image.fromarray(pixels) for pixels in np.rint(np.clip(images, 0.0, 1.0) * 255.0).astype(np.uint8))
    return np.stack([np.asarray(change(picture)) for picture in pictures]) / 255.0


def _compressed(picture: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=quality)
    return Image.open(buffer)
