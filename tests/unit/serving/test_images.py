"""Encoded images to tensors."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from services.serving.domain.images import BadImage, prepared, stacked
from services.serving.domain.package import ImageInput

GREY = ImageInput("image", "NCHW", "uint8", 1, 8, 6)
COLOUR = ImageInput("image", "NHWC", "float32", 3, 8, 6)


def encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form, **({"lossless": True} if form == "WEBP" else {}))
    return file.getvalue()


def random(height: int, width: int, *channels: int) -> np.ndarray:
    return np.random.RandomState(3).randint(0, 256, (height, width, *channels)).astype(np.uint8)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_pixels_of_the_right_size_are_passed_as_they_are(form: str) -> None:
    pixels = random(8, 6, 3)
    assert np.array_equal(prepared(encoded(pixels, form), COLOUR), pixels)


def test_a_grey_jpeg_is_decoded_as_pillow_decodes_it() -> None:
    data = encoded(random(8, 6), "JPEG")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert np.abs(prepared(data, GREY).astype(int) - expected).max() <= 1


def test_a_cmyk_jpeg_is_decoded_too() -> None:
    file = io.BytesIO()
    Image.fromarray(random(8, 6, 3)).convert("CMYK").save(file, "JPEG")
    assert prepared(file.getvalue(), COLOUR).shape == (8, 6, 3)


def test_a_larger_image_is_averaged_over_areas() -> None:
    pixels = random(16, 12)
    expected = pixels.reshape(8, 2, 6, 2).mean(axis=(1, 3))
    assert np.abs(prepared(encoded(pixels, "PNG"), GREY) - expected).max() <= 1


def test_a_smaller_image_is_enlarged() -> None:
    assert prepared(encoded(np.full((2, 2), 77, np.uint8), "PNG"), GREY).tolist() == [[77] * 6] * 8


def test_images_are_stacked_in_layout_and_dtype() -> None:
    grey, colour = random(8, 6), random(8, 6, 3)
    assert stacked([grey, grey], GREY).shape == (2, 1, 8, 6)
    batch = stacked([colour], COLOUR)
    assert batch.shape == (1, 8, 6, 3)
    assert batch.dtype == np.float32
    first = stacked([colour], ImageInput("image", "NCHW", "uint8", 3, 8, 6))
    assert np.array_equal(first[0, 2], colour[:, :, 2])


@pytest.mark.parametrize("data", [b"", b"text", b"\xff\xd8\xff", encoded(random(8, 6), "PNG")[:60], b"GIF89a"])
def test_what_cannot_be_decoded_says_so(data: bytes) -> None:
    with pytest.raises(BadImage):
        prepared(data, GREY)
