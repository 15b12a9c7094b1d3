"""JSON as clients write it, NaN and infinity included; its fields, with a sentence for each fault."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import orjson

from services.serving.domain.tensors import Array
from services.serving.errors import BadRequest

SCALARS: Final = (bool, int, float, str)
ONLY_OBJECTS: Final = frozenset({dict})
ONLY_WHOLE: Final = frozenset({int})
LARGEST: Final = 2**64
UNREAL: Final = (b"NaN", b"Infinity")
"""Not of RFC 8259; Triton's parser takes them and its writer gives them, as Python's do."""


def parsed(data: bytes | memoryview) -> dict[str, Any]:
    """A JSON object. Raises `BadRequest`."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        text = bytes(data)
        if not any(word in text for word in UNREAL):
            raise _unparsed(error) from error
        document = _with_unreal(text)
    if not isinstance(document, dict):
        raise BadRequest("the request must be a JSON object", field="body")
    return document


def json_numbers(array: Array) -> Any:
    """The array, flat, as something that orjson writes; each float is read back as it was, NaN and infinity too."""
    flat = np.ascontiguousarray(array.ravel())
    if flat.dtype.kind != "f" or np.isfinite(flat).all():
        return flat
    words = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    for place in np.flatnonzero(~np.isfinite(flat)):
        value = flat[place]
        words[place] = b"NaN" if np.isnan(value) else b"Infinity" if value > 0 else b"-Infinity"
    return orjson.Fragment(b"[" + b",".join(words) + b"]")


def list_of(document: Mapping[str, Any], field: str) -> list[dict[str, Any]]:
    """A list of objects, empty when it is not there. Raises `BadRequest`."""
    found = document.get(field, [])
    if not isinstance(found, list) or not ONLY_OBJECTS.issuperset(map(type, found)):
        raise BadRequest(f"Unable to parse '{field}': a list of objects is needed", field=field)
    return found


def text_of(one: Mapping[str, Any], field: str) -> str:
    """Raises `BadRequest`."""
    value = one.get(field)
    if not isinstance(value, str):
        raise BadRequest(f"Unable to parse '{field}': text is needed", field=field)
    return value


def shape_of(one: Mapping[str, Any]) -> tuple[int, ...]:
    """Raises `BadRequest`."""
    shape = one.get("shape")
    if (
        not isinstance(shape, list)
        or not ONLY_WHOLE.issuperset(map(type, shape))
        or (shape and not (min(shape) >= 0 and max(shape) < LARGEST))
    ):
        raise BadRequest("Unable to parse 'shape': a list of whole numbers of at least 0 is needed", field="shape")
    return tuple(shape)


def flag_of(value: Any, name: str) -> bool:
    """Raises `BadRequest`."""
    if not isinstance(value, bool):
        raise BadRequest(f"Unable to parse '{name}': true or false is needed", field=f"parameters.{name}")
    return value


def object_of(document: Mapping[str, Any], field: str) -> dict[str, Any]:
    """An object, empty when it is not there. Raises `BadRequest`."""
    found = document.get(field, {})
    if not isinstance(found, dict):
        raise BadRequest(f"'{field}' must be an object", field=field)
    return found


def parameters_of(one: Mapping[str, Any]) -> dict[str, Any]:
    """`parameters`, all of them scalars. Raises `BadRequest`."""
    found = object_of(one, "parameters")
    for name, value in found.items():
        if not isinstance(value, SCALARS):
            raise BadRequest(
                f"parameter '{name[:128]}' has invalid type. It should be either 'int', 'bool', or 'string'.",
                field="parameters",
            )
    return found


def shown(value: Any) -> str:
    """The value in a few characters; what holds others is only named, since it may be nested a thousand deep."""
    return repr(value)[:32] if value is None or isinstance(value, SCALARS) else f"a {type(value).__name__}"


def _unparsed(error: Exception) -> BadRequest:
    return BadRequest(f"failed to parse the request JSON buffer: {error}", field="body")


def _with_unreal(text: bytes) -> Any:
    """By Python's parser, which is slower and knows these words; what else it takes beyond JSON is refused."""
    try:
        document = json.loads(text.decode(), parse_float=_finite)
        if b"\\u" in text:
            json.dumps(document, ensure_ascii=False).encode()  # half a surrogate pair is no text
    except (RecursionError, ValueError) as error:
        raise _unparsed(error) from error
    return document


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text[:32]} does not fit into 64 bits")
    return value
