"""The models that are served, as ONNX graphs with seeded weights: two small ones, a large one, two that take images.

Every server gets the same files, so that what differs is the server.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

OPSET: Final = 17
IR_VERSION: Final = 9
INPUT: Final = "INPUT"
OUTPUT: Final = "OUTPUT"
IMAGE_SIDE: Final = 1280
STRIDE: Final = 20
"""image-small looks at every twentieth pixel: its answer is small, and so is its work."""
BIG_WIDTHS: Final = (1024, 4096, 4096)
ELEMENTS: Final = {"FP32": TensorProto.FLOAT, "UINT8": TensorProto.UINT8}
DTYPES: Final[dict[str, Any]] = {"FP32": np.float32, "UINT8": np.uint8}

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class BenchModel:
    """One model: INPUT and OUTPUT without the batch, and what makes its graph from a seed."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    answer_datatype: str
    answer_shape: tuple[int, ...]
    graph: Callable[[int], ModelProto]
    max_batch_size: int = 16

    def sample(self, seed: int = 7) -> Array:
        """One input with a batch of 1."""
        draw = np.random.default_rng(seed)
        if self.datatype == "UINT8":
            return draw.integers(0, 256, (1, *self.shape), dtype=np.uint8)
        return draw.standard_normal((1, *self.shape), dtype=np.float32)

    def file(self, seed: int = 0) -> bytes:
        """model.onnx."""
        return bytes(self.graph(seed).SerializeToString())


def mlp(seed: int) -> ModelProto:
    """64 -> 128 -> 10."""
    return _dense("FP32", (64, 128, 10), seed)


def big(seed: int) -> ModelProto:
    """1024 -> 4096 -> 4096: 84 MB of weights. `tests.bench.serving.swaps` gives each version its own bias."""
    return _dense("FP32", BIG_WIDTHS, seed)


def cnn(seed: int) -> ModelProto:
    """3x64x64 through three convolutions to ten classes."""
    widths = (3, 32, 64, 96)
    constants: dict[str, Array] = {}
    nodes, last = [], INPUT
    for number, (before, after) in enumerate(pairwise(widths)):
        constants[f"kernel{number}"] = _weights(seed + number, (after, before, 3, 3), before * 9)
        conv: dict[str, Any] = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
        nodes.append(helper.make_node("Conv", [last, f"kernel{number}"], [f"maps{number}"], **conv))
        nodes.append(helper.make_node("Relu", [f"maps{number}"], [f"active{number}"]))
        last = f"active{number}"
    constants["weights"] = _weights(seed + 9, (widths[-1], 10), widths[-1])
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
        helper.make_node("MatMul", ["embedding", "weights"], [OUTPUT]),
    ]
    return _model(nodes, ("FP32", (3, 64, 64)), ("FP32", (10,)), constants)


def echo_image(_: int) -> ModelProto:
    """The image as it came."""
    shape = (IMAGE_SIDE, IMAGE_SIDE, 3)
    return _model([helper.make_node("Identity", [INPUT], [OUTPUT])], ("UINT8", shape), ("UINT8", shape), {})


def image_small(seed: int) -> ModelProto:
    """Every twentieth pixel to ten numbers."""
    side = IMAGE_SIDE // STRIDE
    constants = {
        "starts": np.array([0, 0], np.int64),
        "ends": np.array([IMAGE_SIDE, IMAGE_SIDE], np.int64),
        "axes": np.array([1, 2], np.int64),
        "steps": np.array([STRIDE, STRIDE], np.int64),
        "weights": _weights(seed, (side * side * 3, 10), side * side * 3 * 256),
    }
    nodes = [
        helper.make_node("Slice", [INPUT, "starts", "ends", "axes", "steps"], ["thin"]),
        helper.make_node("Cast", ["thin"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["float"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], [OUTPUT]),
    ]
    return _model(nodes, ("UINT8", (IMAGE_SIDE, IMAGE_SIDE, 3)), ("FP32", (10,)), constants)


_IMAGE: Final = (IMAGE_SIDE, IMAGE_SIDE, 3)
MODELS: Final[Mapping[str, BenchModel]] = {
    one.name: one
    for one in (
        BenchModel("mlp", "FP32", (64,), "FP32", (10,), mlp),
        BenchModel("cnn", "FP32", (3, 64, 64), "FP32", (10,), cnn),
        BenchModel("big", "FP32", (BIG_WIDTHS[0],), "FP32", (BIG_WIDTHS[-1],), big),
        BenchModel("echo-image", "UINT8", _IMAGE, "UINT8", _IMAGE, echo_image, max_batch_size=4),
        BenchModel("image-small", "UINT8", _IMAGE, "FP32", (10,), image_small, max_batch_size=4),
    )
}
RATED: Final = ("mlp", "cnn", "big")
"""Measured by rate."""
IMAGES: Final = ("echo-image", "image-small")
"""Measured by the time of one call."""


def _dense(datatype: str, widths: Sequence[int], seed: int) -> ModelProto:
    constants: dict[str, Array] = {}
    nodes, last = [], INPUT
    for number, (before, after) in enumerate(pairwise(widths)):
        constants[f"weights{number}"] = _weights(seed + number, (before, after), before)
        nodes.append(helper.make_node("MatMul", [last, f"weights{number}"], [f"sum{number}"]))
        nodes.append(helper.make_node("Relu", [f"sum{number}"], [f"layer{number}"]))
        last = f"layer{number}"
    constants["bias"] = np.zeros((widths[-1],), np.float32)
    nodes.append(helper.make_node("Add", [last, "bias"], [OUTPUT]))
    return _model(nodes, (datatype, widths[:1]), (datatype, widths[-1:]), constants)


def _weights(seed: int, shape: Sequence[int], fan_in: int) -> Array:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(fan_in))


def _model(
    nodes: Sequence[NodeProto],
    taken: tuple[str, Sequence[int]],
    given: tuple[str, Sequence[int]],
    constants: Mapping[str, Array],
) -> ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "bench",
        [helper.make_tensor_value_info(INPUT, ELEMENTS[taken[0]], ["batch", *taken[1]])],
        [helper.make_tensor_value_info(OUTPUT, ELEMENTS[given[0]], ["batch", *given[1]])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    checker.check_model(model)
    return model
