"""Clients' calls as they lie in the spool: raw, so that the process that answers calls has next to nothing to do; and
the events that another process makes of them.
"""

from __future__ import annotations

import hashlib
import json
import struct
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Event, derive_id
from services.serving.codec import message, place_detections
from services.serving.domain.answers import answers
from services.serving.domain.detector import DetectorOutputs
from services.serving.domain.features import Answer
from services.serving.domain.notes import Note
from services.serving.domain.package import ImageInput, ModelCard
from services.serving.domain.work import Arrays
from services.serving.errors import BadPackage

HEAD: Final = struct.Struct("<II")
"""Events in the record, length of the JSON that follows."""
CARDS: Final = "cards"
MOST_CARDS: Final = 64
"""Whose names are remembered."""


@dataclass(frozen=True, slots=True)
class Group:
    """Notes of one version and one shape, which become one record."""

    identity: str
    """From which the ids of their predictions follow."""
    notes: Sequence[Note]


def grouped(notes: Sequence[Note]) -> list[Group]:
    """In their order."""
    return [Group(str(uuid.uuid4()), list(same)) for _, same in groupby(notes, key=_kind)]


def prediction_id(identity: str, place: int) -> str:
    """Of the prediction at that place among all rows of a group."""
    return derive_id("direct", identity, str(place))


class Writing:
    """Makes records of notes, and keeps the cards that they need beside the spool."""

    def __init__(self, folder: Path, replica: str) -> None:
        self._folder = folder / CARDS
        self._folder.mkdir(parents=True, exist_ok=True)
        self._replica = replica
        self._names: dict[int, tuple[ModelCard, str]] = {}

    def record(self, group: Group) -> bytes:
        """All notes of a group."""
        notes = group.notes
        version = notes[0].version
        arrays = {
            name: np.concatenate([note.outputs[name] for note in notes]) if len(notes) > 1 else array
            for name, array in notes[0].outputs.items()
        }
        rows = [note.rows for note in notes]
        about = {
            "id": group.identity,
            "model": version.model,
            "version": version.name,
            "card": self._name_of(version.card) if arrays else "",
            "replica": self._replica,
            "arrays": [(name, array.dtype.str, array.shape) for name, array in arrays.items()],
            "rows": rows,
            "arrived": [note.arrived_at_ns for note in notes],
            "latency": [note.latency_ns for note in notes],
            "trace": [note.traceparent for note in notes],
            "role": [note.role for note in notes],
            "pair": [note.pair_id for note in notes],
            "rollout": [note.rollout_id for note in notes],
            "error": notes[0].error,
        }
        head = orjson.dumps(about)
        body = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
        return b"".join([HEAD.pack(sum(rows), len(head)), head, *body])

    def _name_of(self, card: ModelCard | None) -> str:
        if card is None:
            return ""
        known = self._names.get(id(card))
        if known is None or known[0] is not card:
            data = json.dumps(asdict(card)).encode()
            name = hashlib.sha256(data).hexdigest()
            part = self._folder / f"{name}.part"
            part.write_bytes(data)
            part.replace(self._folder / f"{name}.json")
            if len(self._names) >= MOST_CARDS:
                self._names.clear()
            known = self._names[id(card)] = (card, name)
        return known[1]


def _kind(note: Note) -> tuple[object, ...]:
    shapes = [(name, array.dtype, array.shape[1:]) for name, array in note.outputs.items()]
    return id(note.version), note.error, *shapes


def weight(record: bytes) -> int:
    """Events in a record."""
    return int(HEAD.unpack_from(record)[0])


class Reading:
    """Makes events of records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / CARDS
        self._cards: dict[str, ModelCard] = {}

    def events(self, record: bytes) -> list[Event[Any]]:
        """One for each row of each call, with ids that are the same whenever the record is read."""
        _, length = HEAD.unpack_from(record)
        about = json.loads(record[HEAD.size : HEAD.size + length])
        arrays = _arrays(about["arrays"], record, HEAD.size + length)
        return list(self._events(about, iter(self._answers(about, arrays))))

    def _answers(self, about: Mapping[str, Any], arrays: Arrays) -> Sequence[Answer]:
        if about["error"] or not about["card"]:
            return [Answer(error=about["error"])] * sum(about["rows"])
        try:
            return answers(self._card(about["card"]), arrays)
        except BadPackage as error:  # A detector that gives another shape than it gave when it was loaded.
            return [Answer(error=str(error))] * sum(about["rows"])

    def _card(self, name: str) -> ModelCard:
        if name not in self._cards:
            document = json.loads((self._folder / f"{name}.json").read_bytes())
            self._cards[name] = _card_of(document)
        return self._cards[name]

    def _events(self, about: Mapping[str, Any], found: Iterator[Answer]) -> Iterator[Event[Any]]:
        model, version, replica = about["model"], about["version"], about["replica"]
        key, place = f"model/{model}", 0
        columns = ("rows", "arrived", "latency", "trace", "role", "pair", "rollout")
        for rows, arrived, latency, trace, role, pair, rollout in zip(*(about[name] for name in columns), strict=True):
            for row in range(rows):
                identity = prediction_id(about["id"], place)
                place += 1
                answer = next(found)
                made = message(identity, model, version, role, answer, latency / 1e6, replica)
                if answer.found is not None:
                    image = self._card(about["card"]).image
                    place_detections(made, answer.found, image.width, image.height)
                made.captured_at.CopyFrom(_stamp(arrived))
                made.predicted_at.CopyFrom(_stamp(arrived + latency))
                made.pair_id = f"{pair}/{row}" if pair and rows > 1 else pair
                made.rollout_id = rollout
                moment = datetime.fromtimestamp(arrived / 1e9, UTC)
                yield Event(PREDICTION_MADE, key, pb.PredictionMade(prediction=made), identity, moment, trace)


def _card_of(document: dict[str, Any]) -> ModelCard:
    """The inverse of `asdict`; a card that an earlier release wrote knows no detectors."""
    document["classes"], document["image"] = tuple(document["classes"]), ImageInput(**document["image"])
    if (about := document.get("detection")) is not None:
        document["detection"] = DetectorOutputs(**{**about, "columns": tuple(about["columns"])})
    return ModelCard(**document)


def _arrays(listed: Sequence[Any], record: bytes, at: int) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {}
    for name, dtype, shape in listed:
        count = int(np.prod(shape, dtype=np.int64))
        found[name] = np.frombuffer(record, dtype=dtype, count=count, offset=at).reshape(shape)
        at += found[name].nbytes
    return found


def _stamp(ns: int) -> Timestamp:
    seconds, nanos = divmod(ns, 1_000_000_000)
    return Timestamp(seconds=seconds, nanos=nanos)
