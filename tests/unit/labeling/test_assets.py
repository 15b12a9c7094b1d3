"""Assets come, go, and age."""

from __future__ import annotations

from pathlib import Path

from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Label, State
from tests.unit.labeling.world import CLASSES, START, asset, deleted, predicted, stored, stream, world

ALL = DrawPolicy(uniform_share=1.0, tasks_per_second=1e6)
NONE = DrawPolicy(uniform_share=0.0, uncertainty_share=0.0)


async def test_a_deleted_asset_leaves_the_queue_and_later_versions_and_marks_the_earlier_ones(tmp_path: Path) -> None:
    async with world(tmp_path, NONE) as labeling:
        rows = [(asset(f"old-{n}", "import/first", START + n), (Label(CLASSES[n % 3]),)) for n in range(30)]
        await labeling.labels.import_labels("garments", CLASSES, (), rows, "ann")
        await labeling.versions.request("r-1", "garments", None, 0, "", "ann")
        gone = rows[0][0]
        for _ in range(2):
            await labeling.send(deleted(gone))
        first = await labeling.datasets.version("garments", 1)
        assert (first.forgotten, sum(first.splits.values())) == (1, 30)
        await labeling.versions.request("r-2", "garments", None, 0, "", "ann")
        second = await labeling.datasets.version("garments", 0)
        assert (second.number, second.forgotten, sum(second.splits.values())) == (2, 0, 29)
        held = await labeling.datasets.versions("garments", gone.id, None)
        assert [version.number for version in held] == [1]


async def test_a_deletion_that_overtakes_the_asset_wins(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one = asset("one")
        await labeling.send(deleted(one))
        await labeling.send(stored(one), predicted(one))
        assert await labeling.tasks.lease(1, 60, "", "ann") == []
        assert (await labeling.tasks.page(None, 0, 1))[2] == {}


async def test_a_task_of_a_deleted_asset_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one = asset("one")
        await labeling.send(stored(one), predicted(one))
        await labeling.send(deleted(one))
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.CLOSED: 1}


async def test_the_pool_is_bounded_by_count_and_age_and_keeps_what_open_tasks_show(tmp_path: Path) -> None:
    async with world(tmp_path, NONE) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        frames = stream(1_500)
        await labeling.send(*map(stored, frames), *map(predicted, frames))
        await labeling.versions.request("r-1", "garments", START, 40, "garments", "trainer")
        assert await labeling.keeper.keep() >= 900
        found = await labeling.ledgers.read(lambda ledger: ledger.pool.assets(frame.id for frame in frames))
        assert 1_000 <= len(found) <= 1_044
        labeling.now += 8 * 86_400_000_000
        await labeling.keeper.keep()
        assert await labeling.answer_all() == 44
