"""Looks at an encoded image's first bytes: what it is and how large it says it is, before anything is decoded."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

ContentType: TypeAlias = Literal["image/jpeg", "image/png", "image/webp"]

EXIF_SEGMENT: Final = b"Exif\x00\x00"
_START_OF_FRAME: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_END_OR_SCAN: Final = frozenset({0xD9, 0xDA})


class BrokenHeader(Exception):
    """The magic number fits, but the header ends early or contradicts itself."""


@dataclass(frozen=True, slots=True)
class Header:
    """What an image declares: sides in pixels, channels when known (0 = unknown), and where it may carry Exif."""

    content_type: ContentType
    width: int
    height: int
    channels: int
    progressive: bool
    exif: bool


def sniff(data: bytes) -> ContentType | None:
    """The format that the magic number says, or None."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def read_header(data: bytes) -> Header | None:
    """The header; None when the bytes are no JPEG, PNG or WebP. Raises `BrokenHeader`.

    Formats: ITU-T T.81 annex B, W3C PNG (third edition) section 11.2, RFC 9649.
    """
    content_type = sniff(data)
    try:
        match content_type:
            case "image/jpeg":
                return _read_jpeg(data)
            case "image/png":
                return _read_png(data)
            case "image/webp":
                return _read_webp(data)
            case None:
                return None
    except (IndexError, struct.error) as error:
        raise BrokenHeader("The header ends early.") from error


def _read_jpeg(data: bytes) -> Header:
    position, exif = 2, False
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:
            position += 1
        if data[position] != 0xFF:
            raise BrokenHeader(f"Byte {position} is no JPEG marker.")
        marker = data[position + 1]
        if marker in _ALONE:
            position += 2
            continue
        if marker in _END_OR_SCAN:
            raise BrokenHeader("The JPEG has no frame header before its first scan.")
        (length,) = struct.unpack_from(">H", data, position + 2)
        if length < 2:
            raise BrokenHeader(f"The JPEG segment at byte {position} has no length.")
        if marker in _START_OF_FRAME:
            height, width, channels = struct.unpack_from(">HHB", data, position + 5)
            return Header("image/jpeg", width, height, channels, marker in _PROGRESSIVE, exif)
        exif = exif or (marker == 0xE1 and data.startswith(EXIF_SEGMENT, position + 4))
        position += 2 + length


def _read_png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise BrokenHeader("The PNG does not begin with its header chunk.")
    width, height, _, colour = struct.unpack_from(">IIBB", data, 16)
    return Header("image/png", width, height, 1 if colour in (0, 4) else 3, False, b"eXIf" in data)


def _read_webp(data: bytes) -> Header:
    (size,) = struct.unpack_from("<I", data, 4)
    if size + 8 > len(data):
        raise BrokenHeader(f"The WebP says {size + 8} bytes and has {len(data)}.")
    kind = data[12:16]
    if kind == b"VP8X":
        flags = data[20]
        width = 1 + int.from_bytes(data[24:27], "little")
        height = 1 + int.from_bytes(data[27:30], "little")
        if len(data) < 30:
            raise BrokenHeader("The header ends early.")
        return Header("image/webp", width, height, 3, False, bool(flags & 0x08))
    if kind == b"VP8L":
        (packed,) = struct.unpack_from("<I", data, 21)
        return Header("image/webp", (packed & 0x3FFF) + 1, (packed >> 14 & 0x3FFF) + 1, 3, False, False)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return Header("image/webp", width & 0x3FFF, height & 0x3FFF, 3, False, False)
    raise BrokenHeader(f"The WebP begins with an unknown chunk {kind!r}.")
