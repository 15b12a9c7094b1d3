"""An input that was chosen, as it lies in its spool: raw; and the frame that another process makes of it."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from irisloop.ingest.v1 import ingest_pb2 as pb
from irisloop.topics import FRAME_CAPTURED
from PIL import Image

from services.common.bus import Event, derive_id
from services.serving.codec import timestamp
from services.serving.domain.sampling import camera_of

HEAD: Final = struct.Struct("<I")
"""Length of the JSON that follows; then the image."""
KINDS: Final = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG", "image/png"), (b"RIFF", "image/webp"))
QUICK: Final = 1
"""zlib's level: a photograph hardly shrinks more at a higher one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is known of it beside its bytes."""

    prediction_id: str
    place: int
    """Among the images of the call."""
    model: str
    version: str
    propensity: float
    reasons: tuple[str, ...]
    arrived_at_ns: int
    """Since 1970."""
    traceparent: str
    shape: tuple[int, ...]
    """Of the pixels, uint8; empty for an encoded image."""
    layout: str
    """NCHW or NHWC, of the batch that it was a row of."""


def encoded_sample(sample: Sample, data: bytes) -> bytes:
    """A record."""
    head = json.dumps(asdict(sample)).encode()
    return b"".join([HEAD.pack(len(head)), head, data])


def weight(record: bytes) -> int:
    """Events in a record."""
    return 1


class Samples:
    """Makes frames of records."""

    def events(self, record: bytes) -> list[Event[Any]]:
        """`frame captured`, with an id that is the same whenever the record is read. Raises `ValueError`."""
        (length,) = HEAD.unpack_from(record)
        sample = Sample(**json.loads(record[HEAD.size : HEAD.size + length]))
        data = record[HEAD.size + length :]
        image = png(np.frombuffer(data, np.uint8).reshape(sample.shape), sample.layout) if sample.shape else data
        camera, moment = camera_of(sample.model), datetime.fromtimestamp(sample.arrived_at_ns / 1e9, UTC)
        value = pb.FrameCaptured(
            camera_id=camera,
            captured_at=timestamp(moment),
            image=image,
            content_type=next((kind for start, kind in KINDS if image.startswith(start)), ""),
            sampled=pb.Sampled(
                propensity=sample.propensity,
                prediction_id=sample.prediction_id,
                model=sample.model,
                version=sample.version,
                reasons=sample.reasons,
            ),
        )
        identity = derive_id("sample", sample.prediction_id, str(sample.place))
        return [Event(FRAME_CAPTURED, camera, value, identity, moment, sample.traceparent)]


def png(pixels: np.ndarray[Any, Any], layout: str) -> bytes:
    """[C, H, W] or [H, W, C] uint8, 1 (luma) or 3 (RGB) channels, without loss."""
    rows = pixels.transpose(1, 2, 0) if layout == "NCHW" else pixels
    file = io.BytesIO()
    Image.fromarray(rows[:, :, 0] if rows.shape[2] == 1 else np.ascontiguousarray(rows)).save(
        file, "PNG", compress_level=QUICK
    )
    return file.getvalue()
