"""Judges frames by the rules and reads what they hold: header first, then one decode to the end, then statistics."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Final, TypeAlias

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from services.ingest.domain.exif import Exif, read_exif
from services.ingest.domain.frames import Frame
from services.ingest.domain.images import BrokenHeader, ContentType, Header, read_header
from services.ingest.domain.pixels import Statistics, measure, reduction

SCANS: Final = 100
"""A progressive JPEG of more scans is made to burn time; cameras and editors write about ten."""
_SCAN: Final = b"\xff\xda"
_END_OF_JPEG: Final = b"\xff\xd9"
_VALUES_AT_ONCE: Final = 100_000
"""What is measured together stays in the processor's cache: ten times as quick as a batch of megabytes."""
_HARMLESS: Final = "extraneous bytes before marker"

Pixels: TypeAlias = NDArray[np.uint8]


class Reason(Enum):
    """The closed list of reasons why a frame is refused; names as in `irisloop.ingest.v1.RejectionReason`."""

    NOT_AN_IMAGE = "NOT_AN_IMAGE"
    TRUNCATED = "TRUNCATED"
    TOO_LARGE = "TOO_LARGE"
    TOO_MANY_PIXELS = "TOO_MANY_PIXELS"
    TOO_SMALL = "TOO_SMALL"
    CLOCK = "CLOCK"
    EMPTY = "EMPTY"


@dataclass(frozen=True, slots=True)
class Limits:
    """What a frame may be: `largest` in bytes, `most_pixels` declared, `smallest_side` in pixels, `ahead` of now."""

    largest: int = 8 * 1024 * 1024
    most_pixels: int = 50_000_000
    smallest_side: int = 8
    ahead: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A frame that breaks a rule; `detail` is one sentence with the figures."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Picture:
    """A good frame: sides in pixels as stored, statistics without `frame_difference`, 256 bytes of luma thumbnail."""

    content_type: ContentType
    width: int
    height: int
    exif: Exif | None
    statistics: Statistics
    thumbnail: bytes


Verdict: TypeAlias = Picture | Refusal


def inspect(frames: Sequence[Frame], limits: Limits) -> list[Verdict]:
    """A verdict for each frame, in order. Decodes one after the other, measures frames of one size together."""
    verdicts: list[Verdict | None] = [None] * len(frames)
    groups: dict[tuple[int, ...], list[tuple[int, Header, Pixels]]] = defaultdict(list)
    for index, frame in enumerate(frames):
        seen = _examine(frame, limits)
        if isinstance(seen, Refusal):
            verdicts[index] = seen
            continue
        header, pixels = seen
        group = groups[pixels.shape]
        group.append((index, header, pixels))
        if len(group) * pixels.size > _VALUES_AT_ONCE:
            _measure(frames, group, verdicts)
            group.clear()
    for group in groups.values():
        if group:
            _measure(frames, group, verdicts)
    return [verdict for verdict in verdicts if verdict is not None]


def judge_header(frame: Frame, limits: Limits) -> Header | Refusal:
    """What can be said without decoding a pixel; a decompression bomb ends here."""
    size = len(frame.image)
    if size == 0:
        return Refusal(Reason.EMPTY, "The frame has no bytes.")
    if size > limits.largest:
        return Refusal(Reason.TOO_LARGE, f"The frame has {size} bytes; {limits.largest} are allowed.")
    try:
        header = read_header(frame.image)
    except BrokenHeader as error:
        return Refusal(Reason.TRUNCATED, str(error))
    if header is None:
        return Refusal(Reason.NOT_AN_IMAGE, f"The frame begins with {frame.image[:8]!r}: no JPEG, PNG or WebP.")
    sides = f"{header.width}x{header.height}"
    if header.width * header.height > limits.most_pixels:
        return Refusal(Reason.TOO_MANY_PIXELS, f"The header declares {sides}; {limits.most_pixels} pixels are allowed.")
    if min(header.width, header.height) < limits.smallest_side:
        return Refusal(Reason.TOO_SMALL, f"The image is {sides}; each side must have {limits.smallest_side} pixels.")
    if frame.captured_at - frame.arrived_at > limits.ahead:
        ahead = (frame.captured_at - frame.arrived_at).total_seconds()
        return Refusal(
            Reason.CLOCK, f"captured_at is {ahead:.0f} s ahead; {limits.ahead.total_seconds():.0f} s are allowed."
        )
    return header


def _examine(frame: Frame, limits: Limits) -> tuple[Header, Pixels] | Refusal:
    header = judge_header(frame, limits)
    if isinstance(header, Refusal):
        return header
    try:
        return header, _decode(frame.image, header)
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError) as error:  # what Pillow and libjpeg raise
        return Refusal(Reason.TRUNCATED, f"The image cannot be decoded to its end: {str(error)[:200]}")


def _measure(frames: Sequence[Frame], group: list[tuple[int, Header, Pixels]], verdicts: list[Verdict | None]) -> None:
    statistics, thumbnails = measure(np.stack([pixels for _, _, pixels in group]))
    for (index, header, _), figures, thumbnail in zip(group, statistics, thumbnails, strict=True):
        exif = read_exif(frames[index].image) if header.exif else None
        verdicts[index] = Picture(header.content_type, header.width, header.height, exif, figures, thumbnail.tobytes())


def _decode(image: bytes, header: Header) -> Pixels:
    """Pixels, shape (height, width, 1 or 3), reduced by `reduction`. Raises what the decoders raise."""
    if header.content_type == "image/jpeg" and header.channels in (1, 3):
        return _decode_jpeg(image, header)
    return _decode_other(image, header)


def _decode_jpeg(image: bytes, header: Header) -> Pixels:
    """Every scan is read to its end, also when the DCT is scaled: a missing end is always seen."""
    if header.progressive and image.count(_SCAN) > SCANS:
        raise ValueError(f"it has more than {SCANS} scans.")
    try:
        return _turbo(image, header, strict=True)
    except ValueError as error:
        # Cameras pad between segments; the picture is whole when the end marker is there.
        if _HARMLESS in str(error) and _END_OF_JPEG in image[-64:]:
            return _turbo(image, header, strict=False)
        raise


def _turbo(image: bytes, header: Header, *, strict: bool) -> Pixels:
    factor = reduction(header.width, header.height)
    pixels: Pixels = simplejpeg.decode_jpeg(
        image,
        "GRAY" if header.channels == 1 else "RGB",
        min_height=-(-header.height // factor),
        min_width=-(-header.width // factor),
        min_factor=1,
        strict=strict,
    )
    return pixels


def _decode_other(image: bytes, header: Header) -> Pixels:
    if header.content_type == "image/png" and b"IEND" not in image[-64:]:
        raise ValueError("the PNG has no end chunk.")
    with Image.open(io.BytesIO(image), formats=("PNG", "WEBP", "JPEG")) as picture:
        if picture.size != (header.width, header.height):
            raise ValueError(f"it is {picture.size} pixels, not what its header declares.")
        picture.load()
        grey = picture.mode in ("1", "L", "LA", "I", "I;16", "F")
        reduced = _to_bytes(picture).convert("L" if grey else "RGB").reduce(reduction(header.width, header.height))
    pixels = np.asarray(reduced, dtype=np.uint8)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _to_bytes(picture: Image.Image) -> Image.Image:
    """Sixteen bits a pixel become eight; Pillow's own conversion clips instead of scaling."""
    if picture.mode not in ("I", "I;16"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8))
