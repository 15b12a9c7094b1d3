"""Labels from folders' names, from a CSV, from COCO; and what is wrong with them in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.local.errors import LocalError
from services.local.labelled import BoxLabel, read_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat/1.jpg", "cat/deep/2.PNG", "dog/3.webp", "loose.jpeg", "notes.txt"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path / "images"


def test_the_first_folder_names_the_class_and_a_loose_image_has_none(folder: Path) -> None:
    found = read_folder(folder)
    images = list(found.images())
    assert [(image.path, image.class_name, image.content_type) for image in images] == [
        ("cat/1.jpg", "cat", "image/jpeg"),
        ("cat/deep/2.PNG", "cat", "image/png"),
        ("dog/3.webp", "dog", "image/webp"),
        ("loose.jpeg", "", "image/jpeg"),
    ]
    assert found.class_names == ["cat", "dog"]
    assert images[0].content == b"cat/1.jpg"


def test_a_limit_takes_the_first_images(folder: Path) -> None:
    assert list(read_folder(folder, limit=2).files) == ["cat/1.jpg", "cat/deep/2.PNG"]


@pytest.mark.parametrize("heading", ["", "path,label\n"])
def test_a_csv_names_path_and_label_with_or_without_heading(folder: Path, heading: str) -> None:
    labels = folder / "labels.csv"
    labels.write_text(f"{heading}loose.jpeg,bird\ncat/1.jpg, tiger \n")
    found = read_folder(folder, labels)
    assert [(image.path, image.class_name) for image in found.images()] == [
        ("loose.jpeg", "bird"),
        ("cat/1.jpg", "tiger"),
    ]
    assert found.class_names == ["bird", "tiger"]


def test_coco_gives_boxes_and_classes_of_whole_images(folder: Path) -> None:
    labels = folder / "coco.json"
    content = {
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "images": [{"id": 1, "file_name": "cat/1.jpg"}, {"id": 2, "file_name": "dog/3.webp"}],
        "annotations": [
            {"image_id": 1, "category_id": 3, "bbox": [1, 2, 3.5, 4]},
            {"image_id": 1, "category_id": 7, "bbox": [5, 6, 7, 8]},
            {"image_id": 2, "category_id": 7},
        ],
    }
    labels.write_text(json.dumps(content))
    found = read_folder(folder, labels)
    first, second = found.images()
    assert first.boxes == (BoxLabel("cat", 1, 2, 3.5, 4), BoxLabel("dog", 5, 6, 7, 8))
    assert (first.class_name, second.class_name, second.boxes) == ("", "dog", ())
    assert found.class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.csv", "cat/1.jpg\n", "line 1: path,label is expected"),
        ("a.csv", "gone.jpg,cat\n", "there is no file gone.jpg"),
        ("a.csv", "../../etc/passwd,cat\n", "there is no file"),
        ("a.json", "{}", "cannot be read as COCO"),
        ("a.json", "no json", "cannot be read as COCO"),
    ],
)
def test_wrong_labels_are_a_sentence(folder: Path, name: str, content: str, sentence: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(LocalError, match=sentence):
        read_folder(folder, folder / name)


def test_a_folder_without_images_or_no_folder_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="no images"):
        read_folder(tmp_path)
    with pytest.raises(LocalError, match="no folder"):
        read_folder(tmp_path / "gone")
