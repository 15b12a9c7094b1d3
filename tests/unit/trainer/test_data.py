"""A manifest becomes arrays once; what is missing is said, and what is gone or superseded is left out."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.common.objects import ObjectStore
from services.trainer.child.data import load
from services.trainer.errors import NothingToLearnFrom
from tests.unit.trainer.pictures import Picture, cut, pictures, png

FEW = {"train": 9, "validation": 3, "test": 6}


@pytest.fixture
async def objects(tmp_path: Path) -> AsyncIterator[ObjectStore]:
    async with ObjectStore(str(tmp_path / "objects")) as store:
        yield store


async def test_splits_are_read_with_their_conditions(objects: ObjectStore, tmp_path: Path) -> None:
    splits = await load(objects, await cut(objects, pictures(FEW, new=2)), tmp_path, 64)
    assert [len(rows) for rows in (splits.train, splits.validation, splits.test)] == [9, 3, 6]
    assert splits.train.images.shape == (9, 1, 16, 16)
    assert splits.train.images.dtype == np.uint8
    assert splits.train.labels.tolist() == [0, 1, 2] * 3
    assert splits.test.new.tolist() == [True, True, False, False, False, False]
    bars = [rows[:, :5].mean() > rows[:, -5:].mean() for rows in splits.test.images[:2, 0]]
    assert bars == [True, False], "images stand beside their own labels"


async def test_the_second_time_nothing_is_fetched(objects: ObjectStore, tmp_path: Path) -> None:
    manifest = await cut(objects, pictures(FEW))
    first = await load(objects, manifest, tmp_path, 64)
    async with ObjectStore(str(tmp_path / "empty")) as nothing:
        again = await load(nothing, manifest, tmp_path, 64)
    assert np.array_equal(first.train.images, again.train.images)


async def test_superseded_labels_are_judged_apart_and_never_learned(objects: ObjectStore, tmp_path: Path) -> None:
    made = [
        replace(picture, in_force=number % 2 == 0 or picture.split == "validation")
        for number, picture in enumerate(pictures(FEW))
    ]
    splits = await load(objects, await cut(objects, made), tmp_path, 64)
    assert len(splits.train) == 5
    assert splits.train.in_force.all()
    assert (len(splits.test), int(splits.test.in_force.sum())) == (6, 3)


async def test_images_that_were_deleted_since_are_left_out(objects: ObjectStore, tmp_path: Path) -> None:
    made = pictures(FEW)
    manifest = await cut(objects, made)
    await objects.delete(hashlib.sha256(made[0].content).hexdigest())
    splits = await load(objects, manifest, tmp_path, 64)
    assert splits.train.labels.tolist() == [1, 2, 0, 1, 2, 0, 1, 2]


async def test_mixed_images_are_brought_to_one_shape(objects: ObjectStore, tmp_path: Path) -> None:
    made = pictures(FEW) + [Picture(png(n % 3, 900 + n, side=200, mode="RGB"), n % 3) for n in range(30)]
    splits = await load(objects, await cut(objects, made), tmp_path, 48)
    assert splits.train.images.shape == (39, 3, 48, 48)


@pytest.mark.parametrize("missing", ["train", "validation", "test"])
async def test_an_empty_split_is_named(objects: ObjectStore, tmp_path: Path, missing: str) -> None:
    made = [picture for picture in pictures(FEW) if picture.split != missing]
    with pytest.raises(NothingToLearnFrom, match=f"no `{missing}` rows: label more"):
        await load(objects, await cut(objects, made), tmp_path, 64)


async def test_one_class_alone_teaches_nothing(objects: ObjectStore, tmp_path: Path) -> None:
    made = [picture for picture in pictures(FEW) if picture.label == 0]
    with pytest.raises(NothingToLearnFrom, match="one class"):
        await load(objects, await cut(objects, made), tmp_path, 64)
