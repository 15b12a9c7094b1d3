"""Tensors of the protocol to arrays and back, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from services.serving.domain.tensors import DTYPES, TensorData, datatype_of, decoded, encoded
from services.serving.errors import BadRequest

PLAIN = sorted(set(DTYPES) - {"BYTES", "BF16"})


@pytest.mark.parametrize("datatype", PLAIN)
def test_raw_contents_come_back_as_they_were(datatype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(DTYPES[datatype])
    found = decoded(TensorData("x", datatype, (2, 3), encoded(array)))
    assert np.array_equal(found, array)
    assert datatype_of(found) == datatype


def test_strings_bear_their_length() -> None:
    array = np.array([[b"a", b""], ["\u00e4".encode(), b"\x00b"]], dtype=object)
    raw = encoded(array)
    assert raw.startswith(b"\x01\x00\x00\x00a\x00\x00\x00\x00")
    assert decoded(TensorData("x", "BYTES", (2, 2), raw)).tolist() == array.tolist()


def test_typed_values_take_the_shape() -> None:
    assert decoded(TensorData("x", "INT8", (2, 2), values=[1, -2, 3, 4])).tolist() == [[1, -2], [3, 4]]


@pytest.mark.parametrize(
    "tensor",
    [
        TensorData("x", "FP32", (2,), b"1234567"),
        TensorData("x", "FP32", (2,), b""),
        TensorData("x", "FP32", (-1,), b""),
        TensorData("x", "COMPLEX", (1,), b"1"),
        TensorData("x", "UINT8", (2,), values=[1]),
        TensorData("x", "UINT8", (1,), values=[256]),
        TensorData("x", "INT32", (1,)),
        TensorData("x", "BYTES", (1,), b"\x05\x00\x00\x00abc"),
        TensorData("x", "BYTES", (1,), b"\x05\x00"),
        TensorData("x", "BYTES", (2,), b"\x01\x00\x00\x00a"),
        TensorData("x", "UINT8", (1,) * 17, b"1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(tensor: TensorData) -> None:
    with pytest.raises(BadRequest):
        decoded(tensor)
