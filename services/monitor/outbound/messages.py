"""Predictions as they travelled, taken apart by ClickHouse: its Protobuf format reads the records' own bytes.

A record's value is a `PredictionMade`; behind it two more fields are written, which say where the record stood. Fields
of protobuf may stand in any order, so the whole is one message of `Row` below, whose names are ours and whose numbers
are the contract's. What may be absent and then is not 0 is read as a list of at most one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from struct import Struct
from typing import Any, Final

from services.monitor.domain.channels import FEATURES
from services.monitor.domain.rows import Messages
from services.monitor.domain.tables import PREDICTIONS

SCHEMA: Final = """syntax = "proto3";
message Time { int64 seconds = 1; int32 nanos = 2; }
message Score { string class_name = 1; float score = 2; }
message Pixels {
  float brightness = 1; float contrast = 2; float sharpness = 3; float red = 4; float green = 5; float blue = 6;
  float underexposed = 7; float overexposed = 8; optional float frame_difference = 9;
}
message Features {
  repeated Pixels pixels = 1; optional float max_probability = 2; optional float margin = 3;
  optional float entropy = 4; optional float energy = 5; repeated float projections = 6;
  optional float embedding_norm = 7;
}
message Prediction {
  string id = 1; string asset_id = 2; string camera_id = 3; string model = 4; string version = 5; string role = 6;
  Time captured_at = 7; Time predicted_at = 8; float latency_ms = 9; repeated Score scores = 10;
  Features features = 11; string replica = 12; string error = 13; bool historical = 14;
}
message Row { Prediction prediction = 1; fixed64 offset = 2; fixed32 partition = 3; }
"""
_PIXELS: Final = tuple(name.removeprefix("pixels.") for name in FEATURES if name.startswith("pixels."))
_OPTIONAL: Final = ("max_probability", "margin", "entropy", "energy", "embedding_norm")
_PROJECTIONS: Final = sum(name.startswith("projections.") for name in FEATURES)
_TEXT: Final = ("id", "asset_id", "error")
_WORDS: Final = ("camera_id", "model", "version", "role", "replica")
_PLACE: Final = Struct("<BQBI")
_OFFSET_TAG: Final = 2 << 3 | 1
_PARTITION_TAG: Final = 3 << 3 | 5


class MessageInserter:
    """Records of `irisloop.serving.prediction.made.v1` into `predictions`, by the engine in process."""

    def __init__(self, client: Any, folder: Path) -> None:
        """`folder` is ours: the schema stands there, and the records of the insert under way."""
        folder.mkdir(parents=True, exist_ok=True)
        self._client, self._file = client, folder / "records.pb"
        schema = folder / "prediction.proto"
        schema.write_text(SCHEMA, encoding="utf-8")
        self._settings = {"format_schema": f"{schema.absolute()}:Row", "max_threads": "1", "max_insert_threads": "1"}
        # With more threads an insert could become more than one block.

    def insert(self, parts: Sequence[Messages], settings: Mapping[str, str]) -> None:
        """In one insert."""
        self._file.write_bytes(b"".join(framed(parts)))
        given = ", ".join(f"{name} = {_quoted(value)}" for name, value in {**self._settings, **settings}.items())
        self._client.command(
            f"INSERT INTO {PREDICTIONS.name} (topic, partition, offset, {', '.join(PREDICTIONS.names)}) "
            f"SELECT {_quoted(parts[0].topic)}, partition, offset, {_VALUES} "
            f"FROM file({_quoted(str(self._file.absolute()))}, 'Protobuf', {_quoted(_STRUCTURE)}) SETTINGS {given}"
        )
        self._file.unlink()


def framed(parts: Sequence[Messages]) -> Iterator[bytes]:
    """Each message with its place behind it and its length before it, in pieces."""
    pack = _PLACE.pack
    for part in parts:
        partition = part.partition
        for value, offset in zip(part.values, part.offsets, strict=True):
            yield _varint(len(value) + _PLACE.size)
            yield value
            yield pack(_OFFSET_TAG, offset, _PARTITION_TAG, partition)


def _varint(number: int) -> bytes:
    """Base 128, the least significant digit first."""
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7)) if number > 0x7F else bytes((number,))
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


def _structure() -> str:
    """What the format is to give, as types of ClickHouse."""
    pixels = ", ".join(f"{name} {_number(name == 'frame_difference')}" for name in _PIXELS)
    features = ", ".join(f"{name} {_number(True)}" for name in _OPTIONAL)
    moment = "Tuple(seconds Int64, nanos Int32)"
    fields = (
        *(f"{name} String" for name in _TEXT),
        *(f"{name} LowCardinality(String)" for name in _WORDS),
        f"captured_at {moment}",
        f"predicted_at {moment}",
        "latency_ms Float32",
        "historical UInt8",
        "scores Nested(class_name String, score Float32)",
        f"features Tuple(pixels Nested({pixels}), {features}, projections Array(Float32))",
    )
    return f"offset UInt64, partition UInt32, prediction Tuple({', '.join(fields)})"


def _number(nullable: bool) -> str:
    return "Nullable(Float32)" if nullable else "Float32"


def _values() -> str:
    """The columns of `predictions` in SQL over that."""
    at = "fromUnixTimestamp64Micro(prediction.{0}.seconds * 1000000 + intDiv(prediction.{0}.nanos, 1000), 'UTC')"
    special = {
        "captured_at": at.format("captured_at"),
        "predicted_at": at.format("predicted_at"),
        "class_name": "prediction.scores.class_name[1]",
        "score": "prediction.scores.score[1]",
        **{name.replace(".", "_"): _feature(name) for name in FEATURES},
    }
    return ", ".join(special.get(name, f"prediction.{name}") for name in PREDICTIONS.names)


def _feature(name: str) -> str:
    group, _, rest = name.partition(".")
    if group == "pixels":
        value = f"prediction.features.pixels.{rest}"
        return f"if(empty({value}), nan, ifNull({value}[1], nan))"
    if group == "projections":
        value = "prediction.features.projections"
        return f"if(length({value}) = {_PROJECTIONS}, {value}[{int(rest) + 1}], nan)"
    return f"ifNull(prediction.features.{name}, nan)"


_STRUCTURE: Final = _structure()
_VALUES: Final = _values()


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
