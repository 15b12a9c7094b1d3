"""Runs are opened once for each request, wait visibly for their labels, and end when nobody wants them any more."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from irisloop.topics import RETRAIN_REQUESTED, RUN_FINISHED, RUN_WAITING
from irisloop.trainer.v1 import trainer_pb2 as pb

from services.common.bus import MemoryBroker
from services.common.errors import InvalidMessage, NotFound, Unavailable
from services.trainer import queries
from services.trainer.domain.runs import RunState
from services.trainer.errors import RunOver, UnknownRun
from services.trainer.handlers import Order
from tests.unit.trainer.world import AWAY, CHAMPION, CLASSES, START, TRACE, version, world
from tests.waiting import until


def order(**more: object) -> Order:
    return Order(**{"model": "garments", "dataset": "garments", "requested_by": "ann"} | more)  # type: ignore[arg-type]


async def test_a_run_on_a_version_that_is_there_is_queued_at_once(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        run = await trainer.handlers.start_run(order(dataset_version=1))
        assert (run.state, run.dataset_version, run.class_names) == (RunState.QUEUED, 1, CLASSES)
        assert (run.condition_labels, run.requested_by) == (40, "ann")
        assert run.seed > 0
        assert trainer.labeling.asked == []
        assert await trainer.said(RUN_WAITING) == []


async def test_a_run_on_an_unknown_version_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        with pytest.raises(NotFound):
            await trainer.handlers.start_run(order(dataset_version=9))
        trainer.labeling.error = AWAY
        with pytest.raises(Unavailable):
            await trainer.handlers.start_run(order(dataset_version=1))
        page = await queries.runs(trainer.books, model="", dataset="", since=None, limit=0, cursor="")
        assert page.runs == []


async def test_asking_twice_with_one_request_id_is_asking_once(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        asked = order(dataset_version=1, request_id="mine")
        runs = await asyncio.gather(*(trainer.handlers.start_run(asked) for _ in range(5)))
        assert {run.id for run in runs} == {(await trainer.handlers.start_run(asked)).id}
        other = await trainer.handlers.start_run(order(dataset_version=1))
        assert other.id != runs[0].id
        assert (await trainer.handlers.start_run(order(dataset_version=1))).id != other.id


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"model": "a/b"}, "model"),
        ({"dataset": ""}, "dataset"),
        ({"seed": 2**32}, "seed"),
        ({"seed": -1}, "seed"),
        ({"epochs": 1001}, "epochs"),
        ({"request_id": "x" * 129}, "request_id"),
    ],
)
async def test_what_cannot_be_carried_out_is_refused(tmp_path: Path, wrong: dict[str, object], field: str) -> None:
    async with world(tmp_path) as trainer:
        with pytest.raises(InvalidMessage) as caught:
            await trainer.handlers.start_run(order(**wrong))
        assert caught.value.field == field


async def test_a_persons_run_outlives_a_labeling_that_is_away(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.labeling.error = AWAY
        run = await trainer.handlers.start_run(order())
        assert (run.state, run.waiting_for) == (RunState.WAITING, "labeling to answer")
        trainer.labeling.error = None
        trainer.labeling.ready[run.request_id] = version(1)
        await trainer.handlers.refresh_waiting()
        assert (await trainer.run(run.id)).state is RunState.QUEUED


async def test_a_dataset_that_labeling_does_not_know_ends_the_run_in_words(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.labeling.error = NotFound("no dataset `garments`")
        run = await trainer.handlers.start_run(order())
        assert (run.state, run.error) == (RunState.FAILED, "no dataset `garments`")
        (finished,) = await trainer.said(RUN_FINISHED)
        assert (finished.run.id, finished.run.state, finished.run.error) == (run.id, pb.RUN_STATE_FAILED, run.error)


async def test_a_request_waits_and_says_so_once_for_each_change_of_words(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request()
        await trainer.settle()
        for present in (0, 0, 12, 12):
            trainer.labeling.present = present
            await trainer.handlers.refresh_waiting()
        said = [waiting.run.waiting_for for waiting in await trainer.said(RUN_WAITING)]
        assert said == [
            "40 labels of frames since 12:00:00 UTC: 0 are there",
            "40 labels of frames since 12:00:00 UTC: 12 are there",
        ]
        run = await trainer.run_of("r-1")
        assert (run.state, run.dataset, run.requested_by) == (RunState.WAITING, "garments", "monitor")
        assert run.cameras == trainer.labeling.cameras == ("gate-1", "gate-2")
        assert {delivery.traceparent for delivery in trainer.bus.events(RUN_WAITING)} == {TRACE}


async def test_the_event_of_labeling_queues_the_run_that_waits_for_it(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request()
        await trainer.settle()
        await trainer.cut("of-somebody-else")
        await trainer.cut("")
        assert (await trainer.run_of("r-1")).state is RunState.WAITING
        await trainer.cut("r-1", 4)
        run = await trainer.run_of("r-1")
        assert (run.state, run.dataset_version, run.waiting_for) == (RunState.QUEUED, 4, "")
        await trainer.cut("r-1", 5)
        assert (await trainer.run_of("r-1")).dataset_version == 4, "a second version is not for this run"


async def test_a_missed_event_is_made_good_by_asking_again(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request()
        await trainer.settle()
        trainer.labeling.ready["r-1"] = version(7)
        await trainer.handlers.refresh_waiting()
        run = await trainer.run_of("r-1")
        assert (run.state, run.dataset_version) == (RunState.QUEUED, 7)


async def test_a_replayed_request_opens_no_second_run(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with world(tmp_path, broker) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request()
        await trainer.request()
        await trainer.settle()
    broker.committed.clear()
    async with world(tmp_path, broker) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.settle()
        page = await queries.runs(trainer.books, model="garments", dataset="", since=None, limit=0, cursor="")
        assert len(page.runs) == 1
        assert len(await trainer.said(RUN_WAITING)) == 1


async def test_a_request_waits_on_the_bus_while_registry_is_away(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.error = Unavailable("registry does not answer")
        with pytest.raises(Unavailable):
            await trainer.handlers.open_run(order(request_id="r-0"))
        await trainer.request()
        settling = asyncio.create_task(trainer.settle())
        await until(lambda: "registry does not answer" in trainer.bus.waiting_for())
        trainer.registry.error, trainer.registry.live = None, CHAMPION
        await settling
        assert (await trainer.run_of("r-1")).state is RunState.WAITING
        assert trainer.bus.dead_letters(RETRAIN_REQUESTED) == []


async def test_a_request_for_a_model_without_champion_fails_where_it_can_be_seen(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        await trainer.request()
        (finished,) = await trainer.said(RUN_FINISHED)
        assert (finished.run.request_id, finished.run.state) == ("r-1", pb.RUN_STATE_FAILED)
        assert "no champion" in finished.run.error


async def test_a_request_that_nobody_wants_any_more_opens_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        trainer.now = START + timedelta(hours=2)
        await trainer.request()
        await trainer.settle()
        assert trainer.labeling.asked == []


async def test_a_request_without_names_becomes_a_dead_letter(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request("")
        await trainer.request("r-2")
        await trainer.settle()
        assert len(trainer.bus.dead_letters(RETRAIN_REQUESTED)) == 1
        assert (await trainer.run_of("r-2")).state is RunState.WAITING


async def test_a_run_that_waited_too_long_ends_and_labeling_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request("r-1")
        await trainer.request("r-2", expires_after_s=90_000)
        await trainer.settle()
        trainer.now = START + timedelta(hours=2)
        trainer.labeling.error = AWAY
        await trainer.handlers.refresh_waiting()
        assert (await trainer.run_of("r-1")).state is RunState.WAITING, "labeling has to hear of it"
        trainer.labeling.error = None
        await trainer.handlers.refresh_waiting()
        run = await trainer.run_of("r-1")
        assert run.state is RunState.FAILED
        assert run.error.startswith("expired while waiting for 40 labels")
        assert trainer.labeling.cancelled == ["r-1"]
        assert (await trainer.run_of("r-2")).state is RunState.WAITING
        await trainer.cut("r-1")
        assert (await trainer.run_of("r-1")).state is RunState.FAILED


async def test_a_person_cancels_a_run_that_waits(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.registry.live = CHAMPION
        await trainer.request()
        await trainer.settle()
        run = await trainer.run_of("r-1")
        trainer.labeling.error = AWAY
        with pytest.raises(Unavailable):
            await trainer.handlers.cancel_run(run.id)
        assert (await trainer.run(run.id)).state is RunState.WAITING
        trainer.labeling.error = None
        assert (await trainer.handlers.cancel_run(run.id)).state is RunState.CANCELLED
        assert trainer.labeling.cancelled == ["r-1"]
        (finished,) = await trainer.said(RUN_FINISHED)
        assert finished.run.state == pb.RUN_STATE_CANCELLED
        with pytest.raises(RunOver):
            await trainer.handlers.cancel_run(run.id)
        with pytest.raises(UnknownRun):
            await trainer.handlers.cancel_run("nobody")


async def test_runs_are_listed_newest_first_page_by_page(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        ids = [(await trainer.handlers.start_run(order(dataset_version=1))).id for _ in range(5)]
        await trainer.handlers.start_run(order(dataset_version=1, model="other"))
        found: list[str] = []
        cursor = ""
        while True:
            page = await queries.runs(trainer.books, model="garments", dataset="", since=None, limit=2, cursor=cursor)
            found += [run.id for run in page.runs]
            cursor = page.next_cursor
            if not cursor:
                break
        assert found == ids[::-1]
        with pytest.raises(InvalidMessage):
            await queries.runs(trainer.books, model="", dataset="", since=None, limit=2, cursor="nobody")
        with pytest.raises(InvalidMessage):
            await queries.runs(trainer.books, model="", dataset="", since=None, limit=1001, cursor="")
        later = START + timedelta(seconds=1)
        assert (await queries.runs(trainer.books, model="", dataset="", since=later, limit=0, cursor="")).runs == []
