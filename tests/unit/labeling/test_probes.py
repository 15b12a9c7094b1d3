"""A blind probe: what is drawn, what a person sees of it, and what is told of the answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.monitor.v1 import monitor_pb2
from irisloop.topics import ANNOTATION_CONFIRMED, PROBE_ANSWERED, PROBE_ENDED, PROBE_REQUESTED

from services.common.bus import Event, derive_id
from services.labeling import codec
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Asset, Label, Origin, State, Task
from services.labeling.domain.ports import AnnotationFilter
from services.labeling.handlers.tasks import Answer
from services.labeling.inbound.calls import task_message
from tests.unit.labeling.world import (
    CLASSES,
    SECOND,
    START,
    World,
    deleted,
    drift,
    predicted,
    stored,
    stream,
    world,
)

QUIET = DrawPolicy(uniform_share=1.0, uncertainty_share=0.0, tasks_per_second=1e6)
HOUR = 3_600 * SECOND
CHANGE = START + HOUR
"""When the classes are believed to have changed."""


def request(**fields: Any) -> Event[monitor_pb2.ProbeRequested]:
    """Monitor's event; `answered_before`, `requested_at` and `until` are microseconds."""
    times = {"answered_before": CHANGE, "requested_at": CHANGE + HOUR, "until": CHANGE + 2 * HOUR}
    stamps: dict[str, Any] = {name: codec.timestamp(fields.pop(name, at)) for name, at in times.items()}
    defaults: dict[str, Any] = {"probe_id": "p-1", "class_names": ["coat", "shirt"], "assets": 12}
    value = monitor_pb2.ProbeRequested(
        model="garments", version="3", incident_id="i-1", **(defaults | fields), **stamps
    )
    at = codec.moment(CHANGE + HOUR)
    return Event(PROBE_REQUESTED, "garments", value, derive_id("probe", value.probe_id), at)


