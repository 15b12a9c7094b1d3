"""Lays the models out as each server wants them: a Triton repository of ONNX files, the same for Triton's Python
backend, and MLServer's folders.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from tests.bench.serving.models import INPUT, OUTPUT, BenchModel

PROGRAMS: Final = Path(__file__).with_name("programs")
BATCHING: Final = "dynamic_batching { }"
"""Triton's greedy batching: what waits is run as one, and nothing waits for more. Irisloop does the same by itself."""


def write_onnx(root: Path, models: Iterable[BenchModel], extra: str = "") -> Path:
    """A repository as an ONNX user of Triton has it; `extra` goes into each config.pbtxt. Returns `root`."""
    for model in models:
        write_version(root / model.name, 1, model.file())
        (root / model.name / "config.pbtxt").write_text(config_text(model, 'platform: "onnxruntime_onnx"', extra))
    return root


def write_version(folder: Path, version: int, content: bytes, python: bool = False) -> None:
    """One more numeric folder, which appears whole; `python`: for Triton's Python backend."""
    place, part = folder / str(version), folder / f".{version}.part"
    part.mkdir(parents=True)
    (part / ("weights.onnx" if python else "model.onnx")).write_bytes(content)
    if python:
        shutil.copy(PROGRAMS / "triton_model.py", part / "model.py")
    part.rename(place)


def write_python(root: Path, models: Iterable[BenchModel], packages: Path, extra: str = "") -> Path:
    """The same for Triton's Python backend; `packages` is a site-packages with onnxruntime. Returns `root`."""
    parameter = f'parameters {{ key: "packages" value {{ string_value: "{packages}" }} }}'
    for model in models:
        write_version(root / model.name, 1, model.file(), python=True)
        (root / model.name / "config.pbtxt").write_text(
            config_text(model, 'backend: "python"', f"{parameter}\n{extra}")
        )
    return root


def write_mlserver(root: Path, models: Iterable[BenchModel], settings: dict[str, object]) -> Path:
    """settings.json and one folder a model, with the runtime beside it. Returns `root`."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "settings.json").write_text(json.dumps(settings))
    shutil.copy(PROGRAMS / "mlserver_runtime.py", root)
    for model in models:
        folder = root / model.name
        folder.mkdir()
        (folder / "model.onnx").write_bytes(model.file())
        found = {
            "name": model.name,
            "implementation": "mlserver_runtime.OnnxRuntime",
            "parameters": {"uri": str((folder / "model.onnx").absolute()), "version": "1"},
        }
        (folder / "model-settings.json").write_text(json.dumps(found))
    return root


def config_text(model: BenchModel, kind: str, extra: str = "") -> str:
    """config.pbtxt; `kind` is its platform or backend."""
    lines = [
        f'name: "{model.name}"',
        kind,
        f"max_batch_size: {model.max_batch_size}",
        f"input {{ {_tensor(INPUT, model.datatype, model.shape)} }}",
        f"output {{ {_tensor(OUTPUT, model.answer_datatype, model.answer_shape)} }}",
        "" if "dynamic_batching" in extra else BATCHING,
        extra,
    ]
    return "\n".join(line for line in lines if line) + "\n"


def _tensor(name: str, datatype: str, shape: tuple[int, ...]) -> str:
    return f'name: "{name}" data_type: TYPE_{datatype} dims: [ {", ".join(map(str, shape))} ]'
