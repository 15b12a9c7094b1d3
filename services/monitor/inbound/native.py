"""ClickHouse's Native format as clients of a newer protocol read it.

The engine in process writes revision 0. From 51903 on a block begins with its info, from 54454 on each column says
whether its serialization is a custom one; so the end of each column has to be found. Layouts: SerializationArray,
SerializationLowCardinality and others, in ClickHouse's src/DataTypes/Serializations.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

BLOCK_INFO: Final = 51_903
CUSTOM_SERIALIZATION: Final = 54_454
_INFO: Final = b"\x01\x00\x02\xff\xff\xff\xff\x00"  # no overflow rows, bucket -1
_SIZES: Final = {
    "Int8": 1, "UInt8": 1, "Bool": 1, "Enum8": 1, "Nothing": 1,
    "Int16": 2, "UInt16": 2, "Date": 2, "Enum16": 2, "BFloat16": 2,
    "Int32": 4, "UInt32": 4, "Float32": 4, "Date32": 4, "DateTime": 4, "Time": 4, "IPv4": 4, "Decimal32": 4,
    "Int64": 8, "UInt64": 8, "Float64": 8, "DateTime64": 8, "Time64": 8, "Decimal64": 8,
    "Int128": 16, "UInt128": 16, "UUID": 16, "IPv6": 16, "Decimal128": 16,
    "Int256": 32, "UInt256": 32, "Decimal256": 32,
}  # fmt: skip
_KEYS: Final = (1, 2, 4, 8)


class UnknownLayout(ValueError):
    """A type whose bytes are not known here."""


def as_revision(data: bytes, revision: int) -> bytes:
    """Blocks of revision 0 as blocks of `revision`. Raises `UnknownLayout`."""
    if revision < BLOCK_INFO:
        return data
    try:
        return _rewritten(data, revision)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise UnknownLayout("unknown") from error


def _rewritten(data: bytes, revision: int) -> bytes:
    custom = b"\x00" if revision >= CUSTOM_SERIALIZATION else b""
    reader, parts = _Reader(data), list[bytes]()
    while reader.place < len(data):
        start = reader.place
        columns, rows = reader.varint(), reader.varint()
        parts += [_INFO, data[start : reader.place]]
        for _ in range(columns):
            start = reader.place
            reader.string()
            kind = reader.string()
            parts += [data[start : reader.place], custom]
            start = reader.place
            if rows:
                reader.prefix(kind)
                reader.values(kind, rows)
            parts.append(data[start : reader.place])
    return b"".join(parts)


class _Reader:
    """Walks over columns without making values of them."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.place = 0

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.data[self.place]
            self.place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7

    def uint64(self) -> int:
        self.place += 8
        return int(struct.unpack_from("<Q", self.data, self.place - 8)[0])

    def string(self) -> str:
        length = self.varint()
        self.place += length
        return self.data[self.place - length : self.place].decode()

    def prefix(self, kind: str) -> None:
        """What stands before all values of a column: the version of LowCardinality, however deep."""
        name, inner = _parse(kind)
        if name == "LowCardinality":
            self.place += 8
        elif name in ("Array", "Nullable", "Tuple", "Map", "Nested"):
            for one in inner:
                self.prefix(one)

    def values(self, kind: str, rows: int) -> None:
        name, inner = _parse(kind)
        if name in _SIZES:
            self.place += rows * _SIZES[name]
        elif name.startswith("Interval"):
            self.place += rows * 8
        elif name == "FixedString":
            self.place += rows * int(inner[0])
        elif name == "Decimal":
            self.place += rows * _decimal(int(inner[0]))
        elif name == "String":
            self._strings(rows)
        else:
            self._nested(name, inner, rows)

    def _nested(self, name: str, inner: list[str], rows: int) -> None:
        if name == "Nullable":
            self.place += rows
            self.values(inner[0], rows)
        elif name in ("Array", "Map"):
            self._array(inner, rows)
        elif name in ("Tuple", "Nested"):
            for one in inner:
                self.values(one, rows)
        elif name == "SimpleAggregateFunction":
            self.values(inner[1], rows)
        elif name == "LowCardinality":
            self._dictionary(inner[0], rows)
        else:
            raise UnknownLayout(name)

    def _strings(self, rows: int) -> None:
        data, place = self.data, self.place
        for _ in range(rows):
            length = data[place]
            place += 1
            if length > 127:
                self.place = place - 1
                length = self.varint()
                place = self.place
            place += length
        self.place = place

    def _array(self, inner: list[str], rows: int) -> None:
        if not rows:
            return
        self.place += (rows - 1) * 8
        total = self.uint64()
        for one in inner:
            self.values(one, total)

    def _dictionary(self, inner: str, rows: int) -> None:
        if not rows:
            return
        width = _KEYS[self.uint64() & 3]
        name, arguments = _parse(inner)
        self.values(arguments[0] if name == "Nullable" else inner, self.uint64())
        keys = self.uint64()
        self.place += keys * width


def _decimal(precision: int) -> int:
    return 4 if precision <= 9 else 8 if precision <= 18 else 16 if precision <= 38 else 32


def _parse(kind: str) -> tuple[str, list[str]]:
    """(name, arguments); names of a tuple's elements are left out."""
    name, bracket, rest = kind.partition("(")
    if not bracket or name.startswith("Enum"):
        return name, []
    inner = list(_split(rest[:-1]))
    if name in ("Tuple", "Nested"):
        inner = [re.sub(r"^(?:\w+|`(?:[^`\\]|\\.)*`) (?=[A-Z])", "", one) for one in inner]
    return name, inner


def _split(arguments: str) -> Iterator[str]:
    """At the commas outside of brackets and quotes."""
    depth, start, quote, place = 0, 0, "", 0
    while place < len(arguments):
        sign = arguments[place]
        if quote:
            place += sign == "\\"
            quote = "" if sign == quote else quote
        elif sign in "'`":
            quote = sign
        elif sign in "()":
            depth += 1 if sign == "(" else -1
        elif sign == "," and depth == 0:
            yield arguments[start:place].strip()
            start = place + 1
        place += 1
    yield arguments[start:].strip()
