"""From a dataset version's manifest to arrays, kept in the run's folder so that a resumed run starts at once."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray
from PIL import Image

from services.common.errors import NotFound
from services.common.objects import ObjectStore
from services.trainer.errors import NothingToLearnFrom

AT_ONCE: Final = 512
SMALLEST: Final = 16


@dataclass(frozen=True, slots=True)
class Rows:
    """One split: uint8 images [n, C, H, W], class indices [n], condition and force of each label, bool [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    new: NDArray[np.bool_]
    in_force: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        """The chosen rows."""
        return Rows(self.images[chosen], self.labels[chosen], self.new[chosen], self.in_force[chosen])


@dataclass(frozen=True, slots=True)
class Splits:
    """What a run learns from and is judged on."""

    train: Rows
    validation: Rows
    test: Rows


async def load(objects: ObjectStore, manifest: str, folder: Path, longest_side: int) -> Splits:
    """Read and decode every row once; the second time the arrays come from `folder`.

    Raises `NothingToLearnFrom` when a split is empty or the training rows are all of one class.
    """
    cache = folder / f"{manifest[:16]}.npz"
    if not cache.exists():
        table = parquet.read_table(io.BytesIO(await objects.get(manifest)))
        arrays = await _decode_all(objects, table.to_pydict(), longest_side)
        part = cache.with_suffix(".part.npz")
        np.savez(part, **arrays)
        part.replace(cache)
    with np.load(cache) as stored:
        splits = _split({name: stored[name] for name in stored.files})
    for name, rows in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        if not len(rows):
            raise NothingToLearnFrom(f"the dataset version has no `{name}` rows: label more images", field="dataset")
    if len(np.unique(splits.train.labels)) < 2:
        raise NothingToLearnFrom("all training rows are of one class: label images of another", field="dataset")
    return splits


async def _decode_all(objects: ObjectStore, columns: dict[str, list[Any]], longest_side: int) -> dict[str, Any]:
    digests = columns["object_digest"]
    contents: list[bytes | None] = []
    for start in range(0, len(digests), AT_ONCE):
        contents += await _contents(objects, digests[start : start + AT_ONCE])
    here = [place for place, content in enumerate(contents) if content is not None]
    with ThreadPoolExecutor() as pool:
        decoded = list(pool.map(_open, [content for content in contents if content is not None]))
    shape = _common_shape(decoded, longest_side)
    pixels = np.stack([_fit(image, *shape) for image in decoded]) if decoded else np.zeros((0, 1, 28, 28), np.uint8)
    chosen = {
        name: [columns[name][place] for place in here] for name in ("class_index", "split", "condition", "in_force")
    }
    return {
        "images": pixels,
        "labels": np.array(chosen["class_index"], np.int64),
        "split": np.array(chosen["split"], "U10"),
        "new": np.array([condition == "new" for condition in chosen["condition"]], np.bool_),
        "in_force": np.array(chosen["in_force"], np.bool_),
    }


async def _contents(objects: ObjectStore, digests: list[str]) -> list[bytes | None]:
    """The bytes of each; None for an asset that was deleted after the version was cut."""
    try:
        return list(await objects.get_many(digests))
    except NotFound:
        return [await _content(objects, digest) for digest in digests]


async def _content(objects: ObjectStore, digest: str) -> bytes | None:
    try:
        return await objects.get(digest)
    except NotFound:
        return None


def _open(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    return image.convert("L" if image.mode in ("1", "L", "LA", "I", "I;16") else "RGB")


def _common_shape(images: list[Image.Image], longest_side: int) -> tuple[str, int, int]:
    """Mode, height and width that all images are brought to: the median size, no side above `longest_side`."""
    if not images:
        return "L", 28, 28
    mode = "L" if all(image.mode == "L" for image in images) else "RGB"
    height = float(np.median([image.height for image in images]))
    width = float(np.median([image.width for image in images]))
    scale = min(1.0, longest_side / max(height, width))
    return mode, max(SMALLEST, round(height * scale)), max(SMALLEST, round(width * scale))


def _fit(image: Image.Image, mode: str, height: int, width: int) -> NDArray[np.uint8]:
    """[C, H, W]."""
    if image.mode != mode:
        image = image.convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, np.uint8)
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _split(arrays: dict[str, Any]) -> Splits:
    def rows(name: str) -> Rows:
        chosen = arrays["split"] == name
        if name != "test":
            chosen &= arrays["in_force"]
        every = Rows(arrays["images"], arrays["labels"], arrays["new"], arrays["in_force"])
        return every.where(chosen)

    return Splits(rows("train"), rows("validation"), rows("test"))
