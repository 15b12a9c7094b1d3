"""A tiny real detector: an ONNX graph that finds the bright rectangle of an image, and packages of it."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from PIL import Image

WIDTH, HEIGHT = 40, 20


def graph(*, together: bool = False, batch: int | str = "n") -> bytes:
    """uint8 image [n, 1, 20, 40] -> boxes [n, 1, 4] left, top, right, bottom of the pixels above 100, scores [n, 1]
    their largest value / 255, labels [n, 1] all 1; `together` as one output `found` [n, 1, 6], of a batch of 1 [1, 6].
    """
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Greater", ["float", "dark"], ["above"]),
        helper.make_node("Cast", ["above"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["mask"], ["columns"], axes=[2], keepdims=0),
        helper.make_node("ReduceMax", ["mask"], ["rows"], axes=[3], keepdims=0),
        helper.make_node("ReduceMax", ["float"], ["peak"], axes=[2, 3], keepdims=0),
        helper.make_node("Div", ["peak", "full"], ["scores"]),
        helper.make_node("Mul", ["peak", "zero"], ["none"]),
        helper.make_node("Add", ["none", "one"], ["labels"]),
    ]
    for axis, first, last in (("columns", "x0", "x1"), ("rows", "y0", "y1")):
        nodes += [
            helper.make_node("ArgMax", [axis], [f"{first}_i"], axis=2, keepdims=1),
            helper.make_node("ArgMax", [axis], [f"{last}_i"], axis=2, keepdims=1, select_last_index=1),
            helper.make_node("Cast", [f"{first}_i"], [first], to=TensorProto.FLOAT),
            helper.make_node("Cast", [f"{last}_i"], [f"{last}_f"], to=TensorProto.FLOAT),
            helper.make_node("Add", [f"{last}_f", "one"], [last]),
        ]
    nodes.append(helper.make_node("Concat", ["x0", "y0", "x1", "y1"], ["boxes"], axis=2))
    outputs = [("boxes", [batch, 1, 4]), ("scores", [batch, 1]), ("labels", [batch, 1])]
    if together:
        nodes += [
            helper.make_node("Unsqueeze", ["scores", "last"], ["scores_c"]),
            helper.make_node("Unsqueeze", ["labels", "last"], ["labels_c"]),
            helper.make_node("Concat", ["boxes", "scores_c", "labels_c"], ["all"], axis=2),
            helper.make_node(
                "Squeeze" if batch == 1 else "Identity", ["all", "first"] if batch == 1 else ["all"], ["found"]
            ),
        ]
        outputs = [("found", [1, 6] if batch == 1 else [batch, 1, 6])]
    floats = {"dark": 100.0, "full": 255.0, "zero": 0.0, "one": 1.0}
    constants = [numpy_helper.from_array(np.array(value, dtype=np.float32), name) for name, value in floats.items()]
    constants += [numpy_helper.from_array(np.array([axis]), name) for name, axis in (("last", 2), ("first", 0))]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 1, HEIGHT, WIDTH])
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "bright", [image], infos, constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    checker.check_model(model)
    return bytes(model.SerializeToString())


def card(*, together: bool = False, **detection: Any) -> dict[str, Any]:
    """model.json of the graph above, with fields of `detection` of the caller's."""
    corners = ["x0", "y0", "x1", "y1"]
    about = {"columns": [*corners, "score", "label"] if together else corners, "unit": "pixels"}
    return {
        "format": 1,
        "task": "detection",
        "classes": ["lamp"],
        "input": {
            "name": "image",
            "layout": "NCHW",
            "dtype": "uint8",
            "channels": 1,
            "height": HEIGHT,
            "width": WIDTH,
        },
        "outputs": {"detections": "found"} if together else {"boxes": "boxes", "scores": "scores", "labels": "labels"},
        "detection": {**about, "first_label": 1, "score_threshold": 0.1, **detection},
        "max_batch_size": 8,
    }


def package_files(*, together: bool = False, batch: int | str = "n", **detection: Any) -> dict[str, bytes]:
    """The two files."""
    document = json.dumps(card(together=together, **detection)).encode()
    return {"model.onnx": graph(together=together, batch=batch), "model.json": document}


def picture(x: int, y: int, width: int, height: int, *, scale: int = 2, level: int = 200) -> bytes:
    """A dark PNG of `scale` times the model's input, with one bright rectangle, in pixels of the PNG."""
    pixels = np.full((HEIGHT * scale, WIDTH * scale), 20, dtype=np.uint8)
    pixels[y : y + height, x : x + width] = level
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
