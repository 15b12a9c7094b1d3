"""Reads a model's configuration as people and programs write it: config.pbtxt, or protobuf JSON in RepositoryModelLoad.

What is not a configuration is answered with the line and the field at fault; nothing else comes out of here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from inference.model_config_pb2 import ModelConfig

from services.serving.errors import BadPackage

CONFIG_FILE: Final = "config.pbtxt"
CONFIG_BYTES: Final = 256 << 10
"""Largest configuration that is read; the text parser may take two seconds for it, so read it off the event loop."""
JSON_DEPTH: Final = 32
"""ModelConfig itself is at most 8 messages deep, and none of them holds itself."""
QUOTED: Final = 200
NO_FIELD: Final = re.compile(r'Message type "inference\.([\w.]+)" has no field named "([^"]+)"')
PLACE: Final = re.compile(r"^\d+:\d+ : ")


def parse_text(data: bytes, where: str = CONFIG_FILE) -> ModelConfig:
    """The text form. Raises `BadPackage` naming the line, and the field when it is unknown."""
    message = ModelConfig()
    try:
        text_format.Parse(_text(data, where), message)
    except text_format.ParseError as error:
        raise _at_line(where, error) from error
    except (ValueError, RecursionError) as error:
        raise BadPackage(f"{where} cannot be read: {_shown(error)}.", field=where) from error
    return _writable(message, where)


def parse_json(data: bytes, where: str = "config") -> ModelConfig:
    """The JSON form. Raises `BadPackage` naming the field when it is unknown."""
    message = ModelConfig()
    try:
        json_format.Parse(_text(data, where), message, max_recursion_depth=JSON_DEPTH)
    except json_format.ParseError as error:
        unknown = NO_FIELD.search(str(error))
        if unknown is not None:
            raise _no_field(where, *unknown.groups()) from error
        raise BadPackage(f"{where} is not a model configuration: {_shown(error)}.", field=where) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        # json_format takes some shapes for granted, e.g. that a map is an object.
        raise BadPackage(f"{where} is not a model configuration: {_shown(error)}.", field=where) from error
    return _writable(message, where)


def _text(data: bytes, where: str) -> str:
    if len(data) > CONFIG_BYTES:
        raise BadPackage(f"{where} has {len(data)} bytes; at most {CONFIG_BYTES} are read.", field=where)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadPackage(f"{where} is not UTF-8 text: byte {error.start} is not.", field=where) from error


def _at_line(where: str, error: text_format.ParseError) -> BadPackage:
    line = error.GetLine()
    place = f"{where} line {line}" if line is not None else where
    unknown = NO_FIELD.search(str(error))
    if unknown is not None:
        return _no_field(place, *unknown.groups())
    return BadPackage(f"{place}: {PLACE.sub('', _shown(error))}", field=where)


def _no_field(place: str, message: str, field: str) -> BadPackage:
    owner = "" if message == "ModelConfig" else f" in {message.removeprefix('Model')}"
    return BadPackage(f"{place}: {field[:80]!r} is not a field of a model configuration{owner}.", field=field[:80])


def _shown(error: Exception) -> str:
    text = re.sub(r"[\x00-\x1f\x7f]+", " ", str(error)).strip() or type(error).__name__
    return text if len(text) <= QUOTED else f"{text[:QUOTED]}..."


def _writable(message: ModelConfig, where: str) -> ModelConfig:
    """The message, once it is sure that it can be sent and that each choice is one: a number may stand for a choice,
    and JSON may carry what the wire does not, a lone surrogate.
    """
    try:
        message.SerializeToString()
    except (ValueError, UnicodeError) as error:
        raise BadPackage(f"{where} cannot be read: {_shown(error)}.", field=where) from error
    for field, value in _choices(message):
        if field.enum_type is not None and value not in field.enum_type.values_by_number:
            names = ", ".join(one.name for one in field.enum_type.values)
            raise BadPackage(f"{where}: {field.name} is {value}, which is none of {names}.", field=field.name)
    return message


def _choices(message: Message) -> Iterator[tuple[FieldDescriptor, int]]:
    """Every field of an enum's type that is set, with its number."""
    for field, value in message.ListFields():
        items: Any = value if field.is_repeated else (value,)
        if field.enum_type is not None:
            yield from ((field, item) for item in items)
        elif field.message_type is not None:
            entry = field.message_type.GetOptions().map_entry
            if entry and field.message_type.fields_by_name["value"].message_type is None:
                continue
            for item in items.values() if entry else items:
                yield from _choices(item)
