"""Queued runs are carried out one at a time, once each, whatever happens to their processes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from irisloop.topics import EVALUATION_FINISHED, RUN_FINISHED, RUN_PROGRESSED
from irisloop.trainer.v1 import trainer_pb2 as pb

from services.common.errors import NotFound, Unavailable
from services.trainer import scheduler
from services.trainer.domain.jobs import Opponent
from services.trainer.domain.runs import Run, RunState
from services.trainer.errors import ChildFailed, NothingToLearnFrom
from services.trainer.handlers import Order
from tests.unit.trainer.world import CHAMPION, CLASSES, World, answer, world


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "RETRY_S", 0.02)


async def queued(trainer: World, **more: object) -> Run:
    asked = {"model": "garments", "dataset": "garments", "requested_by": "ann", "dataset_version": 1} | more
    return await trainer.handlers.start_run(Order(**asked))  # type: ignore[arg-type]


async def test_a_run_is_carried_out_and_everybody_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        run = await queued(trainer)
        async with trainer.scheduling():
            done = await trainer.until(run.id, RunState.SUCCEEDED)
        assert (done.attempts, done.epochs, done.epoch, done.warm_start_from) == (1, 6, 1, "")
        (job,) = trainer.processes.jobs
        assert (job.run_id, job.seed, job.weights, job.opponent) == (run.id, run.seed, "", None)
        assert (job.manifest, job.class_names) == (f"{1:064x}", list(CLASSES))
        (progressed,) = await trainer.said(RUN_PROGRESSED)
        assert (progressed.run_id, progressed.epoch, progressed.epochs) == (run.id, 1, 6)
        (finished,) = await trainer.said(RUN_FINISHED)
        assert finished.run.state == pb.RUN_STATE_SUCCEEDED
        assert (finished.run.package.digest, finished.run.package.signature) == ("d" * 64, "c2ln")
        assert finished.run.report.scores[0].conditions[0].accuracy == pytest.approx(0.9)
        assert list(finished.run.class_names) == list(CLASSES)


async def test_a_run_starts_from_the_champion_that_was_trained_here(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        async with trainer.scheduling():
            first = await trainer.until((await queued(trainer)).id, RunState.SUCCEEDED)
            trainer.registry.live = replace(CHAMPION, run_id=first.id)
            warm = await trainer.until((await queued(trainer)).id, RunState.SUCCEEDED)
            cold = await trainer.until((await queued(trainer, from_scratch=True)).id, RunState.SUCCEEDED)
            trainer.registry.live = CHAMPION
            foreign = await trainer.until((await queued(trainer, epochs=2)).id, RunState.SUCCEEDED)
        assert (warm.warm_start_from, warm.epochs) == ("3", 8)
        assert (cold.warm_start_from, cold.epochs) == ("", 6)
        assert (foreign.warm_start_from, foreign.epochs) == ("", 2)
        jobs = {job.run_id: job for job in trainer.processes.jobs}
        assert jobs[warm.id].weights == "w" * 64
        assert jobs[cold.id].weights == jobs[foreign.id].weights == ""
        assert {jobs[run.id].opponent for run in (warm, cold, foreign)} == {Opponent("3", "c" * 64)}


async def test_a_run_that_was_interrupted_goes_on_before_those_that_wait(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        first, second = await queued(trainer), await queued(trainer)
        async with trainer.scheduling():
            await trainer.until(first.id, RunState.RUNNING)
        assert trainer.processes.stopped == 1
        third = await queued(trainer)
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        trainer.registry.live = CHAMPION
        async with trainer.scheduling():
            await trainer.until(third.id, RunState.SUCCEEDED)
        assert [job.run_id for job in trainer.processes.jobs] == [first.id, second.id, third.id]
        again = await trainer.run(first.id)
        assert (again.state, again.attempts, again.warm_start_from) == (RunState.SUCCEEDED, 2, "")


async def test_a_process_that_ends_is_started_again_but_not_for_ever(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        trainer.processes.outcomes += [ChildFailed("killed"), answer()]
        async with trainer.scheduling():
            once = await trainer.until((await queued(trainer)).id, RunState.SUCCEEDED)
            assert once.attempts == 2
            trainer.processes.outcomes += [ChildFailed("killed")] * 3
            never = await trainer.until((await queued(trainer)).id, RunState.FAILED)
        assert (never.attempts, never.error) == (3, "its process ended 3 times without an answer")
        assert len(trainer.processes.jobs) == 5


async def test_what_the_process_says_is_wrong_ends_the_run(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        trainer.processes.outcomes.append(answer("all training rows are of one class"))
        async with trainer.scheduling():
            run = await trainer.until((await queued(trainer)).id, RunState.FAILED)
        assert (run.error, run.package) == ("all training rows are of one class", b"")
        (finished,) = await trainer.said(RUN_FINISHED)
        assert not finished.run.HasField("package")


async def test_a_neighbour_that_is_away_puts_a_run_off_and_a_version_that_is_gone_ends_it(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        trainer.registry.error = Unavailable("registry does not answer")
        run = await queued(trainer)
        async with trainer.scheduling():
            await asyncio.sleep(0.3)
            assert ((await trainer.run(run.id)).state, trainer.processes.jobs) == (RunState.QUEUED, [])
            trainer.registry.error = None
            await trainer.until(run.id, RunState.SUCCEEDED)
            lost = await queued(trainer)
            trainer.labeling.versions.clear()
            trainer.scheduler.wake()
        assert lost.state is RunState.QUEUED
        async with trainer.scheduling():
            assert "no version 1" in (await trainer.until(lost.id, RunState.FAILED)).error


async def test_cancelling_a_run_stops_its_process_and_the_next_one_starts(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        run, after = await queued(trainer), await queued(trainer)
        async with trainer.scheduling():
            await trainer.until(run.id, RunState.RUNNING)
            assert (await trainer.handlers.cancel_run(run.id)).state is RunState.CANCELLED
            trainer.labeling.error = None
            await trainer.until(after.id, RunState.RUNNING)
            trainer.processes.open.set()
            await trainer.until(after.id, RunState.SUCCEEDED)
        assert trainer.processes.stopped == 1
        assert trainer.labeling.cancelled == [], "its version was cut long ago"
        states = [(finished.run.id, finished.run.state) for finished in await trainer.said(RUN_FINISHED)]
        assert states == [(run.id, pb.RUN_STATE_CANCELLED), (after.id, pb.RUN_STATE_SUCCEEDED)]


async def test_a_version_is_measured_when_somebody_asks(tmp_path: Path) -> None:
    async with world(tmp_path) as trainer:
        trainer.processes.open.set()
        trainer.registry.live = CHAMPION
        report = await trainer.evaluations.evaluate("garments", "champion", "garments", 1)
        assert report.scores[0].conditions[0].assets == 90
        (said,) = await trainer.said(EVALUATION_FINISHED)
        assert (said.model, said.version, said.report) == ("garments", "3", report)
        with pytest.raises(NotFound):
            await trainer.evaluations.evaluate("garments", "9", "garments", 1)
        trainer.processes.outcomes.append(answer("no `test` rows"))
        with pytest.raises(NothingToLearnFrom, match="test"):
            await trainer.evaluations.evaluate("garments", "3", "garments", 1)
