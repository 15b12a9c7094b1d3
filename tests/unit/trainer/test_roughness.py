"""Noise is measured as it was added; blur, light and other pictures are none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from services.trainer.child.roughness import added_noise, noise_deviation


def smooth(count: int, seed: int) -> NDArray[np.float64]:
    """Waves between 0.3 and 0.7 of full scale, [count, 1, 28, 28]."""
    phases = np.random.default_rng(seed).uniform(0, 6, (count, 1, 1, 1))
    y, x = np.mgrid[:28, :28]
    waves: NDArray[np.float64] = 0.5 + 0.2 * np.sin(x / 9 + phases) * np.cos(y / 7 + phases)
    return waves


def seen(pictures: NDArray[np.float64], sigma: float = 0.0) -> NDArray[np.uint8]:
    """As a camera with that noise gives them."""
    noise = np.random.default_rng(1).normal(0.0, sigma, pictures.shape) if sigma else 0.0
    return np.clip(np.rint((pictures + noise) * 255.0), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1])
def test_noise_is_measured(sigma: float) -> None:
    assert noise_deviation(seen(smooth(50, 1), sigma)) == pytest.approx(sigma, rel=0.1)


def test_what_a_condition_added_is_the_difference_in_quadrature() -> None:
    assert added_noise(seen(smooth(50, 2), 0.1), seen(smooth(50, 3), 0.06)) == pytest.approx(0.08, rel=0.1)


@pytest.mark.parametrize("change", [lambda x: x * 0.5 + 0.25, lambda x: x + 0.05, lambda x: x])
def test_contrast_light_and_other_pictures_add_none(change: Callable[[Any], Any]) -> None:
    assert added_noise(seen(change(smooth(50, 2)), 0.01), seen(smooth(50, 3), 0.01)) == 0.0


def test_without_images_to_compare_nothing_was_added() -> None:
    noisy, nothing = seen(smooth(50, 2), 0.1), np.zeros((0, 1, 28, 28), np.uint8)
    assert added_noise(noisy, nothing) == added_noise(nothing, noisy) == 0.0
