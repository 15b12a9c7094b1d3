"""A frame as it arrives, and the contract that every road in holds it to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from services.common.errors import InvalidMessage

CAMERA_ID: Final = re.compile(r"[A-Za-z0-9._-][A-Za-z0-9._/-]{0,126}[A-Za-z0-9._-]|[A-Za-z0-9._-]")
CONTENT_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/webp"})
META_KEYS: Final = 32
META_KEY_CHARACTERS: Final = 64
META_VALUE_CHARACTERS: Final = 1024
CE_ID_CHARACTERS: Final = 256
TAG_VALUE_CHARACTERS: Final = 256
SAMPLED_CHARACTERS: Final = 256
SAMPLED_REASONS: Final = 8


@dataclass(frozen=True, slots=True)
class Sampled:
    """How an input of a client's call came to be kept as a frame: chosen with the probability `propensity`, in (0, 1],
    for `reasons`, when the prediction of that id was made.
    """

    propensity: float
    prediction_id: str
    model: str
    version: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame that keeps its contract; whether it is a good picture is not known yet.

    `id` is derived from the frame's ce_id: a redelivered frame bears it again, and its asset or rejection is named by
    it. `captured_at` is event time: the producer's, else the time of arrival. Both times are aware, UTC. `origin` is
    topic/partition/offset, or `http`.
    """

    id: str
    camera_id: str
    image: bytes
    captured_at: datetime
    arrived_at: datetime
    origin: str
    meta: Mapping[str, str]
    traceparent: str = ""
    sampled: Sampled | None = None


def check_camera_id(camera_id: str) -> str:
    """The id itself. Raises `InvalidMessage` unless it is 1-128 of A-Z a-z 0-9 . _ - and /, no slash at its ends."""
    if not camera_id:
        raise InvalidMessage("A frame names no camera.", field="camera_id", reason="CAMERA_ID_MISSING")
    if CAMERA_ID.fullmatch(camera_id) is None:
        raise InvalidMessage(
            f"Camera id {camera_id[:140]!r} is not 1-128 of A-Z a-z 0-9 . _ - and /, or has a slash at an end.",
            field="camera_id",
            reason="CAMERA_ID_ODD",
        )
    return camera_id


def check_content_type(content_type: str) -> str:
    """The type in lower case, without parameters. Raises `InvalidMessage` unless it is one of `CONTENT_TYPES`."""
    bare = content_type.partition(";")[0].strip().lower()
    if bare not in CONTENT_TYPES:
        raise InvalidMessage(
            f"Content type {content_type[:80]!r} is not one of {', '.join(sorted(CONTENT_TYPES))}.",
            field="content_type",
            reason="CONTENT_TYPE_UNKNOWN",
        )
    return bare


def check_ce_id(ce_id: str) -> str:
    """The id itself. Raises `InvalidMessage` unless it has 1-256 characters."""
    if not 1 <= len(ce_id) <= CE_ID_CHARACTERS:
        raise InvalidMessage(f"ce_id has {len(ce_id)} characters, not 1-{CE_ID_CHARACTERS}.", field="ce_id")
    return ce_id


def check_meta(meta: Mapping[str, str]) -> Mapping[str, str]:
    """The meta itself. Raises `InvalidMessage` when it has too many keys, or a key or value that is too long."""
    if len(meta) > META_KEYS:
        raise InvalidMessage(
            f"meta has {len(meta)} keys; {META_KEYS} are allowed.", field="meta", reason="META_TOO_BIG"
        )
    _check_pairs(meta, "meta", META_VALUE_CHARACTERS)
    return meta


def check_tags(tags: Mapping[str, str]) -> Mapping[str, str]:
    """The tags of a camera. Raises `InvalidMessage` when there are too many, or a key or value is too long."""
    if len(tags) > META_KEYS:
        raise InvalidMessage(
            f"There are {len(tags)} tags; {META_KEYS} are allowed.", field="tags", reason="TAGS_TOO_BIG"
        )
    _check_pairs(tags, "tags", TAG_VALUE_CHARACTERS)
    return tags


def check_sampled(sampled: Sampled) -> Sampled:
    """What it says itself. Raises `InvalidMessage` for a propensity that is no probability above 0, or long texts."""
    if not 0 < sampled.propensity <= 1:  # neither is NaN
        raise InvalidMessage(
            f"sampled.propensity is {sampled.propensity}, not above 0 and up to 1.",
            field="sampled.propensity",
            reason="PROPENSITY_ODD",
        )
    texts = (sampled.prediction_id, sampled.model, sampled.version, *sampled.reasons)
    if len(sampled.reasons) > SAMPLED_REASONS or any(len(text) > SAMPLED_CHARACTERS for text in texts):
        raise InvalidMessage(
            f"sampled has more than {SAMPLED_REASONS} reasons, or a text of more than {SAMPLED_CHARACTERS} characters.",
            field="sampled",
            reason="SAMPLED_TOO_BIG",
        )
    return sampled


def _check_pairs(pairs: Mapping[str, str], field: str, value_characters: int) -> None:
    for key, value in pairs.items():
        if not 1 <= len(key) <= META_KEY_CHARACTERS:
            raise InvalidMessage(
                f"A key of {field} has {len(key)} characters, not 1-{META_KEY_CHARACTERS}.",
                field=field,
                reason=f"{field.upper()}_TOO_BIG",
            )
        if len(value) > value_characters:
            raise InvalidMessage(
                f"{field} {key!r} has {len(value)} characters; {value_characters} are allowed.",
                field=field,
                reason=f"{field.upper()}_TOO_BIG",
            )
