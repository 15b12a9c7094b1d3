"""Model configurations as Triton's Python backend shows them to a model: JSON, and an object that completes them."""

from __future__ import annotations

import json
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message import Message
from inference.model_config_pb2 import ModelConfig

WIDE: Final = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
INPUT: Final = frozenset({"name", "data_type", "dims", "optional"})
OUTPUT: Final = frozenset({"name", "data_type", "dims"})
NEEDED: Final = ("name", "data_type", "dims")


def config_json(message: ModelConfig) -> str:
    """As Triton writes it: every field, names as in the .proto, 64-bit numbers as numbers."""
    return json.dumps(config_dict(message))


def config_dict(message: Message) -> dict[str, Any]:
    """The same as a dictionary."""
    found = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    _numbers(message, found)
    return found


def _numbers(message: Message, found: dict[str, Any]) -> None:
    """protobuf's JSON has 64-bit numbers as text; models reckon with them."""
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for key, one in value.items():
                if isinstance(one, Message):
                    _numbers(one, found[field.name][str(key)])
        elif field.message_type is not None:
            many = isinstance(found[field.name], list)
            for one, inner in zip(value, found[field.name], strict=True) if many else [(value, found[field.name])]:
                _numbers(one, inner)
        elif field.cpp_type in WIDE:
            shown = found[field.name]
            found[field.name] = [int(one) for one in shown] if isinstance(shown, list) else int(shown)


class AutoConfig:
    """What `auto_complete_config` is given: the configuration so far, and ways to add to it, none to contradict it."""

    def __init__(self, message: ModelConfig) -> None:
        self._config = config_dict(message)
        self._name = message.name

    def as_dict(self) -> dict[str, Any]:
        """The configuration so far."""
        return self._config

    def message(self) -> ModelConfig:
        """What came of it. Raises `ParseError`."""
        return ParseDict(self._config, ModelConfig())

    def add_input(self, tensor: dict[str, Any]) -> None:
        """Raises `ValueError` when it is not whole, or not what the configuration says."""
        self._add("input", tensor, INPUT)

    def add_output(self, tensor: dict[str, Any]) -> None:
        """Raises `ValueError` when it is not whole, or not what the configuration says."""
        self._add("output", tensor, OUTPUT)

    def set_max_batch_size(self, max_batch_size: int) -> None:
        """Raises `ValueError` when the configuration asks for more."""
        given = self._config["max_batch_size"]
        if given > max_batch_size:
            raise ValueError(
                f"max_batch_size of model {self._name!r} is {given} in its configuration, above the "
                f"{max_batch_size} that the model takes"
            )
        self._config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        """Raises `ValueError` when another scheduler is configured."""
        for other in ("sequence_batching", "ensemble_scheduling"):
            if other in self._config:
                raise ValueError(
                    f"model {self._name!r} is configured with {other}; it cannot also have dynamic_batching"
                )
        self._config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, policy: dict[str, Any]) -> None:
        """Raises `ValueError` for anything but `decoupled`."""
        if set(policy) - {"decoupled"}:
            raise ValueError(f"model_transaction_policy of model {self._name!r} has the field 'decoupled' alone")
        self._config.setdefault("model_transaction_policy", {}).update(policy)

    def _add(self, kind: str, tensor: dict[str, Any], fields: frozenset[str]) -> None:
        missing = [field for field in NEEDED if field not in tensor]
        unknown = sorted(set(tensor) - fields)
        if missing or unknown:
            what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which it may not have"
            raise ValueError(f"{kind} {tensor.get('name', '')!r} of model {self._name!r} {what}")
        for known in self._config[kind]:
            if known["name"] == tensor["name"]:
                self._agree(kind, known, tensor)
                known.update(tensor)
                return
        self._config[kind].append(dict(tensor))

    def _agree(self, kind: str, known: dict[str, Any], tensor: dict[str, Any]) -> None:
        typed = known["data_type"] not in ("TYPE_INVALID", tensor["data_type"])
        if typed or (known["dims"] and list(known["dims"]) != list(tensor["dims"])):
            raise ValueError(
                f"{kind} {tensor['name']!r} of model {self._name!r} is {known['data_type']} {known['dims']} in its "
                f"configuration; the model says {tensor['data_type']} {list(tensor['dims'])}"
            )
