"""Writes a Triton model repository of small test models, twice: as ONNX graphs for Irisloop, and as Python-backend
models that compute the same for the oracle, whose wheel has no ONNX backend.

Names, tensors and config.pbtxt are equal in both, but for the backend. Models that no graph can express (decoupled
ones, a sum kept over a sequence) are Python models in both.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from onnx import ModelProto

from tests.conformance.computations import Arrays

Runtime = Literal["onnxruntime", "python"]
PROGRAMS: Final = Path(__file__).with_name("programs")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output as config.pbtxt says it."""

    name: str
    datatype: str
    dims: tuple[int, ...]
    extra: str = ""
    """More fields in the text form of protobuf."""

    def config(self) -> str:
        """One element of `input` or `output`."""
        return f'{{ name: "{self.name}" data_type: {self._type()} dims: [ {_list(self.dims)} ] {self.extra} }}'

    def python(self) -> dict[str, object]:
        """What `auto_complete_config` adds."""
        return {"name": self.name, "data_type": self._type(), "dims": list(self.dims)}

    def _type(self) -> str:
        return "TYPE_" + {"BYTES": "STRING"}.get(self.datatype, self.datatype)


@dataclass(frozen=True, slots=True)
class Version:
    """How one version computes: a graph and its twin, or a program for both runtimes, or neither in an ensemble."""

    graph: Callable[[], ModelProto] | None = None
    computation: Callable[[Arrays], Arrays] | None = None
    program: str = ""
    """A file of `programs/`."""
    garbage: bool = False
    """The ONNX file holds no graph, and the program fails: a model that cannot be loaded."""


@dataclass(frozen=True, slots=True)
class Model:
    """One entry of the repository."""

    name: str
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    max_batch_size: int = 8
    extra: str = ""
    """More of config.pbtxt."""
    oracle_extra: str | None = None
    """Instead of `extra` for the oracle, where Triton's Python backend cannot do what the configuration says."""
    versions: Mapping[int, Version] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    ensemble: bool = False
    configured: bool = True
    """False: no config.pbtxt, so that the server has to complete it from the model."""


def write_repository(root: Path, models: Iterable[Model], runtime: Runtime) -> None:
    """One folder a model under `root`, which may exist."""
    for model in models:
        write_model(root / model.name, model, runtime)


def write_model(folder: Path, model: Model, runtime: Runtime) -> None:
    """config.pbtxt, the version folders and what else belongs to the model."""
    folder.mkdir(parents=True, exist_ok=True)
    if model.configured:
        (folder / "config.pbtxt").write_text(config_text(model, runtime))
    for name, content in model.files.items():
        (folder / name).write_bytes(content)
    for number, version in model.versions.items():
        place = folder / str(number)
        place.mkdir(exist_ok=True)
        _write_version(place, model, version, runtime)


def config_text(model: Model, runtime: Runtime) -> str:
    """config.pbtxt as it lies in the repository."""
    lines = [f'name: "{model.name}"', _backend(model, runtime), f"max_batch_size: {model.max_batch_size}"]
    lines += [f"input {tensor.config()}" for tensor in model.inputs]
    lines += [f"output {tensor.config()}" for tensor in model.outputs]
    extra = model.oracle_extra if runtime == "python" and model.oracle_extra is not None else model.extra
    return "\n".join([*lines, extra.strip(), ""])


def _backend(model: Model, runtime: Runtime) -> str:
    if model.ensemble:
        return 'platform: "ensemble"'
    only_python = any(version.program and version.graph is None for version in model.versions.values())
    if runtime == "python" or (only_python and not _garbage(model)):
        return 'backend: "python"'
    return 'platform: "onnxruntime_onnx"'


def _garbage(model: Model) -> bool:
    return any(version.garbage for version in model.versions.values())


def _write_version(place: Path, model: Model, version: Version, runtime: Runtime) -> None:
    if version.garbage and runtime == "onnxruntime":
        (place / "model.onnx").write_bytes(b"this is no graph")
    elif version.program:
        (place / "model.py").write_text((PROGRAMS / version.program).read_text())
    elif runtime == "onnxruntime" and version.graph is not None:
        (place / "model.onnx").write_bytes(version.graph().SerializeToString())
    elif version.computation is not None:
        (place / "model.py").write_text(_program(model, version.computation))


def _program(model: Model, computation: Callable[[Arrays], Arrays]) -> str:
    frame = (PROGRAMS / "frame.py").read_text()
    frame = frame.replace("INPUTS: list[dict[str, Any]] = []", f"INPUTS = {[one.python() for one in model.inputs]}")
    frame = frame.replace("OUTPUTS: list[dict[str, Any]] = []", f"OUTPUTS = {[one.python() for one in model.outputs]}")
    source = inspect.getsource(computation).replace(f"def {computation.__name__}(", "def compute(", 1)
    return f"{frame}\n\nArrays = dict[str, Any]\n\n\n{source}"


def _list(dims: Iterable[int]) -> str:
    return ", ".join(str(one) for one in dims)


def single(graph: Callable[[], ModelProto], computation: Callable[[Arrays], Arrays]) -> dict[int, Version]:
    """Version 1 alone."""
    return {1: Version(graph, computation)}


def program(name: str) -> dict[int, Version]:
    """Version 1, a Python model in both runtimes."""
    return {1: Version(program=name)}