def kind(one: Asset) -> str:
    """The class of a frame: the three in turn, a dozen frames each."""
    return CLASSES[int(one.captured_at - START) * 10 // SECOND // 12 % 3]


async def label(labeling: World, frames: list[Asset], who: str = "", at: int = START + 600 * SECOND) -> None:
    """Frames arrive, are drawn, and answered before the change: by ann and ben in turn, or by `who`."""
    labeling.now = at
    await labeling.datasets.put("garments", CLASSES, ("*",))
    await labeling.send(*map(stored, frames), *(predicted(one, kind(one)) for one in frames))
    while tasks := await labeling.tasks.lease(100, 60, "", "nobody"):
        for number, task in enumerate(tasks):
            assert task.suggestion is not None
            answer = Answer(task.id, (Label(task.suggestion.class_name),))
            await labeling.tasks.answer([answer], who or ("ann", "ben")[number % 2])
    await labeling.settle()
    labeling.now = CHANGE + HOUR


async def probe_tasks(labeling: World) -> list[Task]:
    tasks, _, _ = await labeling.tasks.page(None, 0, 1_000)
    return [task for task in tasks if task.draw.origin is Origin.PROBE]


async def all_of_it(labeling: World) -> list[Task]:
    """A probe's tasks, as two people who answered none of its assets before are handed them."""
    return [task for who in ("cid", "dora") for task in await labeling.tasks.lease(100, 60, "", who)]


async def old_classes(labeling: World, tasks: list[Task]) -> dict[str, str]:
    """Class before, by task."""
    readings = await labeling.ledgers.read(lambda ledger: ledger.probes.readings(task.id for task in tasks))
    return {key: one.class_before for key, one in readings.items()}


async def ends(labeling: World) -> list[pb.ProbeEnded]:
    await labeling.settle()
    return [delivery.value for delivery in labeling.bus.events(PROBE_ENDED)]


async def told(labeling: World) -> list[pb.ProbeAnswered]:
    await labeling.settle()
    return [delivery.value for delivery in labeling.bus.events(PROBE_ANSWERED)]


async def test_three_fifths_are_of_the_suspected_classes_and_the_rest_of_others_each_by_a_known_chance(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(216))
        await labeling.send(request())
        tasks = await probe_tasks(labeling)
        classes = await old_classes(labeling, tasks)
        assert Counter(classes.values()) == {"coat": 4, "shirt": 4, "boot": 4}
        readings = await labeling.ledgers.read(lambda ledger: ledger.probes.readings(classes))
        assert {round(one.propensity, 4) for one in readings.values()} == {round(4 / 72, 4)}
        near = [(classes[task.id], task.camera_id, task.captured_at // (2 * SECOND)) for task in tasks]
        assert len(set(near)) == 12


async def test_only_old_answers_of_people_that_still_stand_are_asked_about_again(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        frames = stream(72)
        await label(labeling, frames)
        gone, taken_back, corrected = frames[0], frames[1], frames[2]
        await labeling.send(deleted(gone))
        await labeling.labels.withdraw(taken_back.id, "ann")
        await labeling.labels.confirm(corrected.id, (Label("boot"),), None, "ann")  # After the change.
        late = stream(36, first=72_000)
        await label(labeling, late, at=CHANGE + 1)
        imported = stream(12, first=9_000)
        at_import = [(one, (Label("coat"),)) for one in imported]
        labeling.now = START
        await labeling.labels.import_labels("garments", CLASSES, ("*",), at_import, "folder")
        labeling.now = CHANGE + HOUR
        await labeling.send(request(assets=100))
        asked = {task.asset_id for task in await probe_tasks(labeling)}
        assert asked
        forbidden = {one.id for one in [gone, taken_back, corrected, *late, *imported]}
        assert not asked & forbidden


async def test_labels_that_another_change_has_superseded_and_other_cameras_are_left_out(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72))
        earlier = {
            "state": monitor_pb2.MONITOR_STATE_CONFIRMED,
            "harm": monitor_pb2.DRIFT_HARM_CROSSED,
            "cause": monitor_pb2.DRIFT_CAUSE_LABELS,
        }
        await labeling.send(drift(1, began_at=START + SECOND, class_names=["coat"], cameras=["gate-1"], **earlier))
        await labeling.send(request(assets=100, cameras=["gate-1"]))
        tasks = await probe_tasks(labeling)
        assert {task.camera_id for task in tasks} == {"gate-1"}
        coats = [task for task in tasks if (await old_classes(labeling, [task]))[task.id] == "coat"]
        assert all(task.captured_at >= START + SECOND for task in coats)


async def test_a_person_cannot_tell_it_from_a_random_task(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72), who="cid")
        fresh = stream(36, first=80_000)
        await labeling.send(*map(stored, fresh), *(predicted(one, kind(one)) for one in fresh), request())
        asked = {task.id for task in await probe_tasks(labeling)}
        leased = await labeling.tasks.lease(100, 60, "", "dora")
        assert [task.id in asked for task in leased].count(True) == 6
        shown = [task_message(task) for task in leased]
        for name in ("origin", "propensity"):
            assert len({getattr(one.draw, name) for one in shown}) == 1, name
        assert {one.priority for one in shown} == {2.0}
        assert {tuple(field.name for field, _ in one.ListFields()) for one in shown} == {
            tuple(field.name for field, _ in shown[0].ListFields())
        }
        assert not any(one.HasField("suggestion") for one in shown)
        assert {tuple(one.class_names) for one in shown} == {CLASSES}
        assert all(
            abs(codec.micros(one.created_at) - task.created_at) == 0 for one, task in zip(shown, leased, strict=True)
        )
        answers = [Answer(task.id, (Label("boot"),)) for task in leased]
        taken = [codec.annotation_message(one) for one in await labeling.tasks.answer(answers, "dora")]
        assert [one.task_id for one in taken] == [task.id for task in leased]
        assert {(one.revision, one.source, one.annotated_by) for one in taken} == {(1, 2, "dora")}


async def test_nobody_is_asked_about_their_own_answer_until_half_of_the_time_is_over(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(216))
        await labeling.send(request())
        readings = await labeling.ledgers.read(
            lambda ledger: ledger.probes.readings([task.id for task in ledger.tasks.page(None, 0, 1_000)])
        )
        by = {one.task_id: one.annotated_before_by for one in readings.values()}
        own = Counter(by.values())
        assert set(own) == {"ann", "ben"}
        first = await labeling.tasks.lease(100, 60, "", "ann")
        assert {by[task.id] for task in first} == {"ben"}
        assert not await labeling.tasks.lease(100, 60, "", "ann")
        labeling.now += HOUR // 2
        again = await labeling.tasks.lease(100, 60, "", "ann")
        assert Counter(by[task.id] for task in again) == own


async def test_nobody_is_handed_more_than_half_of_it_while_there_are_others(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(216))
        await labeling.send(request())
        first = await labeling.tasks.lease(100, 60, "", "cid")
        assert len(first) == 6
        await labeling.tasks.answer([Answer(task.id, (Label("boot"),)) for task in first], "cid")
        assert not await labeling.tasks.lease(100, 60, "", "cid")
        assert len(await labeling.tasks.lease(100, 60, "", "dora")) == 6
        labeling.now += 61 * SECOND  # What dora did not answer is there again, and half of the time not over.
        assert not await labeling.tasks.lease(100, 60, "", "cid")
        labeling.now += HOUR // 2
        assert len(await labeling.tasks.lease(100, 60, "", "cid")) == 6


async def test_a_person_who_is_alone_is_asked_about_their_own_answers(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72), who="ann")
        await labeling.send(request())
        assert len(await labeling.tasks.lease(100, 60, "", "ann")) == 12


async def test_answers_are_told_and_are_no_revisions(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(216))
        before = await labeling.labels.page(AnnotationFilter(revisions=True, limit=1_000))
        confirmed = len(labeling.bus.events(ANNOTATION_CONFIRMED))
        await labeling.send(request())
        swap = {"coat": "shirt", "shirt": "coat", "boot": "boot"}
        tasks = await all_of_it(labeling)
        classes = await old_classes(labeling, tasks)
        await labeling.tasks.answer([Answer(task.id, (Label(swap[classes[task.id]]),)) for task in tasks], "cid")
        found = await told(labeling)
        assert {(one.asset_id, one.class_before, one.class_now) for one in found} == {
            (task.asset_id, classes[task.id], swap[classes[task.id]]) for task in tasks
        }
        assert {(one.probe_id, one.incident_id, one.model, one.annotated_now_by) for one in found} == {
            ("p-1", "i-1", "garments", "cid")
        }
        assert {one.annotated_before_by for one in found} == {"ann", "ben"}
        assert all(0 < one.propensity < 0.1 and codec.micros(one.annotated_before_at) < CHANGE for one in found)
        assert await labeling.labels.page(AnnotationFilter(revisions=True, limit=1_000)) == before
        assert len(labeling.bus.events(ANNOTATION_CONFIRMED)) == confirmed
        (end,) = await ends(labeling)
        assert (end.reason, end.drawn, end.answered) == (pb.PROBE_END_ANSWERED, 12, 12)


async def test_the_same_again_is_known_and_another_answer_takes_the_place_of_the_first(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72))
        await labeling.send(request(), request())
        assert len(await probe_tasks(labeling)) == 12
        (task,) = await labeling.tasks.lease(1, 60, "", "cid")
        for name in ("boot", "boot", "coat"):
            (taken,) = await labeling.tasks.answer([Answer(task.id, (Label(name),))], "cid")
            assert taken.class_name == name
        found = await told(labeling)
        assert [(one.class_now, one.revision) for one in found] == [("boot", 1), ("coat", 2)]
        await labeling.send(request())
        assert len(await probe_tasks(labeling)) == 12


