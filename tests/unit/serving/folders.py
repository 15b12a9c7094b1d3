"""Serving alone on a folder of tiny models, for tests of transports and of what a client sees."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from onnx import TensorProto, checker, helper

from services.common.runtime import Runtime
from services.common.settings import CommonSettings
from services.serving.app import build
from services.serving.settings import ServingSettings
from tests.waiting import until

PICTURE_CONFIG = """
max_batch_size: 8
input { name: "image" data_type: TYPE_UINT8 dims: [4, 4, 3] format: FORMAT_NHWC }
output { name: "pixels" data_type: TYPE_UINT8 dims: [4, 4, 3] }
"""


def write(folder: Path, name: str, graph: bytes, config: str = "", version: int = 1) -> None:
    """A model of one version."""
    place = folder / name / str(version)
    place.mkdir(parents=True, exist_ok=True)
    (place / "model.onnx").write_bytes(graph)
    if config:
        (folder / name / "config.pbtxt").write_text(config)


def identity(name: str, output: str, kind: int, shape: list[Any]) -> bytes:
    """A graph that gives back what it gets."""
    node = helper.make_node("Identity", [name], [output])
    tensors = [helper.make_tensor_value_info(one, kind, shape) for one in (name, output)]
    model = helper.make_model(
        helper.make_graph([node], "identity", tensors[:1], tensors[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 8
    checker.check_model(model)
    return bytes(model.SerializeToString())


def numbers() -> bytes:
    """FP32 [n, 4] in and out."""
    return identity("numbers", "same", TensorProto.FLOAT, ["n", 4])


def pictures() -> bytes:
    """UINT8 [n, 4, 4, 3] in and out."""
    return identity("image", "pixels", TensorProto.UINT8, ["n", 4, 4, 3])


@asynccontextmanager
async def folder_serving(folder: Path, home: Path, **fields: Any) -> AsyncIterator[Runtime]:
    """Serving until the end of the block; its ports are in `ports`."""
    settings = ServingSettings(
        common=CommonSettings(home=home),
        **({"http_port": 0, "grpc_port": 0, "metrics_port": None} | fields),
        standalone=True,
        model_repository=str(folder),
    )
    runtime = Runtime(build(settings))
    task = asyncio.create_task(runtime.run())
    try:
        await until(lambda: task.done() or not runtime.waiting_for())
        if task.done():
            task.result()
        yield runtime
    finally:
        if not task.done():  # one that could not start has ended by itself
            runtime.stop()
            await task
