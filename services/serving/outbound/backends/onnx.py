"""A graph in onnxruntime. Sessions may run several batches at one time, so that instances share one copy."""

from __future__ import annotations

import ctypes
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from services.serving.domain.ports import Ran
from services.serving.domain.tensors import Array, TensorSpec
from services.serving.domain.work import Arrays, Asked
from services.serving.errors import BadPackage, InferenceFailed

TYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(bfloat16)": "BF16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
ERROR_ONLY: Final = 3
"""onnxruntime's log level."""
BFLOAT16: Final = 16
"""onnx.TensorProto.BFLOAT16."""
ALWAYS: Final = "CPUExecutionProvider"
"""Runs what no provider before it can."""
GRAPH_LEVELS: Final = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}
"""optimization.graph.level of config.pbtxt, as Triton's onnxruntime backend reads it; all others enable all."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a session is opened."""

    threads: int = 1
    """Inside one operator."""
    inter_op_threads: int = 1
    parallel: bool = False
    """Run independent operators beside each other."""
    graph_level: int | None = None
    memory_arena: bool = True
    memory_pattern: bool = True
    providers: tuple[str, ...] = ("CPUExecutionProvider",)
    """By preference; those that this machine has not are passed over."""
    entries: Mapping[str, str] | None = None
    """Session configuration entries, as onnxruntime names them."""


class OnnxBackend:
    """Implements `Backend`."""

    blocking: Final = False
    joins: Final = True

    def __init__(self, graph: bytes | str, options: Options, runtime: Any = None) -> None:
        """`graph`: the model's bytes, or its path (needed when weights lie in files beside it). `runtime`: the module
        onnxruntime, or what stands in for it.

        Raises `BadPackage` when onnxruntime does not take it.
        """
        try:
            self._session = open_session(graph, options, runtime)
        except Exception as error:
            raise BadPackage(f"onnxruntime does not load the model: {first_line(error)}") from error
        self.inputs: Final = specs(self._session.get_inputs())
        self.outputs: Final = specs(self._session.get_outputs())
        self.overridable: Final = specs(self._session.get_overridable_initializers())
        self.placement: Final = str(self._session.get_providers()[0])
        self._names = [spec.name for spec in self.outputs]
        self._texts = frozenset(spec.name for spec in self.inputs if spec.datatype == "BYTES")
        self._wide = frozenset(spec.name for spec in (*self.inputs, *self.outputs) if spec.datatype == "BF16")

    def run(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        """Raises `InferenceFailed`."""
        if self._texts:
            inputs = {name: _text(name, array) if name in self._texts else array for name, array in inputs.items()}
        try:
            found = self._run_values(inputs) if self._wide else self._session.run(self._names, inputs)
        except Exception as error:
            raise InferenceFailed(f"onnxruntime cannot run this input: {first_line(error)}") from error
        yield dict(zip(self._names, found, strict=True)), True

    def close(self) -> None:
        """Let go of the session."""
        del self._session

    def _run_values(self, inputs: Arrays) -> list[Array]:
        """The road of graphs with bfloat16, which numpy has not."""
        from onnxruntime import OrtValue

        feed = {
            name: OrtValue.ortvalue_from_numpy_with_onnx_type(np.ascontiguousarray(array), BFLOAT16)
            if name in self._wide
            else OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array))
            for name, array in inputs.items()
        }
        found = self._session.run_with_ort_values(self._names, feed)
        return [
            _bits(value) if name in self._wide else value.numpy()
            for name, value in zip(self._names, found, strict=True)
        ]


def import_runtime() -> None:
    """Half a second that no request should wait for."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERROR_ONLY)


def open_session(graph: bytes | str, options: Options, runtime: Any = None) -> Any:
    """An `onnxruntime.InferenceSession` that does not spin between calls, on the first providers that are here."""
    onnxruntime = runtime or importlib.import_module("onnxruntime")
    wanted = onnxruntime.SessionOptions()
    wanted.intra_op_num_threads = options.threads
    wanted.inter_op_num_threads = options.inter_op_threads
    wanted.enable_cpu_mem_arena = options.memory_arena
    wanted.enable_mem_pattern = options.memory_pattern
    wanted.log_severity_level = ERROR_ONLY
    if options.parallel:
        wanted.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
    if options.graph_level is not None:
        level = GRAPH_LEVELS.get(options.graph_level, "ORT_ENABLE_ALL")
        wanted.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    entries = {"session.intra_op.allow_spinning": "0", **(options.entries or {})}
    for key, value in entries.items():
        wanted.add_session_config_entry(key, value)
    here = onnxruntime.get_available_providers()
    providers = [name for name in dict.fromkeys((*options.providers, ALWAYS)) if name in here or name == ALWAYS]
    return onnxruntime.InferenceSession(graph, wanted, providers=providers)


def specs(declared: Sequence[Any]) -> list[TensorSpec]:
    """onnxruntime's descriptions in the protocol's words; a named dimension is -1."""
    found: list[TensorSpec] = []
    for item in declared:
        datatype = TYPES.get(item.type)
        if datatype is None:
            raise BadPackage(f"The graph's {item.name!r} is a {item.type}, which is not served.")
        shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
        found.append(TensorSpec(item.name, datatype, shape))
    return found


def first_line(error: Exception) -> str:
    """What onnxruntime says first; the rest is its C++ source."""
    text = str(error).strip() or repr(error)
    return re.split(r"[\r\n]", text, maxsplit=1)[0][:500]


def _text(name: str, array: Array) -> Array:
    """The same strings as text: onnxruntime's strings are UTF-8."""
    try:
        found = [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise InferenceFailed(f"input {name!r} holds bytes that are no UTF-8 text, which onnxruntime needs") from error
    return np.array([*found, None], dtype=np.object_)[:-1].reshape(array.shape)


def _bits(value: Any) -> Array:
    """A bfloat16 value's 16-bit patterns; copied, since they belong to the value."""
    shape = tuple(value.shape())
    count = int(np.prod(shape, dtype=np.int64))
    if not count:
        return np.empty(shape, dtype=np.uint16)
    pointer = ctypes.cast(value.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    return np.ctypeslib.as_array(pointer, shape=(count,)).copy().reshape(shape)