async def test_a_restart_between_answers_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72))
        await labeling.send(request())
        tasks = await all_of_it(labeling)
        await labeling.tasks.answer([Answer(task.id, (Label("boot"),)) for task in tasks[:5]], "cid")
        broker = labeling.bus.broker
    async with world(tmp_path, QUIET, broker) as labeling:
        labeling.now = CHANGE + HOUR + SECOND
        await labeling.tasks.answer([Answer(task.id, (Label("boot"),)) for task in tasks], "cid")
        found = await told(labeling)
        assert len(found) == len({one.asset_id for one in found}) == 12
        (end,) = await ends(labeling)
        assert end.answered == 12


async def test_a_probe_ends_with_a_reason_whatever_becomes_of_its_assets(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        frames = stream(72)
        await label(labeling, frames)
        await labeling.send(request())
        tasks = await all_of_it(labeling)
        await labeling.tasks.answer([Answer(task.id, (Label("boot"),)) for task in tasks[:4]], "cid")
        await labeling.tasks.answer([Answer(task.id, ()) for task in tasks[4:6]], "cid")
        by_id = {one.id: one for one in frames}
        await labeling.send(*(deleted(by_id[task.asset_id]) for task in tasks[6:]))
        assert not await ends(labeling)
        await labeling.keeper.keep()
        (end,) = await ends(labeling)
        assert (end.reason, end.drawn) == (pb.PROBE_END_ANSWERED, 12)
        assert (end.answered, end.skipped, end.deleted) == (4, 2, 6)


async def test_a_probe_without_assets_or_time_ends_at_once_and_an_unanswered_one_at_its_deadline(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72))
        await labeling.send(request(probe_id="none", answered_before=START))
        await labeling.send(request(probe_id="late", until=CHANGE + HOUR))
        await labeling.send(request(probe_id="slow"))
        labeling.now = CHANGE + 2 * HOUR
        assert not await labeling.tasks.lease(100, 60, "", "cid")
        await labeling.keeper.keep()
        assert {(one.probe_id, one.reason, one.drawn) for one in await ends(labeling)} == {
            ("none", pb.PROBE_END_NO_ASSETS, 0),
            ("late", pb.PROBE_END_EXPIRED, 0),
            ("slow", pb.PROBE_END_EXPIRED, 12),
        }
        assert {task.state for task in await probe_tasks(labeling)} == {State.CLOSED}


