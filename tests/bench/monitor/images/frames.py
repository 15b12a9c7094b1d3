"""What a camera sends, and what of it reaches the monitor: JPEG through ingest's inspection, serving's decoder, model
and features, and the contract's messages, all of them the services' own. Kept on disk, as nothing of it is random.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np
import simplejpeg
from irisloop.ingest.v1 import ingest_pb2
from numpy.typing import NDArray

from services.ingest.domain.frames import Frame
from services.ingest.domain.inspection import Limits, Picture, inspect
from services.monitor.domain.channels import WIDTH
from services.monitor.wire import features_of
from services.serving.codec import features
from services.serving.domain.features import Answer
from tests.bench.monitor.images.cells import Cell
from tests.bench.monitor.images.model import Model, Part

QUALITY: Final = 95
"""Of the camera's JPEG."""
_NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Shots:
    """Photographs in the order of their part: features [n, WIDTH] (no frame difference yet), thumbnails uint8 [n, 256],
    class that the model says [n] and its score [n].
    """

    features: NDArray[np.float64]
    thumbnails: NDArray[np.uint8]
    said: NDArray[np.int64]
    scores: NDArray[np.float64]


def encoded(images: NDArray[np.uint8]) -> list[bytes]:
    """Grey images as the camera's JPEG files."""
    return [simplejpeg.encode_jpeg(np.ascontiguousarray(one[..., None]), QUALITY, "GRAY") for one in images]


def shots(images: NDArray[np.uint8], model: Model) -> Shots:
    """Photograph, inspect, predict. Raises ValueError when ingest refuses one or the model does not answer."""
    files = encoded(images)
    pictures = inspect([Frame(str(n), "c", file, _NOW, _NOW, "bench", {}) for n, file in enumerate(files)], Limits())
    names = {name: number for number, name in enumerate(model.card.classes)}
    rows, thumbnails, said, scores = np.empty((len(files), WIDTH)), [], [], []
    for number, (picture, answer) in enumerate(zip(pictures, model.answer(files), strict=True)):
        if not isinstance(picture, Picture) or answer.error:
            raise ValueError(f"image {number}: {picture if not isinstance(picture, Picture) else answer.error}")
        rows[number] = _features(picture, answer)
        thumbnails.append(np.frombuffer(picture.thumbnail, np.uint8))
        said.append(names[answer.scores[0][0]])
        scores.append(answer.scores[0][1])
    return Shots(rows, np.stack(thumbnails), np.array(said), np.array(scores))


def _features(picture: Picture, answer: Answer) -> tuple[float, ...]:
    """As they stand in `prediction made`, in the monitor's order."""
    message = features(answer)
    message.pixels.CopyFrom(ingest_pb2.PixelStatistics(**picture.statistics._asdict()))
    return features_of(message)


def kept(cell: Cell, live: Part, model: Model, place: Path, say: Callable[[str], None]) -> Shots:
    """The live part through a cell's change; read from `place` where it has been photographed before."""
    file = place / f"{model.digest}-{cell.name.replace('/', '-').replace(' ', '-')}.npz"
    if not file.exists():
        say(f"photographs {cell.name}")
        found = shots(cell.seen(live.images), model)
        part = file.with_suffix(".part.npz")
        np.savez(part, features=found.features, thumbnails=found.thumbnails, said=found.said, scores=found.scores)
        part.replace(file)
    with np.load(file) as stored:
        return Shots(stored["features"], stored["thumbnails"], stored["said"], stored["scores"])
