"""Encoded images that clients send: JPEG, PNG and WebP, damaged; decoded within limits or refused."""

from __future__ import annotations

import io
import random
import warnings

import numpy as np
from PIL import Image

from services.serving.domain.images import ImageLimits, prepared
from services.serving.domain.package import ImageInput
from tests.fuzz.harness import throw

LIMITS = ImageLimits(bytes=1 << 20, pixels=1_000_000)
INPUTS = (ImageInput("x", "NHWC", "uint8", 3, 16, 16), ImageInput("x", "NCHW", "uint8", 1, 9, 33))


def run(seconds: float, seed: int | None = None) -> int:
    """How many inputs it tried in so long. Raises `AssertionError`, or any error that is not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of odd files; here all are
        return throw(seconds, seed, seeds(), read)


def read(data: bytes, rng: random.Random) -> None:
    """Decode and resize."""
    image = rng.choice(INPUTS)
    pixels = prepared(data, image, LIMITS)
    assert pixels.shape[:2] == (image.height, image.width)
    assert pixels.dtype == np.uint8


def seeds() -> list[bytes]:
    """Small pictures of each format and of several modes."""
    drawn = np.random.default_rng(0).integers(0, 256, (24, 20, 4), dtype=np.uint8)
    rgba = Image.fromarray(drawn, "RGBA")
    found = [_saved(rgba.convert("RGB"), kind) for kind in ("JPEG", "PNG", "WEBP")]
    found += [_saved(rgba.convert(mode), "PNG") for mode in ("RGBA", "L", "P", "1", "LA", "I;16")]
    found += [_saved(rgba.convert("CMYK"), "JPEG"), _saved(rgba.convert("L"), "JPEG"), _saved(rgba, "WEBP")]
    return found


def _saved(image: Image.Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()
