"""What training does to images so that the model does not learn them by heart; mild, and safe for any subject."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFT = 2
CONTRAST = 0.25
BRIGHTNESS = 0.1
ERASED = 6
NOISY_SHARE = 0.5


def augment(images: Tensor, generator: torch.Generator, *, flip: bool, noise: float = 0.0) -> Tensor:
    """Shift by at most 2 pixels, vary contrast by a quarter and brightness a little, erase a square, perhaps mirror.

    Half of the images get gaussian noise besides, of a standard deviation drawn for each from 0 to `noise`, when that
    is not 0. `images` is normalised float32 [N, C, H, W] and `noise` in the same units; a new tensor of the same shape
    comes back.
    """
    images = _shift(images, generator)
    count = images.shape[0]
    mean = images.mean((1, 2, 3), keepdim=True)
    gain = 1.0 + CONTRAST * _uniform(count, generator)
    images = mean + (images - mean) * gain + BRIGHTNESS * _uniform(count, generator)
    if flip:
        chosen = torch.rand(count, generator=generator) < 0.5
        images = torch.where(chosen[:, None, None, None], images.flip(3), images)
    if noise:
        images = _roughen(images, generator, noise)
    return _erase(images, generator)


def _roughen(images: Tensor, generator: torch.Generator, noise: float) -> Tensor:
    count = images.shape[0]
    chosen = torch.rand(count, 1, 1, 1, generator=generator) < NOISY_SHARE
    deviation = noise * torch.rand(count, 1, 1, 1, generator=generator) * chosen
    return images + deviation * torch.randn(images.shape, generator=generator)


def _uniform(count: int, generator: torch.Generator) -> Tensor:
    """-1..1, shape [count, 1, 1, 1]."""
    return 2.0 * torch.rand(count, 1, 1, 1, generator=generator) - 1.0


def _shift(images: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    padded = torch.nn.functional.pad(images, (SHIFT, SHIFT, SHIFT, SHIFT), mode="replicate")
    offsets = torch.randint(0, 2 * SHIFT + 1, (2, count), generator=generator)
    rows = offsets[0][:, None] + torch.arange(height)
    columns = offsets[1][:, None] + torch.arange(width)
    place = torch.arange(count)[:, None, None]
    return padded.permute(0, 2, 3, 1)[place, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2).contiguous()


def _erase(images: Tensor, generator: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    top = torch.randint(0, height - ERASED + 1, (count, 1, 1), generator=generator)
    left = torch.randint(0, width - ERASED + 1, (count, 1, 1), generator=generator)
    chosen = torch.rand(count, 1, 1, generator=generator) < 0.25
    rows, columns = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    inside = (rows >= top) & (rows < top + ERASED) & (columns >= left) & (columns < left + ERASED) & chosen
    return images.masked_fill(inside[:, None], 0.0)
