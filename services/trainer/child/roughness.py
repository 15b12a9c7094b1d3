"""How noisy images are, and how much noisier those of a new condition are than those of the old one.

J. Immerkaer, Fast Noise Variance Estimation, Computer Vision and Image Understanding 64(2), 1996.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

IMAGES: Final = 1_000
"""Of each condition so many are looked at."""
NONE_BELOW: Final = 0.02
"""A smaller difference, of full scale, is that of other pictures."""


def noise_deviation(images: NDArray[np.uint8]) -> float:
    """The median over images [n, C, H, W] of their noise's standard deviation, in shares of full scale.

    At least one image; sides must be at least 3 pixels. Where pixels are clipped, in black and white areas, the noise
    counts as clipped.
    """
    x = images[:: -(-len(images) // IMAGES)].astype(np.float32) / 255.0
    rows = x[..., :-2, :] - 2.0 * x[..., 1:-1, :] + x[..., 2:, :]
    mask = rows[..., :-2] - 2.0 * rows[..., 1:-1] + rows[..., 2:]
    return float(np.median(np.abs(mask).mean((1, 2, 3))) * np.sqrt(np.pi / 2.0) / 6.0)


def added_noise(new: NDArray[np.uint8], old: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise that `new` has on top of `old`, in shares of full scale; 0 when it is not
    clearly there, or one of the two has no images.
    """
    if not len(new) or not len(old):
        return 0.0
    more = noise_deviation(new) ** 2 - noise_deviation(old) ** 2
    return float(np.sqrt(more)) if more > NONE_BELOW**2 else 0.0
