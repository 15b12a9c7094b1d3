"""Statistics that the pixels alone say, many frames of one size at a time.

Large images are judged on a reduced picture (`reduction`): decoding still reads every byte to the end, but the figures
do not need more than `ENOUGH_PIXELS`. A camera's figures come from one scale as long as its frame size stays, so they
can be compared with each other; sharpness of different frame sizes cannot.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

ENOUGH_PIXELS: Final = 160_000
"""Reduced until at most this many remain, or the factor is 8 (what JPEG's DCT scaling can)."""
SMALLEST_REDUCED_SIDE: Final = 64
THUMBNAIL_SIDE: Final = 16
UNDEREXPOSED_BELOW: Final = 5.0
OVEREXPOSED_ABOVE: Final = 250.0
_BT601: Final = (np.float32(0.299), np.float32(0.587), np.float32(0.114))


class Statistics(NamedTuple):
    """Levels and shares in 0..1 of full scale, as `irisloop.ingest.v1.PixelStatistics` names them.

    `frame_difference` is None on a camera's first frame. A tuple, because every frame makes two of them.
    """

    brightness: float
    contrast: float
    sharpness: float
    red: float
    green: float
    blue: float
    underexposed: float
    overexposed: float
    frame_difference: float | None = None


def reduction(width: int, height: int) -> int:
    """1, 2, 4 or 8: by what both sides are divided (rounding up) before the statistics are taken."""
    factor = 1
    while (
        factor < 8
        and width * height > ENOUGH_PIXELS * factor * factor
        and min(width, height) >= SMALLEST_REDUCED_SIDE * 2 * factor
    ):
        factor *= 2
    return factor


def measure(frames: NDArray[np.uint8]) -> tuple[list[Statistics], NDArray[np.uint8]]:
    """Statistics and luma thumbnails of `frames`, shape (n, height, width, 1 or 3), both sides at least 3.

    Luma is ITU-R BT.601; sharpness is the variance of the 4-neighbour Laplacian over the inner pixels, luma in 0..1.
    Thumbnails have shape (n, 16, 16): means over a grid of 16x16 (nearest pixels where a side is below 16).
    """
    count, height, width, channels = frames.shape
    planes = [frames[..., channel].astype(np.float32).reshape(count, -1) for channel in range(channels)]
    luma = _luma(planes)
    rows = np.empty((count, 8), dtype=np.float32)
    rows[:, 0], rows[:, 1] = _mean_and_variance(luma)
    _, rows[:, 2] = _mean_and_variance(_laplacian(luma, height, width))
    rows[:, 3:6] = rows[:, :1] if channels == 1 else np.stack([plane.mean(axis=1) for plane in planes], axis=1)
    rows[:, 6] = [np.count_nonzero(dark) for dark in luma < UNDEREXPOSED_BELOW]
    rows[:, 7] = [np.count_nonzero(light) for light in luma > OVEREXPOSED_ABOVE]
    rows[:, 1] = np.sqrt(rows[:, 1])
    rows *= np.array([*[1 / 255] * 2, 1 / 255**2, *[1 / 255] * 3, *[1 / luma.shape[1]] * 2], dtype=np.float32)
    return [Statistics(*row) for row in rows.tolist()], _thumbnails(luma.reshape(count, height, width))


def differences(before: bytes | None, thumbnails: list[bytes]) -> list[float | None]:
    """Mean absolute luma difference, 0..1, of each thumbnail to the one before it; None for a first frame.

    Thumbnails are 256 bytes, row by row; `before` is the last one of the camera's earlier frames.
    """
    if not thumbnails:
        return []
    chain = thumbnails if before is None else [before, *thumbnails]
    stacked = np.frombuffer(b"".join(chain), dtype=np.uint8).reshape(len(chain), -1).astype(np.int16)
    steps: list[float | None] = (np.abs(np.diff(stacked, axis=0)).mean(axis=1) / 255.0).tolist()
    return steps if before is not None else [None, *steps]


def _luma(planes: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    if len(planes) == 1:
        return planes[0]
    luma: NDArray[np.float32] = planes[0] * _BT601[0]
    luma += planes[1] * _BT601[1]
    luma += planes[2] * _BT601[2]
    return luma


def _laplacian(luma: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Of the inner pixels, a row for each frame. Neighbours are taken on the flat rows, which lie side by side in
    memory; the first and last column get wrong ones and are cut off.
    """
    inner: NDArray[np.float32] = luma[:, width:-width] * np.float32(-4.0)
    inner += luma[:, : -2 * width]
    inner += luma[:, 2 * width :]
    inner += luma[:, width - 1 : -width - 1]
    inner += luma[:, width + 1 : luma.shape[1] - width + 1]
    return inner.reshape(-1, height - 2, width)[:, :, 1:-1].reshape(len(luma), -1)


def _mean_and_variance(rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Of each row, in two passes: the difference of large squares would lose the small variances."""
    mean = rows.mean(axis=1)
    centred = rows - mean[:, None]
    return mean, np.einsum("ij,ij->i", centred, centred) / np.float32(rows.shape[1])


def _thumbnails(luma: NDArray[np.float32]) -> NDArray[np.uint8]:
    _, height, width = luma.shape
    small = _grid(height) @ luma @ _grid(width).T
    return np.rint(np.clip(small, 0.0, 255.0)).astype(np.uint8)


@lru_cache(maxsize=256)
def _grid(side: int) -> NDArray[np.float32]:
    """Weights, shape (16, side), of the mean over each of 16 equal stretches of a side."""
    edges = np.arange(THUMBNAIL_SIDE + 1) * side // THUMBNAIL_SIDE
    weights = np.zeros((THUMBNAIL_SIDE, side), dtype=np.float32)
    for cell in range(THUMBNAIL_SIDE):
        start, end = edges[cell], max(edges[cell] + 1, edges[cell + 1])
        weights[cell, start:end] = 1.0 / (end - start)
    return weights
