"""Between JSON and the contract's messages: names as the contract has them, times as RFC 3339."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp


def stamp(at: datetime | None) -> Timestamp | None:
    """A time of a query; None where there is none."""
    if at is None:
        return None
    made = Timestamp()
    made.FromDatetime(at)
    return made


def as_json(message: Message) -> dict[str, Any]:
    """A message as it is answered."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
