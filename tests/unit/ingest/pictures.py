"""Pictures and frames for ingest's tests, made when asked for."""

from __future__ import annotations

import io
import struct
import uuid
import zlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from services.ingest.domain.frames import Frame

NOW = datetime(2030, 1, 31, 12, 0, tzinfo=UTC)
Pixels = NDArray[np.uint8]


def pixels(width: int = 32, height: int = 24, *, seed: int = 0, channels: int = 3) -> Pixels:
    """Smooth noise, shape (height, width, channels): what a camera might see."""
    noise = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = noise.uniform(0, 6, channels)
    waves = np.stack([120 + 90 * np.sin(x / 5 + phase) * np.cos(y / 7 + phase) for phase in phases], axis=-1)
    return np.clip(waves + noise.normal(0, 4, waves.shape), 0, 255).astype(np.uint8)


def jpeg(width: int = 32, height: int = 24, *, seed: int = 0, grey: bool = False) -> bytes:
    """A JPEG."""
    shown = pixels(width, height, seed=seed, channels=1 if grey else 3)
    encoded: bytes = simplejpeg.encode_jpeg(
        shown, 90, colorspace="GRAY" if grey else "RGB", colorsubsampling="Gray" if grey else "444"
    )
    return encoded


def encoded(form: str, width: int = 32, height: int = 24, *, seed: int = 0, **options: Any) -> bytes:
    """A picture in another format, by Pillow."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(width, height, seed=seed)).save(buffer, form, **options)
    return buffer.getvalue()


def png_that_declares(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header promises a huge picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def jpeg_that_declares(width: int, height: int) -> bytes:
    """A JPEG whose frame header was rewritten to promise another size."""
    data = bytearray(jpeg())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def frame(
    image: bytes | None = None,
    *,
    id: str = "",
    camera_id: str = "gate-1",
    captured_at: datetime = NOW,
    arrived_at: datetime = NOW,
) -> Frame:
    """A frame; a new one each time unless `id` is given."""
    return Frame(
        id=id or str(uuid.uuid4()),
        camera_id=camera_id,
        image=jpeg() if image is None else image,
        captured_at=captured_at,
        arrived_at=arrived_at,
        origin="irisloop.ingest.frame.captured.v1/0/0",
        meta={},
    )
