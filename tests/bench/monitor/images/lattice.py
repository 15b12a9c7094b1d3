"""What the corruptions share: gaussian and bilinear sampling of many small images at once, and smooth random fields.

Images are float64 [n, side, side], 0..1 of full scale. Everything is a matrix from the left and one from the right, or
a look-up at shifted places; edges are repeated.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float64]
Rng = np.random.Generator


@lru_cache(maxsize=64)
def gaussian(side: int, sigma: float) -> Images:
    """[side, side]: the row of a pixel holds the weights of its neighbours, up to four sigma away."""
    reach = max(int(4.0 * sigma + 0.5), 1)
    offsets = np.arange(-reach, reach + 1)
    return spread(side, offsets, np.exp(-0.5 * (offsets / sigma) ** 2))


def spread(side: int, offsets: NDArray[np.int64], weights: Images) -> Images:
    """[side, side]: a pixel becomes the weighted mean of those at `offsets` from it."""
    found = np.zeros((side, side))
    for row in range(side):
        np.add.at(found[row], np.clip(row + offsets, 0, side - 1), weights / weights.sum())
    return found


def smooth(images: Images, sigma: float) -> Images:
    """Gaussian blur of `sigma` pixels."""
    kernel = gaussian(images.shape[-1], sigma)
    found: Images = kernel @ images @ kernel.T
    return found


@lru_cache(maxsize=256)
def scaling(length: int, side: int, zoom: float) -> Images:
    """[side, length]: bilinear samples about the middle of a line of `length`, `zoom` times as large."""
    places = (np.arange(side) - (side - 1) / 2.0) * (length - 1) / (side - 1) / zoom + (length - 1) / 2.0
    places = np.clip(places, 0.0, length - 1.0)
    low = np.minimum(places.astype(int), length - 2)
    found = np.zeros((side, length))
    rows = np.arange(side)
    found[rows, low] += 1.0 - (places - low)
    found[rows, low + 1] += places - low
    return found


def zoomed(images: Images, zoom: float) -> Images:
    """Seen from nearer by, the middle kept."""
    scale = scaling(images.shape[-1], images.shape[-1], zoom)
    found: Images = scale @ images @ scale.T
    return found


def look_up(images: Images, rows: Images, columns: Images) -> Images:
    """Bilinear samples at these places, each [n, side, side] in pixels."""
    side = images.shape[-1]
    rows, columns = np.clip(rows, 0.0, side - 1.0), np.clip(columns, 0.0, side - 1.0)
    top, left = np.minimum(rows.astype(int), side - 2), np.minimum(columns.astype(int), side - 2)
    down, right = rows - top, columns - left
    n = np.arange(len(images))[:, None, None]
    upper = images[n, top, left] * (1.0 - right) + images[n, top, left + 1] * right
    lower = images[n, top + 1, left] * (1.0 - right) + images[n, top + 1, left + 1] * right
    found: Images = upper * (1.0 - down) + lower * down
    return found


def grid(images: Images) -> tuple[Images, Images]:
    """Row and column of every pixel, each of the images' shape."""
    rows, columns = np.indices(images.shape[1:]).astype(np.float64)
    return np.broadcast_to(rows, images.shape), np.broadcast_to(columns, images.shape)


def smeared(images: Images, angles: Images, reach: int, sigma: float) -> Images:
    """Smeared one way along `angles` (radians, one an image): half a gaussian of `sigma` over `reach` pixels."""
    rows, columns = grid(images)
    weights = np.exp(-0.5 * (np.arange(reach) / sigma) ** 2)
    dy, dx = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    parts = [weight * look_up(images, rows + k * dy, columns + k * dx) for k, weight in enumerate(weights)]
    found: Images = np.sum(parts, axis=0) / weights.sum()
    return found


def clouds(rng: Rng, count: int, side: int, decay: float) -> Images:
    """Random fields 0..1 whose detail of half the size is `decay` times as faint: octaves of smooth noise, in place of
    the diamond-square plasma of ImageNet-C.
    """
    found = np.zeros((count, side, side))
    points, strength = 2, 1.0
    while points <= side:
        scale = scaling(points, side, 1.0)
        found += strength * (scale @ rng.uniform(-1.0, 1.0, (count, points, points)) @ scale.T)
        points, strength = points * 2, strength / decay
    found -= found.min(axis=(1, 2), keepdims=True)
    spread_out: Images = found / np.maximum(found.max(axis=(1, 2), keepdims=True), 1e-9)
    return spread_out
