"""An infer request as JSON with binary tensors behind it, and an answer in the same form.

Open Inference Protocol, HTTP/REST, with Triton's binary data, classification and shared-memory extensions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from services.serving.domain.calls import AnsweredOutput, InferAnswer, InferCall, WantedOutput
from services.serving.domain.tensors import DTYPES, Array, TensorData
from services.serving.errors import BadRequest
from services.serving.inbound.tensors import CLASSIFICATION, MOST_CLASSES, REGION, raw_of, region_of
from services.serving.inbound.v2.bodies import Part

BINARY_SIZE: Final = "binary_data_size"
BINARY: Final = "binary_data"
ALL_BINARY: Final = "binary_data_output"
BINARY_ONLY: Final = frozenset({"FP16", "BF16"})
SCALARS: Final = (bool, int, float, str)
LARGEST: Final = 2**64


def call_of(
    model: str, version: str, body: bytes, header_size: int | None, key: str = "", traceparent: str = ""
) -> InferCall:
    """`header_size`: bytes of JSON at the body's beginning; None: all of it. Raises `BadRequest`."""
    data = memoryview(body)
    head, tail = (data, data[len(data) :]) if header_size is None else (data[:header_size], data[header_size:])
    document = parsed(head)
    parameters = _parameters(document)
    identity = document.get("id", "")
    if not isinstance(identity, str):
        raise BadRequest("Unable to parse 'id': it must be text", field="id")
    inputs, rest = _inputs(document, tail, model)
    if rest:
        raise BadRequest(f"unexpected additional input data for model '{model}'", field="inputs")
    everything = _flag(parameters.pop(ALL_BINARY, False), ALL_BINARY)
    return InferCall(
        model=model,
        version=version,
        inputs=inputs,
        outputs=[_wanted(output) for output in _list(document, "outputs")],
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


def parsed(data: bytes | memoryview) -> dict[str, Any]:
    """A JSON object. Raises `BadRequest`."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"failed to parse the request JSON buffer: {error}", field="body") from error
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object", field="body")
    return document


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
    flat = array.ravel()
    if array.dtype.kind in "OUS":
        try:
            return [item.decode() if isinstance(item, bytes) else str(item) for item in flat.tolist()]
        except UnicodeDecodeError as error:
            raise BadRequest(
                f"output {name} holds bytes that are no UTF-8 text; ask for it as binary data", field="outputs"
            ) from error
    if array.dtype.kind == "f" and not np.isfinite(flat).all():
        raise BadRequest(
            f"output {name} holds NaN or infinity, which JSON has not; ask for it as binary data", field="outputs"
        )
    return np.ascontiguousarray(flat)


def _inputs(document: Mapping[str, Any], tail: memoryview, model: str) -> tuple[list[TensorData], memoryview]:
    found: list[TensorData] = []
    if "inputs" not in document:
        raise BadRequest("Unable to parse 'inputs': the request has none", field="inputs")
    for one in _list(document, "inputs"):
        tensor, tail = _input(one, tail, model)
        found.append(tensor)
    return found, tail


def _input(one: Mapping[str, Any], tail: memoryview, model: str) -> tuple[TensorData, memoryview]:
    name, datatype, shape = _text(one, "name"), _text(one, "datatype"), _shape(one)
    parameters = _parameters(one)
    set_fields = [
        *(field for field in (BINARY_SIZE, REGION) if field in parameters),
        *(["data"] if "data" in one else []),
    ]
    if len(set_fields) != 1:
        which = f"But set {' '.join(map(repr, set_fields))}" if set_fields else "But no field is set"
        raise BadRequest(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
            f"'shared_memory_region' in 'parameters'. {which}",
            field=f"inputs.{name[:128]}",
        )
    region = region_of(name, parameters)
    if region is not None:
        return TensorData(name, datatype, shape, region=region), tail
    if "data" in one:
        return TensorData(name, datatype, shape, values=_values(name, datatype, one["data"])), tail
    size = _size(name, parameters[BINARY_SIZE])
    if size > len(tail):
        raise BadRequest(
            f"unexpected size for input '{name[:128]}', expecting {size - len(tail)} additional bytes for model "
            f"'{model}'",
            field=f"inputs.{name[:128]}",
        )
    return TensorData(name, datatype, shape, raw=tail[:size]), tail[size:]


def _values(name: str, datatype: str, data: Any) -> Sequence[Any]:
    """Flat, in row-major order, of the kinds that the datatype takes."""
    if datatype in BINARY_ONLY:
        raise BadRequest(
            f"receiving {datatype} data via JSON is not supported. Please use the binary data format for input "
            f"{name[:128]}",
            field=f"inputs.{name[:128]}",
        )
    flat: list[Any] = []
    _flatten(data, flat)
    if datatype == "BYTES":
        return [_encoded(name, item) for item in flat]
    kind = np.dtype(DTYPES[datatype]).kind if datatype in DTYPES else ""
    allowed = {"b": (bool,), "f": (int, float)}.get(kind, (int,))
    for item in flat:
        if not isinstance(item, allowed) or (kind != "b" and isinstance(item, bool)):
            raise BadRequest(f"input {name[:128]!r} holds {str(item)[:32]!r}, which is no {datatype}", field="inputs")
    return flat


def _encoded(name: str, item: Any) -> bytes:
    if not isinstance(item, str):
        raise BadRequest(f"Unable to parse JSON bytes array of input {name[:128]!r}: text is needed", field="inputs")
    return item.encode()


def _flatten(data: Any, into: list[Any]) -> None:
    if isinstance(data, list) and data and isinstance(data[0], list):
        for item in data:
            _flatten(item, into)
    elif isinstance(data, list):
        into.extend(data)
    else:
        into.append(data)


def _wanted(one: Mapping[str, Any]) -> WantedOutput:
    """`binary_data_output` is for outputs that nobody names; a named one is JSON unless it says otherwise itself."""
    name = _text(one, "name")
    parameters = _parameters(one)
    classes = parameters.get(CLASSIFICATION, 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes < MOST_CLASSES:
        raise BadRequest(f"Unable to parse '{CLASSIFICATION}': it must be a whole number", field="outputs")
    region = region_of(name, parameters)
    if region is not None and (classes or parameters.get(BINARY)):
        other = CLASSIFICATION if classes else BINARY
        raise BadRequest(f"Output can't set both '{REGION}' and '{other}'", field="outputs")
    return WantedOutput(name, classes, region, _flag(parameters.get(BINARY, False), BINARY))


def _parameters(one: Mapping[str, Any]) -> dict[str, Any]:
    found = one.get("parameters", {})
    if not isinstance(found, dict):
        raise BadRequest("'parameters' must be an object", field="parameters")
    for name, value in found.items():
        if not isinstance(value, SCALARS):
            raise BadRequest(
                f"parameter '{name[:128]}' has invalid type. It should be either 'int', 'bool', or 'string'.",
                field="parameters",
            )
    return dict(found)


def _list(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    found = document.get(field, [])
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise BadRequest(f"Unable to parse '{field}': a list of objects is needed", field=field)
    return found


def _text(one: Mapping[str, Any], field: str) -> str:
    value = one.get(field)
    if not isinstance(value, str):
        raise BadRequest(f"Unable to parse '{field}': text is needed", field=field)
    return value


def _shape(one: Mapping[str, Any]) -> tuple[int, ...]:
    shape = one.get("shape")
    if not isinstance(shape, list) or any(
        isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < LARGEST for size in shape
    ):
        raise BadRequest("Unable to parse 'shape': a list of whole numbers of at least 0 is needed", field="shape")
    return tuple(shape)


def _size(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise BadRequest(
            f"Unable to parse '{BINARY_SIZE}' of {name[:128]!r}: a whole number of at least 0 is needed", field="inputs"
        )
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise BadRequest(f"Unable to parse '{name}': true or false is needed", field=f"parameters.{name}")
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
