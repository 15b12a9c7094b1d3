"""What a drift makes labeling ask, and which labels a change of concept lays aside."""

from __future__ import annotations

from pathlib import Path

from irisloop.monitor.v1 import monitor_pb2 as monitor

from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Label, Origin, State, Task
from services.labeling.domain.ports import AnnotationFilter
from tests.unit.labeling.world import CLASSES, SECOND, START, World, asset, drift, predicted, stored, stream, world

QUIET = DrawPolicy(uniform_share=0.0, uncertainty_share=0.0, drift_tasks=40, drift_share=0.25)
ALARM = {"state": monitor.MONITOR_STATE_ALARM, "harm": monitor.DRIFT_HARM_UNKNOWN}


async def drift_tasks(labeling: World) -> list[Task]:
    tasks, _, _ = await labeling.tasks.page(None, 0, 1_000)
    return [task for task in tasks if task.draw.origin is Origin.DRIFT]


async def show(labeling: World, count: int, first: int = 0) -> None:
    frames = stream(count, first=first)
    await labeling.send(*map(stored, frames), *map(predicted, frames))


async def test_a_drift_draws_from_its_window_and_from_what_arrives_later_up_to_its_bound(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 200)
        began = START + 10 * SECOND
        await labeling.send(drift(1, cameras=["gate-1"], began_at=began, **ALARM))
        first = await drift_tasks(labeling)
        assert len(first) == 20
        assert all(task.camera_id == "gate-1" and task.captured_at >= began for task in first)
        assert all(0.3 < task.draw.propensity < 0.5 for task in first)
        await show(labeling, 100, first=200)
        later = (await drift_tasks(labeling))[20:]
        assert 5 <= len(later) < 20
        assert {task.draw.propensity for task in later} == {0.25}
        await show(labeling, 600, first=300)
        assert len(await drift_tasks(labeling)) == 40


async def test_the_same_word_again_and_an_older_one_change_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 100)
        word = drift(2, cameras=["gate-1"], began_at=START, **ALARM)
        await labeling.send(word)
        before = await drift_tasks(labeling)
        await labeling.send(word, drift(1, cameras=["gate-2"], began_at=START, **ALARM))
        assert await drift_tasks(labeling) == before


async def test_a_drift_that_is_harmless_or_over_is_asked_about_no_more(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 100)
        await labeling.send(drift(1, cameras=["gate-1"], began_at=START, **ALARM))
        harmless = {"state": monitor.MONITOR_STATE_CONFIRMED, "harm": monitor.DRIFT_HARM_NONE}
        await labeling.send(drift(2, cameras=["gate-1"], began_at=START, **harmless))
        await show(labeling, 100, first=100)
        assert {task.state for task in await drift_tasks(labeling)} == {State.CLOSED}
        assert len(await drift_tasks(labeling)) == 20


async def test_known_harm_draws_no_more_but_keeps_what_was_asked(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        await show(labeling, 100)
        await labeling.send(drift(1, began_at=START, **ALARM))
        crossed = {"state": monitor.MONITOR_STATE_CONFIRMED, "harm": monitor.DRIFT_HARM_CROSSED}
        await labeling.send(drift(2, began_at=START, **crossed))
        await show(labeling, 100, first=100)
        assert [task.state for task in await drift_tasks(labeling)] == [State.OPEN] * 20


SWAPPED = {
    "state": monitor.MONITOR_STATE_CONFIRMED,
    "cause": monitor.DRIFT_CAUSE_LABELS,
    "harm": monitor.DRIFT_HARM_CROSSED,
    "class_names": ["coat", "shirt"],
    "cameras": ["gate-1"],
}


async def test_a_change_of_concept_lays_older_labels_of_its_classes_aside_and_keeps_them(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        rows = [(asset(f"old-{n}", "import/first", START - SECOND), (Label(CLASSES[n % 3]),)) for n in range(90)]
        await labeling.labels.import_labels("garments", CLASSES, (), rows, "ann")
        for revision in (2, 2, 3):
            await labeling.send(drift(revision, began_at=START, **SWAPPED))
        one = next(asset for asset, labels in rows if labels[0].class_name == "coat")
        (kept,), _ = await labeling.labels.page(AnnotationFilter(asset_id=one.id))
        assert (kept.superseded_at, kept.class_name, kept.revision) == (START, "coat", 1)

        fresh = asset("fresh", "gate-1", START + SECOND)
        late = asset("late", "gate-1", START - SECOND)
        await labeling.send(stored(fresh), stored(late))
        in_force = await labeling.labels.confirm(fresh.id, (Label("coat"),), None, "ann")
        overtaken = await labeling.labels.confirm(late.id, (Label("coat"),), None, "ann")
        reread = await labeling.labels.confirm(one.id, (Label("shirt"),), START, "ann")
        assert (in_force.superseded_at, overtaken.superseded_at, reread.superseded_at) == (None, START, None)

        progress = await labeling.versions.request("r-1", "garments", START, 0, "", "ann")
        assert progress.version is not None
        assert progress.version.superseded_left_out == 60
        assert progress.version.classes == {"boot": 30, "coat": 1, "shirt": 1}


async def test_another_datasets_cameras_keep_their_labels(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        theirs = [(asset("theirs", "import/theirs", START - SECOND), (Label("coat"),))]
        await labeling.labels.import_labels("theirs", CLASSES, ("import/theirs", "roof-*"), theirs, "ann")
        ours = [(asset("ours", "import/ours", START - SECOND), (Label("coat"),))]
        await labeling.labels.import_labels("ours", CLASSES, ("import/ours", "gate-*"), ours, "ann")
        await labeling.send(drift(1, began_at=START, **SWAPPED))
        found, _ = await labeling.labels.page(AnnotationFilter())
        assert {one.asset.camera_id: one.superseded_at for one in found} == {
            "import/theirs": None,
            "import/ours": START,
        }


async def test_a_corrected_begin_counts_from_then_on(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        rows = [(asset(f"a-{n}", "gate-1", START + n * SECOND), (Label("coat"),)) for n in range(10)]
        await labeling.labels.import_labels("garments", CLASSES, (), rows, "ann")
        await labeling.send(drift(1, began_at=START + 8 * SECOND, **SWAPPED))
        await labeling.send(drift(2, began_at=START + 3 * SECOND, **SWAPPED))
        found, _ = await labeling.labels.page(AnnotationFilter())
        assert sum(one.superseded_at is not None for one in found) == 3
