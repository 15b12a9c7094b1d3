"""A version that is asked for is cut as soon as people have answered enough, and never twice."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from irisloop.monitor.v1 import monitor_pb2 as monitor

from services.common.bus import MemoryBroker
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Label, Origin, State
from services.labeling.errors import NothingToCut
from tests.unit.labeling.world import CLASSES, SECOND, START, World, asset, drift, predicted, stored, stream, world
from tests.waiting import PATIENCE_S

QUIET = DrawPolicy(uniform_share=0.0, uncertainty_share=0.0)


async def show(one: World, count: int, first: int = 0) -> None:
    frames = stream(count, first=first)
    await one.send(*map(stored, frames), *map(predicted, frames))


async def test_a_request_draws_tasks_and_cuts_the_version_when_they_are_answered(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        imported = [(asset(f"old-{n}", "import/first", START - SECOND), (Label(CLASSES[n % 3]),)) for n in range(100)]
        await labeling.labels.import_labels("garments", CLASSES, (), imported, "ann")
        await show(labeling, 200)
        assert await labeling.tasks.lease(10, 60, "", "ann") == []

        since = START + 5 * SECOND
        progress = await labeling.versions.request("r-1", "garments", since, 40, "garments", "trainer")
        assert (progress.version, progress.labels_present, progress.tasks_open) == (None, 0, 44)
        tasks = await labeling.tasks.lease(100, 60, "", "ann")
        assert {task.draw.origin for task in tasks} == {Origin.REQUEST}
        assert all(task.captured_at >= since for task in tasks)
        labeling.now += 61 * SECOND

        assert await labeling.answer_all(most=44) == 44
        (created,) = await labeling.created()
        version = created.value.version
        assert (version.version, version.request_id) == (1, "r-1")
        assert (version.condition_labels, version.condition_since.ToMicroseconds()) == (44, since)
        assert sum(split.assets for split in version.splits) == 144

        again = await labeling.versions.request("r-1", "garments", since, 40, "garments", "trainer")
        assert again.version is not None
        assert again.version.number == 1
        assert len(await labeling.created()) == 1


async def test_the_manifest_says_what_the_version_says(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        rows = [(asset(f"old-{n}", "import/first", START + n), (Label(CLASSES[n % 3]),)) for n in range(60)]
        await labeling.labels.import_labels("garments", CLASSES, (), rows, "ann")
        progress = await labeling.versions.request("r-1", "garments", START + 30, 0, "", "ann")
        assert progress.version is not None
        table = pq.read_table(io.BytesIO(await labeling.objects.get(progress.version.manifest.digest)))
        assert table.column("asset_id").to_pylist() == [one.id for one, _ in rows]
        assert table.column("class_index").to_pylist() == [n % 3 for n in range(60)]
        assert table.column("condition").to_pylist() == ["old"] * 30 + ["new"] * 30
        assert table.schema.metadata[b"rows_digest"].decode() == progress.version.digest
        splits = table.column("split").to_pylist()
        assert {name: splits.count(name) for name in set(splits)} == progress.version.splits == {
            "train": 48, "validation": 6, "test": 6
        }  # fmt: skip


async def test_only_the_cameras_that_are_asked_for_are_of_the_new_condition(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        elsewhere = [(one, (Label(CLASSES[0]),)) for one in stream(30, first=1_000, cameras=("gate-2",))]
        await labeling.labels.import_labels("garments", CLASSES, (), elsewhere, "ann")
        await show(labeling, 200)

        progress = await labeling.versions.request(
            "r-1", "garments", START, 20, "garments", "trainer", cameras=("gate-1",)
        )
        assert (progress.version, progress.labels_present, progress.tasks_open) == (None, 0, 22)
        assert await labeling.answer_all(most=22) == 22

        (created,) = await labeling.created()
        assert created.value.version.condition_labels == 22
        rows = pq.read_table(io.BytesIO(await labeling.objects.get(created.value.version.manifest.digest))).to_pylist()
        assert {(row["camera_id"], row["condition"]) for row in rows} == {("gate-1", "new"), ("gate-2", "old")}


async def test_an_open_request_is_served_after_a_restart(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with world(tmp_path, QUIET, broker) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await labeling.versions.request("r-1", "garments", START, 10, "garments", "trainer")
        await show(labeling, 60)
    async with world(tmp_path, QUIET, broker) as labeling:
        await labeling.settle()
        assert await labeling.answer_all() >= 10
        assert [one.value.version.request_id for one in await labeling.created()] == ["r-1"]


async def test_frames_that_arrive_later_are_asked_about_too(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await labeling.versions.request("r-1", "garments", START, 30, "garments", "trainer")
        await show(labeling, 20)
        few = (await labeling.tasks.page(None, 0, 1))[2][State.OPEN]
        assert few == 10
        await show(labeling, 200, first=20)
        assert (await labeling.tasks.page(None, 0, 1))[2][State.OPEN] == 33


async def test_a_cancelled_request_takes_its_tasks_along(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 60)
        await labeling.versions.request("r-1", "garments", START, 10, "garments", "trainer")
        await labeling.versions.cancel("r-1")
        assert await labeling.tasks.lease(10, 60, "", "ann") == []
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.CLOSED: 11}


async def test_what_is_no_longer_needed_is_closed_once_a_request_is_served(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 200)
        await labeling.versions.request("r-1", "garments", START, 40, "garments", "trainer")
        await labeling.answer_all(most=40)
        assert len(await labeling.created()) == 1
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.DONE: 40, State.CLOSED: 4}


async def test_a_dataset_without_labels_is_not_cut_and_may_be_asked_for_again(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        with pytest.raises(NothingToCut):
            await labeling.versions.request("r-1", "garments", None, 0, "", "ann")
        one = (asset("old", "import/first"), (Label("coat"),))
        await labeling.labels.import_labels("garments", CLASSES, (), [one], "ann")
        assert (await labeling.versions.request("r-1", "garments", None, 0, "", "ann")).version is not None


async def test_two_instances_that_cut_at_once_make_two_versions_with_the_same_splits(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as one, world(tmp_path, QUIET) as two:
        rows = [(asset(f"old-{n}", "import/first", START + n), (Label(CLASSES[n % 3]),)) for n in range(300)]
        await one.labels.import_labels("garments", CLASSES, (), rows, "ann")
        first, second = await asyncio.gather(
            one.versions.request("r-1", "garments", None, 0, "", "ann"),
            two.versions.request("r-2", "garments", None, 0, "", "ann"),
        )
        assert first.version is not None
        assert second.version is not None
        assert {first.version.number, second.version.number} == {1, 2}
        assert first.version.digest == second.version.digest


async def test_asking_once_at_two_instances_cuts_once(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as one, world(tmp_path, QUIET) as two:
        rows = [(asset(f"old-{n}", "import/first", START + n), (Label(CLASSES[n % 3]),)) for n in range(300)]
        await one.labels.import_labels("garments", CLASSES, (), rows, "ann")
        asked = [each.versions.request("r-1", "garments", None, 0, "", "ann") for each in (one, two, one, two)]
        assert {found.version.number for found in await asyncio.gather(*asked) if found.version is not None} == {1}
        assert len(await one.datasets.versions("garments", "", None)) == 1
        assert len(await one.created()) == 1


async def test_a_served_request_ends_what_its_models_drift_asked_for(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 400)
        await labeling.send(drift(1, state=monitor.MONITOR_STATE_ALARM, began_at=START))
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.OPEN: 75}
        await labeling.versions.request("r-1", "garments", START, 50, "garments", "trainer")
        await labeling.answer_all(most=50)
        assert len(await labeling.created()) == 1
        await show(labeling, 100, first=400)
        assert (await labeling.tasks.page(State.OPEN, 0, 10))[0] == []


async def test_the_loop_serves_requests_by_itself(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 60)
        await labeling.versions.request("r-1", "garments", START, 10, "garments", "trainer")
        loop = asyncio.create_task(labeling.versions.run())
        await labeling.answer_all()
        async with asyncio.timeout(PATIENCE_S):
            while not await labeling.datasets.versions("garments", "", None):
                await asyncio.sleep(0.05)
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop
