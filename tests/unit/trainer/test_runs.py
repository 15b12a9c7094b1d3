"""The states of a run and the steps between them; the job that a resumed run goes on with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from services.trainer.domain.jobs import (
    Job,
    Opponent,
    answer_document,
    job_document,
    read_answer,
    read_job,
    resumed,
)
from services.trainer.domain.runs import Run, RunState
from services.trainer.errors import RunOver
from tests.unit.trainer.world import CLASSES, RUN, START, answer

JOB = Job(
    kind="train",
    run_id="run-1",
    model="garments",
    dataset="garments",
    dataset_version=1,
    manifest="m" * 64,
    class_names=list(CLASSES),
    objects="/objects",
    durability="process",
    home="/home",
    seed=7,
    epochs=5,
    steps=50,
    batch=128,
    new_share=0.5,
    flip=False,
    longest_side=64,
    threads=0,
    niceness=5,
    weights="w" * 64,
    opponent=Opponent("1", "c" * 64),
)


def test_a_run_waits_is_queued_starts_and_ends() -> None:
    waiting = RUN.wait("40 labels")
    assert (waiting.state, waiting.waiting_for) == (RunState.WAITING, "40 labels")
    queued = waiting.queue(3, 88)
    assert (queued.state, queued.dataset_version, queued.condition_labels, queued.waiting_for) == (
        RunState.QUEUED,
        3,
        88,
        "",
    )
    running = queued.start(START, "2").start(START + timedelta(minutes=1), "2")
    assert (running.state, running.attempts, running.started_at) == (RunState.RUNNING, 2, START)
    done = running.end(RunState.SUCCEEDED, START + timedelta(minutes=2))
    assert (done.is_over, done.finished_at) == (True, START + timedelta(minutes=2))
    assert not running.is_over


@pytest.mark.parametrize("end", [RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED])
def test_what_is_over_stays_over(end: RunState) -> None:
    over = RUN.end(end, START, "why")
    steps: tuple[Callable[[], Run], ...] = (
        lambda: over.wait("x"),
        lambda: over.queue(1, 0),
        lambda: over.start(START, ""),
        lambda: over.end(RunState.FAILED, START),
    )
    for step in steps:
        with pytest.raises(RunOver, match=f"run-1 is over: {end.value}"):
            step()


def test_jobs_and_answers_travel_as_documents() -> None:
    assert read_job(job_document(JOB)) == JOB
    alone = replace(JOB, opponent=None)
    assert read_job(job_document(alone)) == alone
    assert read_answer(answer_document(answer())) == answer()


def test_a_resumed_run_is_trained_as_it_began_and_measured_against_the_champion_of_today() -> None:
    now = replace(
        JOB, seed=8, epochs=6, batch=64, weights="", opponent=Opponent("2", "d" * 64), objects="/moved", threads=1
    )
    going_on = resumed(JOB, now)
    assert going_on == replace(JOB, opponent=Opponent("2", "d" * 64), objects="/moved", threads=1)