async def test_a_probe_that_is_judged_or_whose_incident_is_over_asks_nobody_any_more(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await label(labeling, stream(72))
        await labeling.send(request())
        crossed = {"state": monitor_pb2.MONITOR_STATE_ALARM, "harm": monitor_pb2.DRIFT_HARM_CROSSED}
        asked = monitor_pb2.IncidentProbe(id="p-1", verdict=monitor_pb2.PROBE_VERDICT_ASKED)
        await labeling.send(drift(1, began_at=CHANGE, probe=asked, **crossed))
        assert not await ends(labeling)
        moved = monitor_pb2.IncidentProbe(id="p-1", verdict=monitor_pb2.PROBE_VERDICT_MOVED)
        await labeling.send(drift(2, began_at=CHANGE, probe=moved, **crossed))
        assert [one.reason for one in await ends(labeling)] == [pb.PROBE_END_NOT_WANTED]
        assert not await labeling.tasks.lease(100, 60, "", "cid")


async def test_a_request_that_breaks_the_contract_is_a_dead_letter_that_names_the_field(tmp_path: Path) -> None:
    async with world(tmp_path, QUIET) as labeling:
        await labeling.send(request(assets=0), request(probe_id="p-2", class_names=[]))
        letters = labeling.bus.dead_letters(PROBE_REQUESTED)
        assert len(letters) == 2
        assert "assets" in str(letters[0])
        assert "class_names" in str(letters[1])
