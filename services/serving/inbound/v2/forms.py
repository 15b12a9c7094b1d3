"""The JSON of everything but inference: what handlers answer, and what their callers send, in Triton's forms."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from inference import model_config_pb2

from services.serving.domain.ports import RegionStatus
from services.serving.domain.routes import Version
from services.serving.domain.statistics import Statistics
from services.serving.errors import BadRequest
from services.serving.handlers.catalog import IndexEntry, ModelFacts
from services.serving.inbound import messages
from services.serving.inbound.v2.documents import shown

AS_JSON: Final[dict[str, Any]] = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
WIDE: Final = frozenset({FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64})


def metadata_form(facts: ModelFacts) -> dict[str, Any]:
    """Of GET /v2/models/M."""

    def tensors(found: Any) -> list[dict[str, Any]]:
        return [{"name": one.name, "datatype": one.datatype, "shape": shape} for one, shape in found]

    return {
        "name": facts.name,
        "versions": list(facts.versions),
        "platform": facts.platform,
        "inputs": tensors(facts.inputs),
        "outputs": tensors(facts.outputs),
    }


def config_form(serialized: bytes) -> dict[str, Any]:
    """Of a serialized inference.ModelConfig."""
    return _document(model_config_pb2.ModelConfig.FromString(serialized))


def statistics_form(version: Version, statistics: Statistics) -> dict[str, Any]:
    """One entry of `model_stats`."""
    return _document(messages.statistics_message(version, statistics))


def _document(message: Message) -> dict[str, Any]:
    """protobuf's JSON, which writes 64-bit integers as text, with numbers in their place, as Triton has them."""
    found: dict[str, Any] = MessageToDict(message, **AS_JSON)
    _count(found, message.DESCRIPTOR)
    return found


def _count(found: dict[str, Any], kind: Any) -> None:
    for name, value in found.items():
        field = kind.fields_by_name[name]
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            of_values = field.message_type.fields_by_name["value"]
            found[name] = {key: _counted(one, of_values) for key, one in value.items()}
        elif isinstance(value, list):
            found[name] = [_counted(one, field) for one in value]
        else:
            found[name] = _counted(value, field)


def _counted(value: Any, field: FieldDescriptor) -> Any:
    if field.message_type is not None:
        _count(value, field.message_type)
        return value
    return int(value) if field.cpp_type in WIDE else value


def region_form(region: RegionStatus) -> dict[str, Any]:
    """One entry of the status of shared memory."""
    return {"name": region.name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size}


def entry_form(one: IndexEntry) -> dict[str, Any]:
    """One entry of the index, without what is not known."""
    found = {"name": one.name, "version": one.version, "state": one.state, "reason": one.reason}
    return {name: value for name, value in found.items() if value}


def decoded_files(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a load; files come in base64. Raises `BadRequest`."""
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        if not name.startswith("file:"):
            found[name] = value
            continue
        try:
            found[name] = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise BadRequest(f"parameter {name[:128]!r} is not base64", field="parameters") from error
    return found


def trace_values(name: str, value: Any) -> list[str] | None:
    """One trace setting; null sets it back. Raises `BadRequest`."""
    if value is None:
        return None
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in values):
        raise BadRequest(f"{name[:128]!r} must be text, or a list of texts", field=name[:128])
    return values


def log_value(name: str, value: Any) -> bool | int | str:
    """One log setting. Raises `BadRequest`."""
    if not isinstance(value, (bool, int, str)):
        raise BadRequest(
            f"{name[:128]!r} must be text, a whole number, true or false, not {shown(value)}", field=name[:128]
        )
    return value


def of_kind(document: dict[str, Any], field: str, kind: type, default: Any = None) -> Any:
    """A field of a request that registers shared memory. Raises `BadRequest`."""
    value = document.get(field, default)
    if value is None:
        raise BadRequest(f"Shared memory register request has no '{field}' field", field=field)
    if not isinstance(value, kind) or isinstance(value, bool):
        wanted = "text" if kind is str else "a whole number"
        raise BadRequest(f"Unable to parse '{field}': {wanted} is needed", field=field)
    return value
