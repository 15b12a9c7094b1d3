"""The statistics against a plain reference, pixel by pixel as the contract words them."""

from __future__ import annotations

import numpy as np
import pytest

from services.ingest.domain.inspection import Limits, Picture, inspect
from services.ingest.domain.pixels import Statistics, differences, measure, reduction
from tests.unit.ingest.pictures import Pixels, encoded, frame, jpeg, pixels


def reference(picture: Pixels) -> Statistics:
    colours = picture.astype(np.float64) / 255
    if colours.shape[2] == 1:
        colours = np.repeat(colours, 3, axis=2)
    luma = colours @ np.array([0.299, 0.587, 0.114])
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * luma[1:-1, 1:-1]
    red, green, blue = colours.mean(axis=(0, 1))
    return Statistics(
        luma.mean(), luma.std(), laplacian.var(), red, green, blue, (luma < 5 / 255).mean(), (luma > 250 / 255).mean()
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (8, 8), (31, 17), (320, 240)])
def test_statistics_are_those_of_the_contract(channels: int, size: tuple[int, int]) -> None:
    batch = np.stack([pixels(*size, seed=seed, channels=channels) for seed in range(4)])
    batch[1] = 0
    batch[2] = 255
    batch[3, :4] = 1
    found, _ = measure(batch)
    for picture, statistics in zip(batch, found, strict=True):
        expected = reference(picture)
        for name in Statistics._fields[:-1]:
            assert getattr(statistics, name) == pytest.approx(getattr(expected, name), rel=1e-3, abs=1e-5), name


def test_black_and_white_frames_are_all_under_and_all_overexposed() -> None:
    black, white = measure(np.stack([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)]))[0]
    assert (black.underexposed, black.overexposed, black.sharpness) == (1.0, 0.0, 0.0)
    assert (white.underexposed, white.overexposed) == (0.0, 1.0)
    assert white.brightness == pytest.approx(1.0)


@pytest.mark.parametrize("size", [(28, 28), (32, 32), (160, 120)])
def test_thumbnails_are_means_over_a_grid(size: tuple[int, int]) -> None:
    picture = pixels(*size, channels=1)
    _, (thumbnail,) = measure(picture[None])
    rows = np.array_split(np.arange(size[1]), np.arange(1, 16) * size[1] // 16)
    columns = np.array_split(np.arange(size[0]), np.arange(1, 16) * size[0] // 16)
    expected = [[picture[np.ix_(row, column)].mean() for column in columns] for row in rows]
    assert np.abs(thumbnail.astype(float) - expected).max() <= 0.51


def test_thumbnails_of_tiny_frames_take_the_nearest_pixels() -> None:
    picture = pixels(8, 8, channels=1)
    _, (thumbnail,) = measure(picture[None])
    assert np.array_equal(thumbnail, picture[..., 0].repeat(2, axis=0).repeat(2, axis=1))


def test_difference_is_to_the_frame_before_and_absent_on_the_first() -> None:
    dark, light = bytes([10] * 256), bytes([61] * 256)
    assert differences(None, [dark, light, light]) == [None, pytest.approx(0.2), 0.0]
    assert differences(dark, [light]) == [pytest.approx(0.2)]
    assert differences(dark, []) == []


@pytest.mark.parametrize(
    ("size", "factor"),
    [((28, 28), 1), ((400, 400), 1), ((640, 480), 2), ((1920, 1080), 4), ((8000, 6000), 8), ((8, 50_000), 1)],
)
def test_only_large_pictures_are_reduced(size: tuple[int, int], factor: int) -> None:
    assert reduction(*size) == factor


@pytest.mark.parametrize("image", [jpeg(1281, 963), encoded("PNG", 1281, 963)], ids=["jpeg", "png"])
def test_a_reduced_picture_keeps_its_levels(image: bytes) -> None:
    (verdict,) = inspect([frame(image)], Limits())
    assert isinstance(verdict, Picture)
    expected = reference(pixels(1281, 963))
    for name in ("brightness", "red", "green", "blue"):
        assert getattr(verdict.statistics, name) == pytest.approx(getattr(expected, name), abs=0.01), name
    assert verdict.statistics.contrast == pytest.approx(expected.contrast, rel=0.1)
