"""The ONNX graphs of the test models; `tests.conformance.computations` says in numpy what each gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

OPSET = 17
IR_VERSION = 9
BATCH = "batch"
Shape = Sequence[int | str]
Constants = Mapping[str, np.ndarray[Any, Any]]

TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "BF16": TensorProto.BFLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}


def sum_and_difference(datatype: str, size: int, batched: bool = True) -> ModelProto:
    """Two inputs, two outputs."""
    shape: Shape = (BATCH, size) if batched else (size,)
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    return _model(
        nodes, _values(("INPUT0", "INPUT1"), datatype, shape), _values(("OUTPUT0", "OUTPUT1"), datatype, shape)
    )


def string_sum_and_difference(size: int) -> ModelProto:
    """Decimal numbers as strings, cast on the way in and out."""
    shape = (BATCH, size)
    nodes = [
        helper.make_node("Cast", ["INPUT0"], ["first"], to=TensorProto.INT32),
        helper.make_node("Cast", ["INPUT1"], ["second"], to=TensorProto.INT32),
        helper.make_node("Add", ["first", "second"], ["sum"]),
        helper.make_node("Sub", ["first", "second"], ["difference"]),
        helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TensorProto.STRING),
        helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TensorProto.STRING),
    ]
    return _model(nodes, _values(("INPUT0", "INPUT1"), "BYTES", shape), _values(("OUTPUT0", "OUTPUT1"), "BYTES", shape))


def identity(datatypes: Sequence[tuple[str, str]], size: int | str) -> ModelProto:
    """One pair of INPUT<suffix> and OUTPUT<suffix> for each (suffix, datatype)."""
    shape = (BATCH, size)
    nodes = [helper.make_node("Identity", [f"INPUT{suffix}"], [f"OUTPUT{suffix}"]) for suffix, _ in datatypes]
    inputs = [_value(f"INPUT{suffix}", datatype, shape) for suffix, datatype in datatypes]
    outputs = [_value(f"OUTPUT{suffix}", datatype, shape) for suffix, datatype in datatypes]
    return _model(nodes, inputs, outputs)


def marked_start() -> ModelProto:
    """READY * (INPUT + START)."""
    nodes = [
        helper.make_node("Add", ["INPUT", "START"], ["marked"]),
        helper.make_node("Mul", ["marked", "READY"], ["OUTPUT"]),
    ]
    names = ("INPUT", "START", "READY")
    return _model(nodes, _values(names, "INT32", (BATCH, 1)), [_value("OUTPUT", "INT32", (BATCH, 1))])


def marked_start_and_end() -> ModelProto:
    """READY * (INPUT + START + END * CORRID)."""
    nodes = [
        helper.make_node("Cast", ["CORRID"], ["id"], to=TensorProto.INT32),
        helper.make_node("Mul", ["END", "id"], ["last"]),
        helper.make_node("Add", ["INPUT", "START"], ["marked"]),
        helper.make_node("Add", ["marked", "last"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    inputs = [*_values(("INPUT", "START", "END", "READY"), "INT32", (BATCH, 1)), _value("CORRID", "UINT64", (BATCH, 1))]
    return _model(nodes, inputs, [_value("OUTPUT", "INT32", (BATCH, 1))])


def class_scores() -> ModelProto:
    """The mean of an image against five centres."""
    steps = np.arange(5, dtype=np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["IMAGE"], ["colours"]),
        helper.make_node("ReduceMean", ["colours"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["column"]),
        helper.make_node("Mul", ["column", "steps"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "squares"], ["SCORES"]),
    ]
    constants: Constants = {"last": np.array([1], dtype=np.int64), "steps": steps, "squares": steps * steps}
    inputs = [_value("IMAGE", "FP32", (BATCH, 3, 8, 8))]
    return _model(nodes, inputs, [_value("SCORES", "FP32", (BATCH, 5))], constants)


def sum_with_default(size: int, default: float) -> ModelProto:
    """BIAS has an initializer, so that it may be left out."""
    nodes = [helper.make_node("Add", ["INPUT", "BIAS"], ["OUTPUT"])]
    inputs = [_value("INPUT", "FP32", (BATCH, size)), _value("BIAS", "FP32", ("bias_batch", size))]
    bias = {"BIAS": np.full((1, size), default, dtype=np.float32)}
    return _model(nodes, inputs, [_value("OUTPUT", "FP32", (BATCH, size))], bias)


def transposed() -> ModelProto:
    """A matrix and a scalar a row; clients see both flat."""
    nodes = [
        helper.make_node("Transpose", ["MATRIX"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Unsqueeze", ["SCALE", "last"], ["scale"]),
        helper.make_node("Mul", ["turned", "scale"], ["TURNED"]),
    ]
    inputs = [_value("MATRIX", "FP32", (BATCH, 2, 2)), _value("SCALE", "FP32", (BATCH,))]
    constants = {"last": np.array([1, 2], dtype=np.int64)}
    return _model(nodes, inputs, [_value("TURNED", "FP32", (BATCH, 2, 2))], constants)


def doubled() -> ModelProto:
    """Any two dimensions, no batch."""
    nodes = [
        helper.make_node("Mul", ["INPUT", "two"], ["OUTPUT"]),
        helper.make_node("Shape", ["INPUT"], ["SHAPE"]),
    ]
    outputs = [_value("OUTPUT", "FP32", ("rows", "columns")), _value("SHAPE", "INT64", (2,))]
    constants = {"two": np.array(2, dtype=np.float32)}
    return _model(nodes, [_value("INPUT", "FP32", ("rows", "columns"))], outputs, constants)


def picked() -> ModelProto:
    """Gather checks its index when it runs."""
    nodes = [helper.make_node("Gather", ["table", "INDEX"], ["OUTPUT"])]
    constants = {"table": np.array([10, 11, 12, 13], dtype=np.int64)}
    return _model(nodes, [_value("INDEX", "INT64", (1,))], [_value("OUTPUT", "INT64", (1,))], constants)


def plus(number: int) -> ModelProto:
    """OUTPUT = INPUT + number."""
    nodes = [helper.make_node("Add", ["INPUT", "number"], ["OUTPUT"])]
    constants = {"number": np.array(number, dtype=np.int32)}
    return _model(nodes, [_value("INPUT", "INT32", (BATCH, 2))], [_value("OUTPUT", "INT32", (BATCH, 2))], constants)


def _value(name: str, datatype: str, shape: Shape) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TYPES[datatype], list(shape))


def _values(names: Sequence[str], datatype: str, shape: Shape) -> list[ValueInfoProto]:
    return [_value(name, datatype, shape) for name in names]


def _model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    constants: Constants | None = None,
) -> ModelProto:
    initializers = [numpy_helper.from_array(values, name) for name, values in (constants or {}).items()]
    graph: GraphProto = helper.make_graph(list(nodes), "test", list(inputs), list(outputs), initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    checker.check_model(model)
    return model
