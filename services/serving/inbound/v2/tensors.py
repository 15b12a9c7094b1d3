"""An infer request as JSON with binary tensors behind it, and an answer in the same form.

Open Inference Protocol, HTTP/REST, with Triton's binary data, classification and shared-memory extensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

import numpy as np
import orjson

from services.serving.domain.calls import AnsweredOutput, InferAnswer, InferCall, WantedOutput
from services.serving.domain.tensors import DTYPES, MOST_DIMENSIONS, Array, TensorData, raw_of
from services.serving.errors import BadRequest
from services.serving.inbound.tensors import CLASSIFICATION, MOST_CLASSES, REGION, region_of
from services.serving.inbound.v2.bodies import Part
from services.serving.inbound.v2.documents import (
    flag_of,
    json_numbers,
    list_of,
    parameters_of,
    parsed,
    shape_of,
    shown,
    text_of,
)

BINARY_SIZE: Final = "binary_data_size"
BINARY: Final = "binary_data"
ALL_BINARY: Final = "binary_data_output"
BINARY_ONLY: Final = frozenset({"FP16", "BF16"})
KINDS: Final = {"b": frozenset({bool}), "f": frozenset({int, float}), "i": frozenset({int}), "u": frozenset({int})}
"""Of numpy's kinds: what JSON has for them."""


def call_of(
    model: str, version: str, body: bytes, header_size: int | None, key: str = "", traceparent: str = ""
) -> InferCall:
    """`header_size`: bytes of JSON at the body's beginning; None: all of it. Raises `BadRequest`."""
    data = memoryview(body)
    head, tail = (data, data[len(data) :]) if header_size is None else (data[:header_size], data[header_size:])
    document = parsed(head)
    parameters = parameters_of(document)
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise BadRequest("Unable to parse 'id': it must be text", field="id")
    inputs, rest = _inputs(document, tail, model)
    if rest:
        raise BadRequest(f"unexpected additional input data for model '{model[:128]}'", field="inputs")
    everything = flag_of(parameters.pop(ALL_BINARY, False), ALL_BINARY)
    return InferCall(
        model=model,
        version=version,
        inputs=inputs,
        outputs=[_wanted(output) for output in list_of(document, "outputs")],
        parameters=parameters,
        id=identity,
        key=key or identity,
        traceparent=traceparent,
        binary=everything,
    )


def raw_call_of(
    model: str,
    version: str,
    body: bytes,
    wanted: tuple[str, str, tuple[int, ...]],
    key: str = "",
    traceparent: str = "",
) -> InferCall:
    """A body that is one tensor's bytes alone; `wanted`: name, datatype and shape of the model's only input."""
    name, datatype, shape = wanted
    raw: Part = memoryview(body)
    if datatype == "BYTES":
        raw = len(body).to_bytes(4, "little") + body
    return InferCall(
        model, version, [TensorData(name, datatype, shape, raw=raw)], key=key, traceparent=traceparent, binary=True
    )


def answer_parts(answer: InferAnswer) -> tuple[bytes, list[Part]]:
    """The JSON, and the binary tensors behind it. Raises `BadRequest` for a tensor that JSON cannot hold."""
    raws: list[Part] = []
    document: dict[str, Any] = {"id": answer.id} if answer.id else {}
    document["model_name"] = answer.version.model
    document["model_version"] = answer.version.name
    if answer.parameters:
        document["parameters"] = dict(answer.parameters)
    document["outputs"] = [_answered(output, raws) for output in answer.outputs]
    return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY), raws


