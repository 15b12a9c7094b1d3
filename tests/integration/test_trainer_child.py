"""Runs in processes of their own, on made images: trained, killed, resumed, packaged, signed and measured."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from services.common.objects import ObjectStore
from services.common.signing import Verifier
from services.trainer.child.lease import take
from services.trainer.domain.jobs import (
    Answer,
    Job,
    ModelReport,
    Opponent,
    answer_document,
    job_document,
    read_job,
)
from services.trainer.domain.ports import EpochDone
from services.trainer.errors import ChildFailed
from services.trainer.outbound.processes import TAKEN, ChildProcesses
from tests.unit.trainer.pictures import CLASSES, cut, pictures
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.timeout(600)

REPOSITORY = Path(__file__).parents[2]
EPOCHS = 4


@dataclass
class House:
    """A home with a dataset version, and the first version that was trained on it."""

    home: Path
    job: Job
    first: Answer
    epochs: list[EpochDone]

    def processes(self, name: str) -> ChildProcesses:
        """A launcher with a folder of its own."""
        return ChildProcesses(self.home / name)

    def objects(self) -> ObjectStore:
        """Where images and packages lie."""
        return ObjectStore(self.job.objects)


def job_of(home: Path, manifest: str) -> Job:
    return Job(
        kind="train",
        run_id="5ad0b1c2-0000-5000-8000-000000000001",
        model="bars",
        dataset="bars",
        dataset_version=1,
        manifest=manifest,
        class_names=list(CLASSES),
        objects=str(home / "objects"),
        durability="process",
        home=str(home),
        seed=7,
        epochs=EPOCHS,
        steps=6,
        batch=32,
        new_share=0.5,
        flip=False,
        longest_side=64,
        threads=1,
        niceness=0,
    )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("trainer")
    epochs: list[EpochDone] = []

    async def train() -> tuple[Job, Answer]:
        async with ObjectStore(str(home / "objects")) as objects:
            job = job_of(home, await cut(objects, pictures()))
        return job, await ChildProcesses(home / "first").carry_out(job, epochs.append)

    yield House(home, *asyncio.run(train()), epochs)


def accuracy(report: ModelReport, condition: str) -> tuple[int, float]:
    score = next(score for score in report.scores if score.condition == condition)
    return score.assets, score.accuracy


async def test_a_run_trains_packages_signs_and_measures(house: House) -> None:
    answer = house.first
    assert answer.error == ""
    assert [(done.epoch, done.epochs) for done in house.epochs] == [(n, EPOCHS) for n in range(1, EPOCHS + 1)]
    (report,) = answer.models
    assert (report.role, accuracy(report, "new")) == ("challenger", (0, 0.0))
    assets, share = accuracy(report, "all")
    assert assets == 90
    assert share >= 0.9
    assert set(next(s for s in report.scores if s.condition == "all").recall) == set(CLASSES)
    assert answer.parity_max_difference < 1e-3
    assert answer.parity_images == 135
    assert report.latency_ms > 0
    assert not list((house.home / "first").rglob("checkpoint.pt")), "what was needed to resume is gone"


async def test_the_package_is_whole_signed_and_says_what_it_is(house: House) -> None:
    answer = house.first
    Verifier.of_home(house.home).verify(answer.digest, answer.signature, answer.key_id)
    async with house.objects() as objects:
        files = await objects.get_folder(answer.digest)
        assert await objects.exists(answer.weights)
    assert set(files) == {"model.onnx", "model.json", "golden.npz"}
    assert answer.size_bytes == sum(map(len, files.values()))
    described = json.loads(files["model.json"])
    assert described["classes"] == list(CLASSES)
    assert (described["run_id"], described["dataset_version"]) == (house.job.run_id, 1)
    assert described["input"] | {"height": 16, "width": 16, "channels": 1, "dtype": "uint8"} == described["input"]
    assert described["metrics"]["accuracy_all"] >= 0.9
    assert 0.25 <= described["temperature"] <= 4.0
    logits, embedding = run_onnx(files["model.onnx"], np.zeros((3, 1, 16, 16), np.uint8))
    assert (logits.shape, embedding.shape) == ((3, 3), (3, 128))


def run_onnx(model: bytes, images: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(["logits", "embedding"], {"image": images})
    return outputs


async def test_a_warm_run_is_measured_beside_the_champion_on_both_conditions(house: House) -> None:
    async with house.objects() as objects:
        manifest = await cut(objects, pictures(new=60))
    job = replace(
        house.job,
        run_id="second",
        dataset_version=2,
        manifest=manifest,
        epochs=2,
        weights=house.first.weights,
        opponent=Opponent("1", house.first.digest),
    )
    epochs: list[EpochDone] = []
    answer = await house.processes("second").carry_out(job, epochs.append)
    challenger, champion = answer.models
    assert (answer.error, challenger.role, champion.role, champion.version) == ("", "challenger", "champion", "1")
    assert len(epochs) == 2
    for report in answer.models:
        assert [accuracy(report, name)[0] for name in ("all", "old", "new", "old_in_force")] == [90, 30, 60, 30]
    assert accuracy(challenger, "new")[1] > accuracy(champion, "new")[1] - 0.02
    assert accuracy(challenger, "old")[1] >= 0.9
    assert epochs[0].train_loss < house.epochs[0].train_loss, "it started from what the champion knows"


async def test_a_killed_run_goes_on_at_its_epoch_and_ends_where_an_undisturbed_one_does(house: House) -> None:
    processes = house.processes("killed")
    before: list[EpochDone] = []

    def kill(done: EpochDone) -> None:
        before.append(done)
        if done.epoch == 2:
            child = next(child for child in psutil.Process().children() if "killed" in " ".join(child.cmdline()))
            child.send_signal(signal.SIGKILL)

    with pytest.raises(ChildFailed, match="-9"):
        await processes.carry_out(house.job, kill)
    assert [done.epoch for done in before][:2] == [1, 2]

    after: list[EpochDone] = []
    later = replace(house.job, epochs=9, seed=99, batch=16)
    answer = await processes.carry_out(later, after.append)
    assert after
    assert [done.epoch for done in after] == list(range(EPOCHS - len(after) + 1, EPOCHS + 1))
    assert after[0].epoch >= 3
    undisturbed = {done.epoch: (done.train_loss, done.validation_accuracy) for done in house.epochs}
    assert {done.epoch: (done.train_loss, done.validation_accuracy) for done in [*before, *after]} == undisturbed
    assert answer.digest == house.first.digest
    assert answer.weights == house.first.weights
    assert answer.models[0].scores == house.first.models[0].scores


async def test_of_two_processes_on_one_folder_the_second_leaves(house: House) -> None:
    folder = house.processes("shared").folder(house.job.run_id)
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(job_document(replace(house.job, epochs=1000))))
    first = start(folder)
    try:
        await until(lambda: taken(folder), what="the first process's lease")
        second = start(folder)
        assert await asyncio.to_thread(second.wait, PATIENCE_S) == TAKEN
        second.communicate()
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


def taken(folder: Path) -> bool:
    """Whether somebody holds the lease."""
    if (lease := take(folder)) is None:
        return True
    lease.close()
    return False


def start(folder: Path, parent: int | None = None) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "services.trainer.child", str(folder), str(parent or os.getpid())]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def test_a_run_dies_with_its_parent_also_before_it_has_begun(house: House) -> None:
    folder = house.processes("orphan").folder("orphan")
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(json.dumps(job_document(replace(house.job, epochs=1000))))
    command = [sys.executable, "-m", "services.trainer.child", str(folder)]
    parent = subprocess.Popen(  # noqa: ASYNC220 - its pipes are read at once
        [
            sys.executable,
            "-c",
            "import os, subprocess, sys, time\n"
            f"child = subprocess.Popen({command!r} + [str(os.getpid())], stdout=subprocess.DEVNULL)\n"
            "print(child.pid, flush=True)\n"
            "time.sleep(600)",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    await asyncio.sleep(0.3)
    parent.kill()
    parent.communicate()
    await until(lambda: ended(child), what="the end of the child, which outlived its parent")
    stranger = start(folder, parent=1 << 21)
    stranger.communicate(timeout=PATIENCE_S)
    assert stranger.returncode == -signal.SIGKILL, "its parent is another one than it was told"


def ended(pid: int) -> bool:
    """Whether it runs no more."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_a_version_is_measured_alone_and_a_failed_report_is_not_kept(house: House) -> None:
    async with house.objects() as objects:
        manifest = await cut(objects, pictures({"train": 6, "validation": 6, "test": 30}, seed=3))
    job = replace(house.job, kind="evaluate", run_id="report", manifest=manifest)
    processes = house.processes("report")
    folder = processes.folder("report")
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(answer_document(replace(house.first, error="the store is away"))))
    assert (await processes.carry_out(job, lambda _: None)).error == "the store is away"
    answer = await processes.carry_out(replace(job, opponent=Opponent("1", house.first.digest)), lambda _: None)
    (report,) = answer.models
    assert (answer.error, answer.digest, report.version) == ("", "", "1")
    assert accuracy(report, "all")[0] == 30
    kept = (folder / "result.json").stat().st_mtime_ns
    assert await processes.carry_out(replace(job, opponent=Opponent("1", house.first.digest)), lambda _: None) == answer
    assert (folder / "result.json").stat().st_mtime_ns == kept
    assert read_job(json.loads((folder / "job.json").read_text())).opponent == Opponent("1", house.first.digest)
