"""What the camera wrote into the file: Exif 2.32 by exifread, only asked for when the header shows an Exif segment."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import exifread

from services.ingest.domain.images import EXIF_SEGMENT

_TIME: Final = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d:\d\d:\d\d)")
_TEXT_CHARACTERS: Final = 128
_ISO_LIMIT: Final = 2**32


@dataclass(frozen=True, slots=True)
class Exif:
    """Empty text and None where the file says nothing, or nothing sensible.

    `taken_at` is YYYY-MM-DDTHH:MM:SS without a zone, never used as event time; `latitude` and `longitude` are WGS 84
    degrees.
    """

    brand: str = ""
    model: str = ""
    exposure_seconds: float | None = None
    aperture_f_number: float | None = None
    iso: int | None = None
    taken_at: str = ""
    latitude: float | None = None
    longitude: float | None = None


def read_exif(image: bytes) -> Exif | None:
    """What the file says; None when it says nothing that can be read. A broken Exif does not make a frame bad."""
    try:
        tags = exifread.process_file(io.BytesIO(_readable(image)), details=False)
    except Exception:  # exifread raises whatever hostile bytes lead it to
        return None
    exif = Exif(
        brand=_text(tags, "Image Make"),
        model=_text(tags, "Image Model"),
        exposure_seconds=_positive(tags, "EXIF ExposureTime"),
        aperture_f_number=_positive(tags, "EXIF FNumber"),
        iso=_iso(tags),
        taken_at=_taken_at(tags),
        latitude=_degrees(tags, "GPS GPSLatitude", negative="S", bound=90.0),
        longitude=_degrees(tags, "GPS GPSLongitude", negative="W", bound=180.0),
    )
    return exif if exif != Exif() else None


def _readable(image: bytes) -> bytes:
    """The Exif chunk of a WebP by itself: exifread 3.5 expects a prefix there that RFC 9649 does not know."""
    if image[8:12] != b"WEBP":
        return image
    position = 12
    while position + 8 <= len(image):
        kind, size = image[position : position + 4], int.from_bytes(image[position + 4 : position + 8], "little")
        if kind == b"EXIF":
            return image[position + 8 : position + 8 + size].removeprefix(EXIF_SEGMENT)
        position += 8 + size + size % 2
    return b""


def _values(tags: Mapping[str, Any], name: str) -> Sequence[Any]:
    values = getattr(tags.get(name), "values", None)
    return values if isinstance(values, Sequence) else ()


def _text(tags: Mapping[str, Any], name: str) -> str:
    values = _values(tags, name)
    return values.strip("\x00 \t\r\n")[:_TEXT_CHARACTERS] if isinstance(values, str) else ""


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ArithmeticError):
        return None
    return number if math.isfinite(number) else None


def _positive(tags: Mapping[str, Any], name: str) -> float | None:
    values = _values(tags, name)
    number = _number(values[0]) if values else None
    return number if number is not None and number > 0 else None


def _iso(tags: Mapping[str, Any]) -> int | None:
    number = _positive(tags, "EXIF ISOSpeedRatings")
    return int(number) if number is not None and 1 <= number < _ISO_LIMIT else None


def _taken_at(tags: Mapping[str, Any]) -> str:
    for name in ("EXIF DateTimeOriginal", "Image DateTime"):
        match = _TIME.fullmatch(_text(tags, name))
        if match:
            return "{}-{}-{}T{}".format(*match.groups())
    return ""


def _degrees(tags: Mapping[str, Any], name: str, *, negative: str, bound: float) -> float | None:
    parts = [_number(value) for value in _values(tags, name)]
    if len(parts) != 3 or any(part is None for part in parts):
        return None
    degrees = sum((part or 0.0) / unit for part, unit in zip(parts, (1, 60, 3600), strict=True))
    if not 0 <= degrees <= bound:
        return None
    return -degrees if _text(tags, f"{name}Ref").upper() == negative else degrees
