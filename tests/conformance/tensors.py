"""The protocol's tensors as Python lists, and their encodings: raw bytes, typed contents, JSON."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Final

import numpy as np
from inference import grpc_service_pb2 as pb

NUMPY: Final = {
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
    "FP32": np.float32,
    "FP64": np.float64,
}
CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
DIGITS: Final = 6
"""Of a float that are compared: two runtimes add in different orders."""
LENGTH: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a request, with its values flat in row-major order; BYTES as `bytes`."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]

    def raw(self) -> bytes:
        """As it stands in raw_input_contents."""
        return encode(self.datatype, self.values)

    def contents(self) -> pb.InferTensorContents:
        """As typed contents."""
        return pb.InferTensorContents(**{CONTENTS[self.datatype]: list(self.values)})

    def json(self) -> list[Any]:
        """As the `data` of JSON."""
        return [value.decode() if isinstance(value, bytes) else value for value in self.values]


def encode(datatype: str, values: Sequence[Any]) -> bytes:
    """Little endian, row-major; BYTES with a length before each element."""
    if datatype == "BYTES":
        return b"".join(LENGTH.pack(len(value)) + value for value in values)
    if datatype == "BF16":
        return (np.asarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return np.asarray(values, dtype=NUMPY[datatype]).tobytes()


def decode(datatype: str, raw: bytes) -> list[Any]:
    """What `encode` made, with floats rounded so that they can be compared."""
    if datatype == "BYTES":
        return _strings(raw)
    if datatype == "BF16":
        found = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
    else:
        found = np.frombuffer(raw, NUMPY[datatype])
    return [rounded(value) for value in found.tolist()]


def rounded(values: Any) -> Any:
    """Floats to the digits that are compared, at any depth, and as text where they are no numbers; all else as it
    is.
    """
    if isinstance(values, list):
        return [rounded(value) for value in values]
    if not isinstance(values, float):
        return values
    return float(f"{values:.{DIGITS}g}") if isfinite(values) else str(values)


def text(value: bytes) -> str:
    """Bytes in a form that JSON holds."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _strings(raw: bytes) -> list[str]:
    found, place = [], 0
    while place < len(raw):
        (size,) = LENGTH.unpack_from(raw, place)
        place += LENGTH.size
        found.append(text(raw[place : place + size]))
        place += size
    return found
