"""The state as bytes and back: a versioned codec of our own, exact to the bit, for plain values, arrays and our
classes.

A value becomes JSON in which what JSON lacks stands as an object with one key of `_TAGS`; arrays and bytes lie
behind it.
A field that an older snapshot lacks takes its default, one that is no longer known is dropped.
"""

from __future__ import annotations

import json
import zlib
from array import array
from dataclasses import fields, is_dataclass
from enum import IntEnum
from importlib import import_module
from struct import pack, unpack_from
from typing import Any, Final

import numpy as np

from services.monitor.domain.detectors import registry
from services.monitor.domain.detectors.protocol import Detector
from services.monitor.domain.events import Cause

CODEC: Final = 4
"""All before are still read. 1 knew one open incident a model and no fleet, and inputs that waited were part of
`@merge`; 1 and 2 wrote a detector by its class's name, not by the registry's, and knew the champion's cameras alone, no
boxes, no grounds of verdicts, no probes, no incidents of presence, labels without features, and nothing of what a
retraining regains; all three knew nothing of what was seen before.
"""
_NAMES: Final = {kind: name for name, kind in registry.installed().items()}
_DETECTORS: Final = {**{kind.__name__: kind for kind in _NAMES}, **registry.installed()}
_MODULES: Final = (
    "camera", "case", "condition", "events", "former", "ground", "inputs", "labels", "lineup", "merge", "model",
    "pooling", "probe", "probe_events", "profile", "recency", "reference", "retraining", "risk", "trace",
    "challenge.betting", "challenge.pairs", "challenge.trial", "fleet.absence", "fleet.board",
)  # fmt: skip
"""Whose classes may be part of a snapshot."""
_CLASSES: Final = {
    name: kind
    for module in _MODULES
    for name, kind in vars(import_module(f"services.monitor.domain.{module}")).items()
    if isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, IntEnum))
}


def dump(value: Any) -> bytes:
    """A value as bytes."""
    blobs: list[bytes] = []
    text = json.dumps(_plain(value, blobs), separators=(",", ":")).encode()
    parts = [pack("<II", len(text), len(blobs)), *(pack("<I", len(b)) for b in blobs), text, *blobs]
    return zlib.compress(b"".join(parts), 1)


def load(data: bytes) -> Any:
    """The inverse of `dump`. Raises ValueError for a class that is not known."""
    raw = zlib.decompress(data)
    length, count = unpack_from("<II", raw)
    sizes = unpack_from(f"<{count}I", raw, 8)
    at = 8 + 4 * count
    text, at = raw[at : at + length], at + length
    blobs = []
    for size in sizes:
        blobs.append(raw[at : at + size])
        at += size
    return _value(json.loads(text), blobs)


def _plain(value: Any, blobs: list[bytes]) -> Any:
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, list):
        return [_plain(v, blobs) for v in value]
    if isinstance(value, tuple):
        if len(value) > 8 and all(type(v) is float for v in value):
            blobs.append(array("d", value).tobytes())
            return {"f": len(blobs) - 1}
        return {"t": [_plain(v, blobs) for v in value]}
    if isinstance(value, dict):
        return {"d": [[_plain(k, blobs), _plain(v, blobs)] for k, v in value.items()]}
    if isinstance(value, set):
        return {"s": [_plain(v, blobs) for v in sorted(value)]}
    return _object(value, blobs)


def _object(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, np.ndarray):
        blobs.append(np.ascontiguousarray(value).tobytes())
        return {"a": [len(blobs) - 1, value.dtype.str, list(value.shape)]}
    if isinstance(value, bytes):
        blobs.append(value)
        return {"b": len(blobs) - 1}
    if isinstance(value, np.generic):
        return _plain(value.item(), blobs)
    name = type(value).__name__
    if isinstance(value, IntEnum):
        return {"e": [name, int(value)]}
    if type(value) in _NAMES:
        return {"o": [_NAMES[type(value)], _plain(value.dump(), blobs)]}
    if name in _CLASSES:
        return {"c": [name, {f.name: _plain(getattr(value, f.name), blobs) for f in fields(value)}]}
    raise ValueError(f"{name} cannot be part of a snapshot")


def _value(plain: Any, blobs: list[bytes]) -> Any:
    if isinstance(plain, list):
        return [_value(v, blobs) for v in plain]
    if not isinstance(plain, dict):
        return plain
    ((tag, body),) = plain.items()
    if tag == "t":
        return tuple(_value(v, blobs) for v in body)
    if tag == "d":
        return {_value(k, blobs): _value(v, blobs) for k, v in body}
    if tag == "s":
        return {_value(v, blobs) for v in body}
    if tag == "f":
        return tuple(array("d", blobs[body]))
    if tag == "a":
        return np.frombuffer(bytearray(blobs[body[0]]), dtype=body[1]).reshape(body[2])
    return blobs[body] if tag == "b" else _instance(tag, body, blobs)


def _instance(tag: str, body: Any, blobs: list[bytes]) -> Any:
    name, content = body
    if tag == "o":
        return _detector(name).load(_value(content, blobs))
    kind: Any = _CLASSES.get(name)
    if kind is None:
        raise ValueError(f"a snapshot holds {name}, which is not known")
    if tag == "e":
        return kind(content)
    if name == "ModelWatch" and "case" in content:
        content["cases"] = [content["case"]] if content["case"] is not None else []
    if name == "ModelWatch" and "references" not in content:
        content["references"] = {"c": ["References", {k: content[k] for k in ("cameras", "classes")}]}
    if name == "Case" and "alarmed" not in content:
        content["alarmed"] = content["cameras"] if content["cause"]["e"][1] != Cause.LABELS else []
    known = {f.name for f in fields(kind)}
    return kind(**{key: _value(v, blobs) for key, v in content.items() if key in known})


def _detector(name: str) -> type[Detector]:
    if name not in _DETECTORS:
        raise ValueError(
            f"a snapshot holds the detector {name!r}, which is not installed: install its package again, and remove it"
            " when the policy has named another for a while"
        )
    return _DETECTORS[name]
