"""Leases and answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.common.errors import InvalidMessage
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Label, Origin, Source, State
from services.labeling.errors import UnknownClass, UnknownTask
from services.labeling.handlers.tasks import Answer
from tests.unit.labeling.world import CLASSES, SECOND, World, deleted, predicted, stored, stream, world

ALL = DrawPolicy(uniform_share=1.0, tasks_per_second=1e6)
COAT = (Label("coat"),)
BOOT = (Label("boot"),)


async def fill(labeling: World, count: int = 6) -> None:
    await labeling.datasets.put("garments", CLASSES, ("*",))
    frames = stream(count)
    await labeling.send(*map(stored, frames), *map(predicted, frames))


async def test_a_leased_task_is_handed_to_nobody_else_until_the_lease_ends(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling)
        mine = await labeling.tasks.lease(4, 10, "", "ann")
        others = await labeling.tasks.lease(10, 10, "garments", "bob")
        assert (len(mine), len(others)) == (4, 2)
        assert {task.id for task in mine}.isdisjoint(task.id for task in others)
        assert await labeling.tasks.lease(10, 10, "", "eve") == []
        labeling.now += 11 * SECOND
        assert len(await labeling.tasks.lease(10, 10, "", "eve")) == 6
        assert await labeling.tasks.lease(10, 10, "other-dataset", "eve") == []


async def test_answers_are_said_with_draw_and_prediction(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling, 1)
        (task,) = await labeling.tasks.lease(1, 10, "", "ann")
        (annotation,) = await labeling.tasks.answer([Answer(task.id, BOOT)], "ann")
        assert (annotation.source, annotation.task_id, annotation.annotated_by) == (Source.TASK, task.id, "ann")
        (said,) = await labeling.confirmed()
        assert (int(said.value.draw.origin), said.value.draw.propensity) == (Origin.UNIFORM, 1.0)
        assert [each.class_name for each in said.value.predictions] == ["coat"]
        assert said.key == task.camera_id


async def test_answering_twice_is_answering_once_and_answering_otherwise_is_a_correction(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling, 1)
        (task,) = await labeling.tasks.lease(1, 10, "", "ann")
        first = await labeling.tasks.answer([Answer(task.id, COAT)], "ann")
        assert await labeling.tasks.answer([Answer(task.id, COAT)], "ann") == first
        assert await labeling.tasks.answer([Answer(task.id, ())], "ann") == first
        assert len(await labeling.confirmed()) == 1
        (corrected,) = await labeling.tasks.answer([Answer(task.id, BOOT)], "bob")
        assert (corrected.revision, corrected.class_name) == (2, "boot")
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.DONE: 1}


async def test_an_answer_counts_after_the_lease_and_after_the_task_was_closed(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling, 2)
        late, closed = await labeling.tasks.lease(2, 10, "", "ann")
        labeling.now += 60 * SECOND
        await labeling.ledgers.transact(lambda ledger: ledger.tasks.settle([closed.id], State.CLOSED))
        answers = [Answer(late.id, COAT), Answer(closed.id, COAT)]
        assert len(await labeling.tasks.answer(answers, "ann")) == 2
        assert (await labeling.tasks.page(State.DONE, 0, 10))[2] == {State.DONE: 2}


async def test_a_skipped_task_comes_back_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling, 1)
        (task,) = await labeling.tasks.lease(1, 10, "", "ann")
        assert await labeling.tasks.answer([Answer(task.id, ())], "ann") == []
        labeling.now += 60 * SECOND
        assert await labeling.tasks.lease(1, 10, "", "bob") == []
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.SKIPPED: 1}


async def test_an_answer_about_a_deleted_asset_is_dropped_and_the_others_are_kept(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling, 2)
        one, two = await labeling.tasks.lease(2, 10, "", "ann")
        frame = next(frame for frame in stream(2) if frame.id == one.asset_id)
        await labeling.send(deleted(frame))
        annotations = await labeling.tasks.answer([Answer(one.id, COAT), Answer(two.id, COAT)], "ann")
        assert [annotation.task_id for annotation in annotations] == [two.id]
        assert (await labeling.tasks.page(None, 0, 1))[2] == {State.CLOSED: 1, State.DONE: 1}


async def test_unknown_tasks_and_classes_are_refused_whole(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await fill(labeling, 1)
        (task,) = await labeling.tasks.lease(1, 10, "", "ann")
        with pytest.raises(UnknownTask) as unknown:
            await labeling.tasks.answer([Answer(task.id, COAT), Answer("nothing", COAT)], "ann")
        with pytest.raises(UnknownClass) as zebra:
            await labeling.tasks.answer([Answer(task.id, (Label("zebra"),))], "ann")
        assert (unknown.value.field, zebra.value.field) == ("answers[1].task_id", "answers[0].labels")
        assert await labeling.confirmed() == []


@pytest.mark.parametrize(("limit", "seconds"), [(101, 1), (-1, 1), (1, -1), (1, 100_000)])
async def test_leases_have_bounds(tmp_path: Path, limit: int, seconds: int) -> None:
    async with world(tmp_path, ALL) as labeling:
        with pytest.raises(InvalidMessage):
            await labeling.tasks.lease(limit, seconds, "", "ann")
