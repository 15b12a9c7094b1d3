"""ModelInfer's messages on the wire, without copying large tensors more often than needed.

protobuf copies `raw_input_contents` when it parses, and again at each access; here a large message is cut at its
top-level fields (protobuf.dev/programming-guides/encoding), tensors stay views of the message as it came, and only the
rest is parsed. Messages without large tensors go through protobuf as ever.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from google.protobuf.message import DecodeError
from inference import grpc_service_pb2 as pb

from services.serving.errors import BadRequest

LARGE: Final = 32 * 1024
"""Bytes from which a message is cut."""
RAW_INPUT: Final = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["raw_input_contents"].number
RAW_OUTPUT_TAG: Final = bytes([pb.ModelInferResponse.DESCRIPTOR.fields_by_name["raw_output_contents"].number << 3 | 2])
MODEL_NAME_TAG: Final = pb.ModelInferRequest.DESCRIPTOR.fields_by_name["model_name"].number << 3 | 2
SHORT: Final = 0x7F
"""Longest text whose length is one byte."""
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT: Final = 10

Request = tuple[pb.ModelInferRequest, Sequence[bytes | memoryview]]
"""The message, and its raw contents taken out of it."""


def request_of(data: bytes) -> Request:
    """Raises `BadRequest` when it is not a ModelInferRequest."""
    try:
        if len(data) < LARGE:
            message = pb.ModelInferRequest.FromString(data)
            return message, list(message.raw_input_contents)
        rest, raws = _cut(memoryview(data))
        return pb.ModelInferRequest.FromString(rest), raws
    except DecodeError as error:
        raise BadRequest(f"The message is not an inference.ModelInferRequest: {error}") from error


def model_of(data: bytes) -> str:
    """The model's name where the message begins with it, as every known client writes it; "" else. Reads no more."""
    if len(data) < 2 or data[0] != MODEL_NAME_TAG or data[1] > SHORT:
        return ""
    return data[2 : 2 + data[1]].decode("utf-8", "replace")


def response_bytes(response: pb.ModelInferResponse, raws: Sequence[bytes | memoryview]) -> bytes:
    """The response with its raw contents, serialized: each tensor is copied once."""
    parts: list[bytes | memoryview] = [response.SerializeToString()]
    for raw in raws:
        parts += [RAW_OUTPUT_TAG, varint(len(raw)), raw]
    return b"".join(parts)


def varint(value: int) -> bytes:
    """A protobuf varint of a whole number of at least 0."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _cut(data: memoryview) -> tuple[bytes, list[memoryview]]:
    rest: list[memoryview] = []
    raws: list[memoryview] = []
    for number, start, body, end in _fields(data):
        if number == RAW_INPUT:
            raws.append(data[body:end])
        else:
            rest.append(data[start:end])
    return b"".join(rest), raws


def _fields(data: memoryview) -> Iterator[tuple[int, int, int, int]]:
    """Each top-level field: its number, where it starts, where its body starts, where it ends."""
    place, size = 0, len(data)
    while place < size:
        start = place
        tag, place = _read_varint(data, place)
        kind = tag & 7
        body = place
        if kind == LENGTH:
            length, body = _read_varint(data, place)
            place = body + length
        elif kind == VARINT:
            _, place = _read_varint(data, place)
        elif kind in (FIXED64, FIXED32):
            place += 8 if kind == FIXED64 else 4
        else:
            raise DecodeError(f"wire type {kind} at byte {start}")
        if place > size:
            raise DecodeError(f"truncated at byte {start}")
        if tag >> 3 == RAW_INPUT and kind != LENGTH:
            raise DecodeError(f"raw_input_contents has wire type {kind}")
        yield tag >> 3, start, body, place


def _read_varint(data: memoryview, place: int) -> tuple[int, int]:
    if place < len(data) and data[place] < 0x80:
        return data[place], place + 1
    value = shift = 0
    for at in range(place, min(place + LONGEST_VARINT, len(data))):
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
    raise DecodeError(f"broken number at byte {place}")
