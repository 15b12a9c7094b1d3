"""Encoded images to the tensor that a model takes (docs/reference/model-package.md)."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from services.common.errors import InvalidMessage
from services.serving.domain.package import ImageInput

Pixels = NDArray[np.uint8]

JPEG: Final = b"\xff\xd8\xff"
FORMATS: Final = ("JPEG", "PNG", "WEBP")


class BadImage(InvalidMessage):
    """The stored bytes cannot be decoded."""

    default_reason = "BAD_IMAGE"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an encoded image may be before it is decoded."""

    bytes: int = 32 << 20
    pixels: int = 100_000_000


def prepared(data: bytes, image: ImageInput, limits: ImageLimits | None = None) -> Pixels:
    """The image as [H, W] (1 channel) or [H, W, 3] uint8 of the input's size; limits are looked at in its header.

    Raises `BadImage`.
    """
    try:
        if limits is not None:
            _check_limits(data, limits)
        pixels = _decoded(data, image.channels)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BadImage(f"The image cannot be decoded: {error}") from error
    return resized(pixels, image.height, image.width)


def stacked(images: list[Pixels], image: ImageInput) -> NDArray[Any]:
    """The tensor of several prepared images, in the input's layout and dtype."""
    batch = np.stack(images)
    if image.channels == 1:
        batch = batch.reshape(image.shape(len(images)))
    elif image.layout == "NCHW":
        batch = np.ascontiguousarray(batch.transpose(0, 3, 1, 2))
    return batch.astype(image.dtype, copy=False)


def resized(pixels: Pixels, height: int, width: int) -> Pixels:
    """Area average where it shrinks, bilinear where it grows; untouched when it fits."""
    if pixels.shape[:2] == (height, width):
        return pixels
    shrinks = height <= pixels.shape[0] and width <= pixels.shape[1]
    method = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(pixels).resize((width, height), method))


def _check_limits(data: bytes, limits: ImageLimits) -> None:
    if len(data) > limits.bytes:
        raise BadImage(f"The image has {len(data)} bytes; at most {limits.bytes} are taken.")
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:  # reads the header alone
        width, height = opened.size
    if width * height > limits.pixels:
        raise BadImage(f"The image has {width} x {height} pixels; at most {limits.pixels} are taken.")


def _decoded(data: bytes, channels: int) -> Pixels:
    if data.startswith(JPEG):
        try:
            decoded = simplejpeg.decode_jpeg(data, colorspace="GRAY" if channels == 1 else "RGB")
        except ValueError:
            pass  # CMYK and the like: Pillow knows more kinds
        else:
            return np.asarray(decoded[:, :, 0] if channels == 1 else decoded, dtype=np.uint8)
    with Image.open(io.BytesIO(data), formats=FORMATS) as opened:
        return np.asarray(opened.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
