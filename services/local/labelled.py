"""Reads labelled images from a folder: labels from the folders' names, from a CSV, or from COCO."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from services.common.errors import why_unreadable
from services.local.errors import LocalError

CONTENT_TYPES: Final = {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".png": "image/png", ".webp": "image/webp"}
HEADINGS: Final = frozenset({"path", "file", "filename", "file_name", "image", "label", "class", "class_name"})


@dataclass(frozen=True, slots=True)
class BoxLabel:
    """An object in an image: corner, width and height in pixels of the image, origin top left."""

    class_name: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class LabelledImage:
    """An encoded image and what is on it; without class and boxes it is stored unlabelled."""

    path: str
    """Names it within its import; the same name with the same bytes is the same frame."""
    content: bytes
    class_name: str
    content_type: str
    boxes: tuple[BoxLabel, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledFolder:
    """Files and labels, before any image is read."""

    root: Path
    files: Sequence[str]
    classes: Mapping[str, str]
    boxes: Mapping[str, tuple[BoxLabel, ...]]
    class_names: Sequence[str]

    def images(self) -> Iterator[LabelledImage]:
        """Read one after the other, so that memory stays flat."""
        for name in self.files:
            path = self.root / name
            kind = CONTENT_TYPES.get(path.suffix.lower(), "application/octet-stream")
            yield LabelledImage(name, path.read_bytes(), self.classes.get(name, ""), kind, self.boxes.get(name, ()))


def read_folder(root: Path, labels: Path | None = None, limit: int = 0) -> LabelledFolder:
    """Find images and labels; `limit` 0 takes all. Raises `LocalError` saying what is wrong with them."""
    if not root.is_dir():
        raise LocalError(f"{root} is no folder.")
    if labels is None:
        files = _image_files(root)
        classes = {name: Path(name).parts[0] for name in files if len(Path(name).parts) > 1}
        return _folder(root, files, classes, {}, sorted(set(classes.values())), limit)
    if labels.suffix.lower() == ".json":
        return _read_coco(root, labels, limit)
    classes = _read_csv(root, labels)
    return _folder(root, list(classes), classes, {}, sorted(set(classes.values())), limit)


def _folder(
    root: Path,
    files: Sequence[str],
    classes: Mapping[str, str],
    boxes: Mapping[str, tuple[BoxLabel, ...]],
    class_names: Sequence[str],
    limit: int,
) -> LabelledFolder:
    if not files:
        kinds = ", ".join(CONTENT_TYPES)
        raise LocalError(f"There are no images in {root} ({kinds}). Labels come from its folders: {root}/CLASS/1.jpg")
    return LabelledFolder(root, files[:limit] if limit else files, classes, boxes, class_names)


def _image_files(root: Path) -> list[str]:
    found = (path for path in root.rglob("*") if path.suffix.lower() in CONTENT_TYPES and path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in found)


def _read_csv(root: Path, labels: Path) -> dict[str, str]:
    """Rows of path,label, with or without a heading."""
    classes: dict[str, str] = {}
    try:
        with labels.open(newline="", encoding="utf-8-sig") as file:
            for number, row in enumerate(csv.reader(file), start=1):
                if not row or (number == 1 and row[0].strip().lower() in HEADINGS):
                    continue
                if len(row) < 2 or not row[1].strip():
                    raise LocalError(f"{labels}, line {number}: path,label is expected.")
                classes[_existing(root, row[0].strip(), f"{labels}, line {number}")] = row[1].strip()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LocalError(f"{labels} cannot be read as CSV: {why_unreadable(error)}.") from error
    return classes


def _read_coco(root: Path, labels: Path, limit: int) -> LabelledFolder:
    """COCO: boxes; an annotation without a box is the class of the whole image."""
    try:
        content = json.loads(labels.read_text())
        names = {category["id"]: str(category["name"]) for category in content["categories"]}
        files = {one["id"]: _existing(root, one["file_name"], str(labels)) for one in content["images"]}
        boxes: dict[str, list[BoxLabel]] = defaultdict(list)
        classes: dict[str, str] = {}
        for annotation in content["annotations"]:
            name, box = names[annotation["category_id"]], annotation.get("bbox")
            if box:
                boxes[files[annotation["image_id"]]].append(_box(name, box))
            else:
                classes[files[annotation["image_id"]]] = name
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LocalError(
            f"{labels} cannot be read as COCO: {why_unreadable(error)}. It is an object with `images` (id, file_name), "
            "`categories` (id, name) and `annotations` (image_id, category_id, bbox)."
        ) from error
    frozen = {name: tuple(several) for name, several in boxes.items()}
    return _folder(root, list(files.values()), classes, frozen, [names[key] for key in sorted(names)], limit)


def _box(name: str, box: Sequence[Any]) -> BoxLabel:
    x, y, width, height = (float(number) for number in box)
    return BoxLabel(name, x, y, width, height)


def _existing(root: Path, name: str, where: str) -> str:
    """The path relative to the root. Raises `LocalError` for one that is not there or leads out of it."""
    path = (root / name).resolve()
    if not path.is_file() or not path.is_relative_to(root.resolve()):
        raise LocalError(f"{where}: there is no file {name} in {root}.")
    return path.relative_to(root.resolve()).as_posix()
