"""The network and its ONNX form compute the same for images of any size."""

from __future__ import annotations

import io

import numpy as np
import onnxruntime
import pytest
import torch

from services.trainer.child.network import Grid, SmallNetwork
from services.trainer.child.package import GOLDEN_TOLERANCE, export, golden, parity


@pytest.mark.parametrize("size", [(2, 2), (3, 3), (4, 6), (7, 8), (8, 3), (32, 5)])
def test_the_grid_is_adaptive_average_pooling(size: tuple[int, int]) -> None:
    features = torch.randn(2, 5, *size, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.adaptive_avg_pool2d(features, 3)
    assert torch.allclose(Grid()(features), expected, atol=1e-6)


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 16, 16), (3, 48, 64), (1, 20, 33)])
def test_torch_and_onnx_compute_the_same(channels: int, height: int, width: int) -> None:
    torch.manual_seed(3)
    network = SmallNetwork(channels, 4)
    images = np.random.default_rng(1).integers(0, 256, (5, channels, height, width), np.uint8)
    assert parity(network, export(network, channels, height, width), images) < 1e-4


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 48, 64)])
def test_the_golden_input_is_what_the_graph_gives_and_the_same_for_the_same_network(
    shape: tuple[int, int, int],
) -> None:
    torch.manual_seed(3)
    network = SmallNetwork(shape[0], 4)
    data = golden(network, shape)
    assert data == golden(network, shape)
    session = onnxruntime.InferenceSession(export(network, *shape), providers=["CPUExecutionProvider"])
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        logits, embedding = session.run(["logits", "embedding"], {"image": stored["inputs/image"]})
        assert stored["inputs/image"].shape == (2, *shape)
        assert logits == pytest.approx(stored["outputs/logits"], abs=GOLDEN_TOLERANCE)
        assert embedding == pytest.approx(stored["outputs/embedding"], abs=GOLDEN_TOLERANCE)
        assert (float(stored["atol"]), float(stored["rtol"])) == (GOLDEN_TOLERANCE, GOLDEN_TOLERANCE)


def test_images_are_normalised_inside() -> None:
    network = SmallNetwork(1, 2, mean=0.4, deviation=0.2).eval()
    white = torch.full((1, 1, 16, 16), 255, dtype=torch.uint8)
    assert network.normalise(white).flatten().tolist() == pytest.approx([3.0] * 256)
    with torch.no_grad():
        assert torch.equal(network(white)[0], network.classify(network.normalise(white))[0])
