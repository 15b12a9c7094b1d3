"""Made images that a small network learns in a few steps, and a dataset version of them as labeling would cut it."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

from services.common.objects import ObjectStore

CLASSES = ("left", "right", "middle")
SIDE = 16
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPLITS = {"train": 240, "validation": 45, "test": 90}


@dataclass(frozen=True, slots=True)
class Picture:
    """An image and what is said about it."""

    content: bytes
    label: int
    split: str = "train"
    condition: str = "old"
    in_force: bool = True


def png(label: int, seed: int, *, contrast: float = 1.0, side: int = SIDE, mode: str = "L") -> bytes:
    """A bright bar, left, right or in the middle, in noise; `contrast` fades it."""
    rng = np.random.default_rng([label, seed])
    pixels = rng.normal(60.0, 20.0, (side, side))
    start = (0, 2 * side // 3, side // 3)[label]
    pixels[:, start : start + side // 3] += 120.0 * contrast
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def pictures(splits: Mapping[str, int] = SPLITS, *, new: int = 0, seed: int = 0) -> list[Picture]:
    """So many of each split, classes in turn; the first `new` of each split are faded ones of the new condition."""
    made = []
    for split, count in splits.items():
        for number in range(count):
            label = number % len(CLASSES)
            fresh = number < new
            content = png(label, hash_of(split, number, seed), contrast=0.4 if fresh else 1.0)
            made.append(Picture(content, label, split, "new" if fresh else "old"))
    return made


def hash_of(split: str, number: int, seed: int) -> int:
    """A seed of its own for each image."""
    return list(SPLITS).index(split) * 1_000_000 + number * 10 + seed


async def cut(objects: ObjectStore, made: Sequence[Picture]) -> str:
    """Put images and manifest into the store; the manifest's digest."""
    digests = await objects.put_many([picture.content for picture in made])
    columns: dict[str, list[Any]] = {
        "asset_id": [f"asset-{number}" for number in range(len(made))],
        "camera_id": ["gate-1"] * len(made),
        "captured_at": [START + timedelta(seconds=number) for number in range(len(made))],
        "object_digest": digests,
        "content_type": ["image/png"] * len(made),
        "class_name": [CLASSES[picture.label] for picture in made],
        "class_index": [picture.label for picture in made],
        "split": [picture.split for picture in made],
        "condition": [picture.condition for picture in made],
        "in_force": [picture.in_force for picture in made],
        "annotated_at": [START] * len(made),
        "revision": [1] * len(made),
        "source": ["task"] * len(made),
    }
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return await objects.put(buffer.getvalue())