def _answered(output: AnsweredOutput, raws: list[Part]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": output.shape}
    if output.region is not None:
        return found
    if output.binary:
        raw = raw_of(output.data)
        raws.append(raw)
        found["parameters"] = {BINARY_SIZE: len(raw)}
        return found
    if output.datatype in BINARY_ONLY:
        raise BadRequest(
            f"sending {output.datatype} data via JSON is not supported. Please use the binary data format for output "
            f"{output.name}",
            field="outputs",
        )
    found["data"] = _json_data(output.data, output.name)
    return found


def _json_data(array: Array, name: str) -> Any:
    if array.dtype.kind not in "OUS":
        return json_numbers(array)
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise BadRequest(
            f"output {name} holds bytes that are no UTF-8 text; ask for it as binary data", field="outputs"
        ) from error


def _inputs(document: Mapping[str, Any], tail: memoryview, model: str) -> tuple[list[TensorData], memoryview]:
    found: list[TensorData] = []
    if "inputs" not in document:
        raise BadRequest("Unable to parse 'inputs': the request has none", field="inputs")
    for one in list_of(document, "inputs"):
        tensor, tail = _input(one, tail, model)
        found.append(tensor)
    return found, tail


def _input(one: Mapping[str, Any], tail: memoryview, model: str) -> tuple[TensorData, memoryview]:
    name, datatype, shape = text_of(one, "name"), text_of(one, "datatype"), shape_of(one)
    parameters = parameters_of(one)
    if (BINARY_SIZE in parameters) + (REGION in parameters) + ("data" in one) != 1:
        raise _not_one_source(name, one, parameters)
    region = region_of(name, parameters)
    if region is not None:
        return TensorData(name, datatype, shape, region=region), tail
    if "data" in one:
        return TensorData(name, datatype, shape, values=_values(name, datatype, one["data"])), tail
    size = _size(name, parameters[BINARY_SIZE])
    if size > len(tail):
        raise BadRequest(
            f"unexpected size for input '{name[:128]}', expecting {size - len(tail)} additional bytes for model "
            f"'{model[:128]}'",
            field=f"inputs.{name[:128]}",
        )
    return TensorData(name, datatype, shape, raw=tail[:size]), tail[size:]


def _not_one_source(name: str, one: Mapping[str, Any], parameters: Mapping[str, Any]) -> BadRequest:
    found = [field for field in (BINARY_SIZE, REGION) if field in parameters]
    found += ["data"] if "data" in one else []
    which = f"But set {' '.join(map(repr, found))}" if found else "But no field is set"
    return BadRequest(
        "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
        f"'shared_memory_region' in 'parameters'. {which}",
        field=f"inputs.{name[:128]}",
    )


def _values(name: str, datatype: str, data: Any) -> Sequence[Any]:
    """Flat, in row-major order, of the kinds that the datatype takes."""
    if datatype in BINARY_ONLY:
        raise BadRequest(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input "
            f"{name[:128]}",
            field=f"inputs.{name[:128]}",
        )
    if not isinstance(data, list):
        raise _unfit(name, "data", f"a list is needed, not {shown(data)}")
    flat = _flat(name, data)
    if datatype == "BYTES":
        return _encoded(name, flat)
    dtype = DTYPES.get(datatype)
    if dtype is None:
        return flat  # the handlers' sentence about datatypes
    kind = np.dtype(dtype).kind
    if not KINDS[kind].issuperset(map(type, flat)):
        wrong = next(item for item in flat if type(item) not in KINDS[kind])
        raise _unfit(name, "data", f"it holds {shown(wrong)}, which is no {datatype}")
    return _floats(name, datatype, flat) if kind == "f" else flat


def _floats(name: str, datatype: str, flat: list[Any]) -> Sequence[Any]:
    try:
        with np.errstate(over="raise"):
            return cast("Sequence[Any]", np.array(flat, dtype=DTYPES[datatype]))
    except (FloatingPointError, OverflowError) as error:
        raise _unfit(name, "data", f"it holds a number that does not fit into {datatype}") from error


def _encoded(name: str, flat: list[Any]) -> list[bytes]:
    try:
        return [item.encode() for item in flat]
    except AttributeError as error:
        raise BadRequest(
            f"Unable to parse JSON bytes array of input {name[:128]!r}: text is needed", field=f"inputs.{name[:128]}"
        ) from error


def _flat(name: str, data: list[Any]) -> list[Any]:
    """The innermost lists, one after the other."""
    for _ in range(MOST_DIMENSIONS):
        if not data or not isinstance(data[0], list):
            return data
        deeper: list[Any] = []
        for item in data:
            if isinstance(item, list):
                deeper.extend(item)
            else:
                deeper.append(item)
        data = deeper
    raise _unfit(name, "data", f"it is nested deeper than {MOST_DIMENSIONS} dimensions")


def _unfit(name: str, field: str, problem: str) -> BadRequest:
    return BadRequest(f"Unable to parse '{field}' of input {name[:128]!r}: {problem}", field=f"inputs.{name[:128]}")


def _wanted(one: Mapping[str, Any]) -> WantedOutput:
    """`binary_data_output` is for outputs that nobody names; a named one is JSON unless it says otherwise itself."""
    name = text_of(one, "name")
    parameters = parameters_of(one)
    classes = parameters.get(CLASSIFICATION, 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes < MOST_CLASSES:
        raise BadRequest(f"Unable to parse '{CLASSIFICATION}': it must be a whole number", field="outputs")
    region = region_of(name, parameters)
    if region is not None and (classes or parameters.get(BINARY)):
        other = CLASSIFICATION if classes else BINARY
        raise BadRequest(f"Output can't set both '{REGION}' and '{other}'", field="outputs")
    return WantedOutput(name, classes, region, flag_of(parameters.get(BINARY, False), BINARY))


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise _unfit(name, BINARY_SIZE, "a whole number of at least 0 is needed")
    return value


def raw_shape(dims: Sequence[int], max_batch: int, size: int, datatype: str) -> tuple[int, ...]:
    """The shape of a tensor that came as bytes alone: the open dimension, or the batch, takes what there is.

    Raises `BadRequest` when more than one dimension is open.
    """
    if datatype == "BYTES":
        if math.prod(dims) != 1:
            raise BadRequest("For BYTE datatype raw input, the model must have input shape [1]", field="inputs")
        return (1, *dims) if max_batch else tuple(dims)
    if sum(dim < 0 for dim in dims) > 1:
        raise BadRequest("the shape of the raw input cannot be deduced: several dimensions are open", field="inputs")
    item = np.dtype(DTYPES[datatype]).itemsize
    known = math.prod(dim for dim in dims if dim > 0) * item or 1
    shape = tuple(dim if dim >= 0 else size // known for dim in dims)
    return (1, *shape) if max_batch else shape
