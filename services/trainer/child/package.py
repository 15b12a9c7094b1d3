"""From a trained network to the folder that serving loads, and the proof that both compute the same."""

from __future__ import annotations

import io
import json
import warnings
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from services.trainer.child.network import SmallNetwork
from services.trainer.child.training import predict
from services.trainer.domain.jobs import Job

OPSET = 17
GOLDEN_TOLERANCE = 1e-3
"""Absolute and relative: ten times what torch and onnxruntime differ by on one machine, for other machines."""


class _Export(nn.Module):
    """What the file holds: the network, its logits divided by the calibration temperature by the reader, not here."""

    def __init__(self, network: SmallNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits, embedding = self.network(image)
        return logits, embedding


def export(network: SmallNetwork, channels: int, height: int, width: int) -> bytes:
    """ONNX of the network: `image` uint8 [N, C, H, W] -> `logits` [N, classes] and `embedding` [N, 128], N dynamic."""
    network.eval()
    example = torch.zeros(2, channels, height, width, dtype=torch.uint8)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations; what matters is checked by `parity`
        torch.onnx.export(
            _Export(network).to(memory_format=torch.contiguous_format),
            (example,),
            buffer,  # type: ignore[arg-type]  # a stream is taken, though the annotation does not say so
            input_names=["image"],
            output_names=["logits", "embedding"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}, "embedding": {0: "batch"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return buffer.getvalue()


def parity(network: SmallNetwork, model: bytes, images: NDArray[np.uint8]) -> float:
    """Largest absolute difference of logits and embeddings between torch and onnxruntime on these images."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    logits, embedding = session.run(["logits", "embedding"], {"image": images})
    expected, expected_embedding = predict(network, images)
    return float(max(np.abs(logits - expected).max(), np.abs(embedding - expected_embedding).max()))


def description(job: Job, shape: tuple[int, int, int], metrics: dict[str, float], temperature: float) -> dict[str, Any]:
    """model.json; docs/reference/model-package.md tells every field."""
    channels, height, width = shape
    return {
        "format": 1,
        "task": "classification",
        "classes": job.class_names,
        "input": {
            "name": "image",
            "layout": "NCHW",
            "dtype": "uint8",
            "channels": channels,
            "height": height,
            "width": width,
        },
        "outputs": {"logits": "logits", "embedding": "embedding"},
        "run_id": job.run_id,
        "dataset": job.dataset,
        "dataset_version": job.dataset_version,
        "metrics": metrics,
        "feature_schema": 1,
        "temperature": round(temperature, 4),
    }


def golden(network: SmallNetwork, shape: tuple[int, int, int]) -> bytes:
    """golden.npz: what torch gives for two images [C, H, W] that are made here, noise and a ramp: a picture of the
    dataset would go on lying in the package after its asset was deleted. The same bytes for the same network.
    """
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    ramp = np.linspace(0, 255, noise.size).astype(np.uint8).reshape(shape)
    images = np.stack([noise, ramp])
    logits, embedding = predict(network, images)
    buffer = io.BytesIO()
    tensors = {"inputs/image": images, "outputs/logits": logits, "outputs/embedding": embedding}
    tolerances = {name: np.array(GOLDEN_TOLERANCE) for name in ("atol", "rtol")}
    np.savez_compressed(buffer, allow_pickle=False, **tensors, **tolerances)
    return buffer.getvalue()


def folder(model: bytes, described: dict[str, Any], golden_input: bytes) -> dict[str, bytes]:
    """The files of the package."""
    return {
        "model.onnx": model,
        "model.json": json.dumps(described, indent=1, sort_keys=True).encode(),
        "golden.npz": golden_input,
    }
