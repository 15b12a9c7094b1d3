"""Inputs that the table's requests start from."""

from __future__ import annotations

from typing import Any, Final

from tests.conformance.tensors import Input

NUMBERS: Final = list(range(16))
ONES: Final = [1] * 16
FIRST: Final = Input("INPUT0", "INT32", (1, 16), NUMBERS)
SECOND: Final = Input("INPUT1", "INT32", (1, 16), ONES)
PAIR: Final = (FIRST, SECOND)
EVERY_VALUE: Final[dict[str, list[Any]]] = {
    "BOOL": [True, False],
    "UINT8": [0, 255],
    "UINT16": [0, 65535],
    "UINT32": [0, 4294967295],
    "UINT64": [0, 18446744073709551615],
    "INT8": [-128, 127],
    "INT16": [-32768, 32767],
    "INT32": [-2147483648, 2147483647],
    "INT64": [-9223372036854775808, 9223372036854775807],
    "FP32": [1.5, -2.25],
    "FP64": [1e300, -0.125],
    "BYTES": [b"a", "zwölf".encode()],
}


def pair(rows: int, datatype: str = "INT32") -> tuple[Input, Input]:
    """Both inputs of `simple` and its kin with so many rows."""
    return (
        Input("INPUT0", datatype, (rows, 16), NUMBERS * rows),
        Input("INPUT1", datatype, (rows, 16), ONES * rows),
    )


def value(number: int) -> tuple[Input]:
    """The input of a sequence model."""
    return (Input("INPUT", "INT32", (1, 1), [number]),)


def texts(*values: bytes) -> tuple[Input]:
    """The input of `simple_identity`."""
    return (Input("INPUT0", "BYTES", (1, len(values)), values),)


def pictures(*levels: float) -> tuple[Input]:
    """Grey images, one for each level."""
    flat = [level for level in levels for _ in range(192)]
    return (Input("IMAGE", "FP32", (len(levels), 3, 8, 8), flat),)


def every_datatype() -> tuple[Input, ...]:
    """Of the model of that name."""
    return tuple(Input(f"INPUT_{datatype}", datatype, (1, 2), values) for datatype, values in EVERY_VALUE.items())
