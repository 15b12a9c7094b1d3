"""Labels in bulk and one by one: revisions, idempotence, and what is said about them."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import InvalidMessage
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Label, Source, State
from services.labeling.domain.ports import AnnotationFilter
from services.labeling.errors import (
    AssetDeleted,
    BadDataset,
    ClassesFixed,
    UnknownAnnotation,
    UnknownAsset,
    UnknownClass,
    UnknownDataset,
)
from tests.unit.labeling.world import CLASSES, START, asset, deleted, predicted, stored, world

ROWS = [(asset(f"old-{n}", "import/first", START + n), (Label(CLASSES[n % 3]),)) for n in range(2_500)]


async def test_importing_again_changes_nothing_and_says_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        assert await labeling.labels.import_labels("garments", CLASSES, (), ROWS, "ann") == (2_500, 0)
        assert len(await labeling.confirmed()) == 2_500
        assert await labeling.labels.import_labels("garments", CLASSES, (), ROWS, "bob") == (0, 2_500)
        said = await labeling.confirmed()
        assert len(said) == 2_500
        assert {one.key for one in said} == {"import/first"}
        assert len({one.ce_id for one in said}) == 2_500
        assert {int(one.value.annotation.source) for one in said} == {int(Source.IMPORT)}


async def test_an_import_does_not_undo_what_a_person_corrected(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:3], "ann")
        one = ROWS[0][0]
        await labeling.labels.confirm(one.id, (Label("boot"),), None, "bob")
        assert await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:3], "ann") == (0, 3)
        changed = [(one, (Label("shirt"),))]
        assert await labeling.labels.import_labels("garments", CLASSES, (), changed, "ann") == (1, 0)
        found, cursor = await labeling.labels.page(AnnotationFilter(asset_id=one.id, revisions=True))
        assert [(each.revision, each.class_name, each.annotated_by) for each in found] == [
            (1, "coat", "ann"),
            (2, "boot", "bob"),
            (3, "shirt", "ann"),
        ]
        newest, _ = await labeling.labels.page(AnnotationFilter(asset_id=one.id))
        assert ([each.revision for each in newest], cursor) == ([3], "")


async def test_the_same_asset_twice_in_an_import_is_two_revisions(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        one = ROWS[0][0]
        twice = [(one, (Label("coat"),)), (one, (Label("boot"),)), (one, (Label("boot"),))]
        assert await labeling.labels.import_labels("garments", CLASSES, (), twice, "ann") == (2, 1)
        assert [each.value.annotation.revision for each in await labeling.confirmed()] == [1, 2]


async def test_a_class_that_the_dataset_lacks_is_refused_whole(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        with pytest.raises(UnknownClass) as caught:
            rows = [*ROWS[:2], (ROWS[2][0], (Label("zebra"),))]
            await labeling.labels.import_labels("garments", CLASSES, (), rows, "ann")
        assert caught.value.field == "annotations[2].labels"
        assert await labeling.confirmed() == []
        assert await labeling.datasets.all() == []


async def test_an_import_adds_classes_after_those_there_are(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("import/*",))
        await labeling.labels.import_labels("garments", ("bag", "boot"), (), [(ROWS[0][0], (Label("bag"),))], "ann")
        (dataset,) = await labeling.datasets.all()
        assert (dataset.class_names, dataset.cameras) == ((*CLASSES, "bag"), ("import/*",))


async def test_what_is_imported_into_a_dataset_is_in_it_also_from_a_camera_it_did_not_have(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("gate-*",))
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:30], "ann")
        (dataset,) = await labeling.datasets.all()
        assert dataset.cameras == ("gate-*", "import/first")
        progress = await labeling.versions.request("r-1", "garments", None, 0, "", "ann")
        assert progress.version is not None
        assert sum(progress.version.splits.values()) == 30


async def test_boxes_and_polygons_come_back_as_they_were_given(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        labels = (Label("coat", box=(1.5, 2.0, 30.0, 40.25)), Label("boot", polygon=(0.0, 0.0, 4.0, 0.0, 2.0, 3.5)))
        one = asset("one")
        await labeling.send(stored(one))
        await labeling.labels.confirm(one.id, labels, None, "ann")
        (kept,), _ = await labeling.labels.page(AnnotationFilter(asset_id=one.id))
        assert (kept.labels, kept.class_name) == (labels, "")


async def test_saying_the_same_again_is_saying_it_once_and_another_person_confirms_it(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        one = asset("one")
        await labeling.send(stored(one))
        first = await labeling.labels.confirm(one.id, (Label("coat"),), None, "ann")
        assert await labeling.labels.confirm(one.id, (Label("coat"),), None, "ann") == first
        assert (await labeling.labels.confirm(one.id, (Label("coat"),), None, "bob")).revision == 2
        assert (first.valid_from, first.source) == (one.captured_at, Source.DIRECT)


async def test_a_label_taken_back_is_said_once_and_is_in_no_later_version(tmp_path: Path) -> None:
    async with world(tmp_path, DrawPolicy(uniform_share=0.0)) as labeling:
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:30], "ann")
        one = ROWS[0][0]
        await labeling.send(predicted(one, "boot"))
        gone = await labeling.labels.withdraw(one.id, "bob")
        assert (gone.revision, gone.withdrawn, gone.class_name, gone.annotated_by) == (2, True, "", "bob")
        assert await labeling.labels.withdraw(one.id, "ann") == gone
        said = [each.value for each in await labeling.confirmed() if each.value.annotation.asset_id == one.id]
        assert [(each.annotation.revision, each.annotation.withdrawn) for each in said] == [(1, False), (2, True)]
        assert [each.class_name for each in said[1].predictions] == ["boot"]
        cut = (await labeling.versions.request("r-1", "garments", None, 0, "", "ann")).version
        assert cut is not None
        assert sum(cut.splits.values()) == 29


async def test_a_label_taken_back_does_not_return_by_an_import_but_by_a_person(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:1], "ann")
        one = ROWS[0][0]
        await labeling.labels.withdraw(one.id, "bob")
        assert await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:1], "ann") == (0, 1)
        again = await labeling.labels.confirm(one.id, (Label("coat"),), None, "bob")
        assert (again.revision, again.withdrawn) == (3, False)
        with pytest.raises(UnknownAnnotation):
            await labeling.labels.withdraw("nobody", "bob")


async def test_labels_are_said_with_the_predictions_of_the_asset_champion_first(tmp_path: Path) -> None:
    async with world(tmp_path, DrawPolicy(uniform_share=0.0)) as labeling:
        one = asset("one")
        await labeling.send(stored(one), predicted(one, "boot", role="shadow"), predicted(one, "coat"))
        await labeling.labels.confirm(one.id, (Label("boot"),), None, "ann")
        (said,) = await labeling.confirmed()
        assert [(each.role, each.class_name) for each in said.value.predictions] == [
            ("champion", "coat"),
            ("shadow", "boot"),
        ]
        assert [each.features.margin for each in said.value.predictions] == [pytest.approx(0.9)] * 2
        assert not said.value.HasField("draw")


async def test_a_label_closes_the_task_that_asked_for_it(tmp_path: Path) -> None:
    async with world(tmp_path, DrawPolicy(uniform_share=1.0)) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one = asset("one")
        await labeling.send(stored(one), predicted(one))
        await labeling.labels.confirm(one.id, (Label("boot"),), None, "ann")
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.CLOSED: 1}


async def test_an_asset_the_bus_told_of_too_long_ago_is_asked_of_ingest(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        one = asset("one")
        with pytest.raises(UnknownAsset):
            await labeling.labels.confirm(one.id, (Label("coat"),), None, "ann")
        labeling.directory.known[one.id] = one
        assert (await labeling.labels.confirm(one.id, (Label("coat"),), None, "ann")).asset == one


async def test_nobody_labels_what_was_deleted(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        one = ROWS[0][0]
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:2], "ann")
        await labeling.send(deleted(one))
        with pytest.raises(AssetDeleted):
            await labeling.labels.confirm(one.id, (Label("coat"),), None, "ann")
        assert await labeling.labels.import_labels("garments", CLASSES, (), [(one, (Label("boot"),))], "ann") == (0, 1)


async def test_annotations_are_listed_page_by_page(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:25], "ann")
        seen: list[str] = []
        cursor = "0"
        while cursor:
            found, cursor = await labeling.labels.page(AnnotationFilter(after=int(cursor), limit=5))
            seen += [one.asset.id for one in found]
        assert seen == [one.id for one, _ in ROWS[:25]]
        since, _ = await labeling.labels.page(AnnotationFilter(since=labeling.now + 1))
        assert since == []


async def test_a_dataset_with_versions_keeps_the_order_of_its_classes(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        await labeling.labels.import_labels("garments", CLASSES, (), ROWS[:30], "ann")
        await labeling.datasets.put("garments", CLASSES[::-1], ())
        await labeling.datasets.put("garments", CLASSES, ())
        await labeling.versions.request("r-1", "garments", None, 0, "", "ann")
        with pytest.raises(ClassesFixed):
            await labeling.datasets.put("garments", CLASSES[::-1], ())
        more = await labeling.datasets.put("garments", (*CLASSES, "bag"), ())
        assert more.class_names == (*CLASSES, "bag")


@pytest.mark.parametrize(
    ("name", "classes"),
    [("", CLASSES), ("Bad name!", CLASSES), ("d" * 129, CLASSES), ("d", ()), ("d", ("a", "a")), ("d", ("a", ""))],
)
async def test_a_dataset_needs_a_name_and_distinct_classes(tmp_path: Path, name: str, classes: tuple[str, ...]) -> None:
    async with world(tmp_path) as labeling:
        with pytest.raises(BadDataset):
            await labeling.datasets.put(name, classes, ())


async def test_requests_that_cannot_be_served_are_answered_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as labeling:
        with pytest.raises(UnknownDataset):
            await labeling.versions.request("r-1", "nothing", None, 0, "", "ann")
        with pytest.raises(InvalidMessage):
            await labeling.versions.request("", "nothing", None, 0, "", "ann")
