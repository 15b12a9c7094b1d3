"""Tensors as the Open Inference Protocol carries them, to and from numpy (little-endian, row-major)."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

from services.serving.errors import BadRequest

Array: TypeAlias = NDArray[Any]

DTYPES: Final[dict[str, DTypeLike]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "BF16": np.uint16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""numpy has no bfloat16: a BF16 tensor is held as the 16 bits of each value."""
LITTLE_ENDIAN: Final = {name: np.dtype(dtype).newbyteorder("<") for name, dtype in DTYPES.items()}
"""As they lie in a message."""
LENGTH: Final = struct.Struct("<I")
MOST_DIMENSIONS: Final = 16


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor as the graph declares it; -1 stands for a dimension of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A part of a registered shared-memory region."""

    name: str
    byte_size: int
    offset: int = 0


@dataclass(slots=True)
class TensorData:
    """A tensor as a call carries it: `raw` bytes, `values` in row-major order, or a `region` that holds the bytes."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    raw: bytes | memoryview | None = None
    values: Sequence[Any] = ()
    region: Region | None = None


def decoded(tensor: TensorData) -> Array:
    """The tensor as an array of its shape; numbers share the memory of `raw`.

    Raises `BadRequest` when the parts do not fit each other.
    """
    dtype = DTYPES.get(tensor.datatype)
    if dtype is None:
        raise _bad(tensor, f"has the datatype {tensor.datatype[:32]!r}, which is not one of the protocol's")
    if len(tensor.shape) > MOST_DIMENSIONS or min(tensor.shape, default=0) < 0:
        raise _bad(tensor, f"has the shape {list(tensor.shape)[:MOST_DIMENSIONS]}")
    count = math.prod(tensor.shape)
    if tensor.raw is None:
        return _from_values(tensor, dtype, count)
    if tensor.datatype == "BYTES":
        return _shaped(tensor, np.array([*strings(tensor, tensor.raw), None], dtype=np.object_)[:-1], count)
    little = LITTLE_ENDIAN[tensor.datatype]
    wanted = count * little.itemsize
    if len(tensor.raw) != wanted:
        raise BadRequest(
            f"input byte size mismatch for input {tensor.name[:128]!r}. Expected {wanted}, got {len(tensor.raw)}",
            field=f"inputs.{tensor.name[:128]}",
        )
    return np.frombuffer(tensor.raw, dtype=little).reshape(tensor.shape)


def encoded(array: Array) -> bytes:
    """The raw form, a copy."""
    if array.dtype == np.object_ or array.dtype.kind in "US":
        parts: list[bytes] = []
        for item in array.ravel():
            data = item if isinstance(item, bytes) else str(item).encode()
            parts += [LENGTH.pack(len(data)), data]
        return b"".join(parts)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def raw_of(array: Array) -> bytes | memoryview:
    """The raw form; a view where memory already holds it."""
    if array.dtype.kind in "OUS" or not array.flags.c_contiguous or not array.size:
        return encoded(array)
    flat = array.reshape(-1)
    return (flat.view(np.uint16) if array.dtype == np.float16 else flat).data.cast("B")


def datatype_of(array: Array) -> str:
    """The protocol's name of the array's type. Raises `KeyError` for one that it has not."""
    return NAMES[array.dtype] if array.dtype.kind not in "OUS" else "BYTES"


NAMES: Final = {np.dtype(dtype): name for name, dtype in DTYPES.items() if name != "BF16"}


def _bad(tensor: TensorData, problem: str) -> BadRequest:
    return BadRequest(f"Input {tensor.name[:128]!r} {problem}.", field=f"inputs.{tensor.name[:128]}")


def _from_values(tensor: TensorData, dtype: DTypeLike, count: int) -> Array:
    if len(tensor.values) != count:
        raise _bad(tensor, f"holds {len(tensor.values)} values; its shape needs {count}")
    try:
        array = np.array(tensor.values, dtype=dtype)
    except (OverflowError, TypeError, ValueError) as error:
        raise _bad(tensor, f"holds values that are not {tensor.datatype}") from error
    return _shaped(tensor, array, count)


def _shaped(tensor: TensorData, array: Array, count: int) -> Array:
    if array.size != count:
        raise _bad(tensor, f"holds {array.size} values; its shape needs {count}")
    return array.reshape(tensor.shape)


def strings(tensor: TensorData, raw: bytes | memoryview) -> list[bytes]:
    """The strings of a raw BYTES tensor, each behind its length. Raises `BadRequest`."""
    items: list[bytes] = []
    place = 0
    while place < len(raw):
        if place + LENGTH.size > len(raw):
            raise _bad(tensor, "has an incomplete string length indicator, 4 bytes are expected")
        (size,) = LENGTH.unpack_from(raw, place)
        place += LENGTH.size
        if place + size > len(raw):
            raise _bad(tensor, f"has incomplete string data, a string of length {size} is expected")
        items.append(bytes(raw[place : place + size]))
        place += size
    return items
