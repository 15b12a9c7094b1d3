"""The two sets of names of tensor types: the protocol's (FP32, BYTES), the configuration's (TYPE_FP32, TYPE_STRING)."""

from __future__ import annotations

from typing import Any

from inference.model_config_pb2 import DataType


def config_type(datatype: str) -> str:
    """The configuration's name."""
    return "TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}"


def protocol_type(value: DataType.ValueType) -> str:
    """The protocol's name."""
    name = DataType.Name(value)
    return "BYTES" if name == "TYPE_STRING" else name.removeprefix("TYPE_")


def control_type(control: Any) -> str:
    """The configuration's name of a sequence control's type: the correlation id says it, the others show it."""
    for field, name in (
        ("int32_false_true", "TYPE_INT32"),
        ("fp32_false_true", "TYPE_FP32"),
        ("bool_false_true", "TYPE_BOOL"),
    ):
        if getattr(control, field):
            return name
    return DataType.Name(control.data_type)
