"""Tasks drawn from arriving predictions, over the bus."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from irisloop.serving.v1 import serving_pb2
from irisloop.topics import PREDICTION_MADE

from services.common.bus import Event, MemoryBroker
from services.labeling.codec import moment
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Origin, State, Task
from tests.unit.labeling.world import CLASSES, START, World, asset, predicted, stored, stream, world

LOUD = DrawPolicy(uniform_share=0.2, uncertainty_share=0.5, tasks_per_second=1e6)


async def every_task(labeling: World) -> list[Task]:
    tasks, cursor, _ = await labeling.tasks.page(None, 0, 1_000)
    assert cursor == ""
    return tasks


async def test_tasks_are_drawn_with_their_propensity_and_a_replay_draws_nothing_more(tmp_path: Path) -> None:
    frames = stream(1_000)
    events = [predicted(one, margin=0.2) for one in frames]
    async with world(tmp_path, LOUD) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await labeling.send(*map(stored, frames), *events)
        first = await every_task(labeling)
        origins = Counter(task.draw.origin for task in first)
        assert 150 < origins[Origin.UNIFORM] < 250
        assert 200 < origins[Origin.UNCERTAINTY] < 320
        assert {task.draw.propensity for task in first if task.draw.origin is Origin.UNIFORM} == {0.2}
        await labeling.send(*map(stored, frames), *events)
        assert await every_task(labeling) == first
    async with world(tmp_path / "other", LOUD, MemoryBroker()) as elsewhere:
        await elsewhere.datasets.put("garments", CLASSES, ("*",))
        await elsewhere.send(*events)
        assert {task.id for task in await every_task(elsewhere)} == {task.id for task in first}


async def test_only_the_champions_live_predictions_of_a_datasets_cameras_and_classes_are_asked_about(
    tmp_path: Path,
) -> None:
    policy = DrawPolicy(uniform_share=1.0)
    async with world(tmp_path, policy) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("gate-*",))
        wanted = asset("wanted")
        failed = serving_pb2.Prediction(
            id="x", asset_id="x", camera_id="gate-1", model="m", role="champion", error="no"
        )
        await labeling.send(
            predicted(wanted),
            predicted(asset("shadow"), role="shadow"),
            predicted(asset("history"), historical=True),
            predicted(asset("elsewhere", "roof")),
            predicted(asset("other-class"), "zebra"),
            Event(PREDICTION_MADE, "camera/gate-1", serving_pb2.PredictionMade(prediction=failed), "x", moment(START)),
        )
        (task,) = await every_task(labeling)
        assert task.asset_id == wanted.id
        assert task.suggestion is not None
        assert (task.suggestion.class_name, task.dataset, task.class_names) == ("coat", "garments", CLASSES)


async def test_a_task_is_handed_out_once_its_asset_is_known(tmp_path: Path) -> None:
    async with world(tmp_path, DrawPolicy(uniform_share=1.0)) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one = asset("one")
        await labeling.send(predicted(one))
        assert await labeling.tasks.lease(1, 60, "", "ann") == []
        await labeling.send(stored(one))
        (task,) = await labeling.tasks.lease(1, 60, "", "ann")
        assert task.object == one.object


async def test_the_queue_is_bounded_and_the_oldest_uncertain_go_first(tmp_path: Path) -> None:
    policy = DrawPolicy(uniform_share=0.2, uncertainty_share=1.0, tasks_per_second=1e6, open_tasks=100)
    async with world(tmp_path, policy) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        frames = stream(400)
        await labeling.send(*[predicted(one, margin=0.0) for one in frames])
        tasks = await every_task(labeling)
        counts = Counter(task.state for task in tasks)
        assert counts == {State.OPEN: 100, State.CLOSED: len(tasks) - 100}
        kept = [task for task in tasks if task.state is State.OPEN]
        closed = [task for task in tasks if task.state is State.CLOSED and task.draw.origin is Origin.UNCERTAINTY]
        assert all(task.draw.origin is Origin.UNCERTAINTY for task in tasks if task.state is State.CLOSED)
        uncertain = [task.captured_at for task in kept if task.draw.origin is Origin.UNCERTAINTY]
        assert max(task.captured_at for task in closed) <= min(uncertain)


async def test_a_prediction_without_what_identifies_it_becomes_a_dead_letter_and_the_others_are_kept(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, DrawPolicy(uniform_share=1.0)) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        good, bad = predicted(asset("good")), predicted(asset("bad"))
        bad.value.prediction.ClearField("captured_at")
        await labeling.send(good, bad)
        assert len(await every_task(labeling)) == 1
        assert len(labeling.bus.dead_letters(PREDICTION_MADE, "labeling")) == 1


async def test_uncertain_draws_pause_while_people_are_needed_for_a_request(tmp_path: Path) -> None:
    policy = DrawPolicy(uniform_share=0.0, uncertainty_share=1.0, tasks_per_second=1e6, request_share=0.01)
    async with world(tmp_path, policy) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await labeling.versions.request("r-1", "garments", START, 10, "garments", "trainer")
        await labeling.send(*[predicted(one, margin=0.0) for one in stream(50)])
        assert {task.draw.origin for task in await every_task(labeling)} == {Origin.REQUEST}
