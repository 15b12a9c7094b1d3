"""Recorded events replayed: the same policy says the same, another one says what it would have said."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from irisloop.topics import RUN_FINISHED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Event, MemoryBus, Record
from services.common.bus.replaying import Stretch
from services.local.cli.app import run
from services.monitor import wire
from services.monitor.backtest import NAMES, backtest, figures
from services.monitor.domain.detectors.choice import DetectorChoice
from services.monitor.domain.events import Cause
from services.monitor.domain.policy import Policy
from services.monitor.errors import BrokenRecording, UnknownModel
from services.monitor.outbound.recording import FileSource, Records, export
from tests.unit.monitor.test_stream import drifting, play
from tests.unit.monitor.worlds import policy


@dataclass(frozen=True, slots=True)
class FromMemory:
    """What a `MemoryBroker` holds, as a source."""

    arrivals: Sequence[Record]
    stretches: Sequence[Stretch] = ()
    total: int = 0

    @asynccontextmanager
    async def open(self, names: Sequence[str]) -> AsyncIterator[Records]:
        held = [r for r in self.arrivals if r.topic in names]
        places = sorted({(r.topic, r.partition) for r in held})
        counts = {place: sum((r.topic, r.partition) == place for r in held) for place in places}
        yield FromMemory(held, [Stretch(*place, 0, counts[place]) for place in places], len(held))

    async def records(self) -> AsyncIterator[tuple[Record, int]]:
        for record in self.arrivals:
            yield record, 1


def nothing(number: int) -> None:
    pass


@pytest.fixture(scope="module")
def lived() -> MemoryBus:
    """A drift that the monitor found and asked about."""
    return asyncio.run(play(drifting()))


@pytest.fixture(scope="module")
def recording(lived: MemoryBus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("recording") / "r.jsonl.gz"
    asyncio.run(export(FromMemory(lived.broker.arrivals), NAMES, file, nothing, nothing))
    return file


def with_retrain(**changes: Any) -> Policy:
    return replace(policy(), retrain=replace(policy().retrain, **changes))


async def test_the_same_policy_gives_exactly_the_recorded_decisions(lived: MemoryBus, recording: Path) -> None:
    steps: list[int] = []
    report = await backtest(FileSource(recording), policy(), begun=steps.append, passed=steps.append)
    assert report.identical, (report.only_recorded, report.only_replayed)
    assert len(report.recorded.requests) == 1
    assert report.replayed.requests == report.recorded.requests
    assert [f.incident for f in report.replayed.first.values()] == [f.incident for f in report.recorded.first.values()]
    assert report.late == report.broken == 0
    assert steps[0] == sum(steps[1:])
    again = await backtest(FromMemory(lived.broker.arrivals), policy())
    assert figures(again) == figures(report)


def test_the_same_recording_gives_the_same_bytes(recording: Path, tmp_path: Path) -> None:
    asyncio.run(export(FileSource(recording), NAMES, tmp_path / "copy", nothing, nothing))
    assert (tmp_path / "copy").read_bytes() == recording.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


async def test_a_dear_run_would_not_have_been_asked_for(recording: Path) -> None:
    report = await backtest(FileSource(recording), with_retrain(cost_of_run=1e9))
    found = figures(report)
    assert not report.identical
    assert (found["recorded"]["requests"], found["replayed"]["requests"]) == (1, 0)
    assert found["replayed"]["refusals"]["does_not_pay"] == 1
    assert found["recorded"]["saved"] < 0 == found["replayed"]["saved"]


async def test_what_is_saved_follows_from_the_numbers_of_the_request(recording: Path) -> None:
    report = await backtest(FileSource(recording), policy(), training=5.0)
    (worth,) = report.replayed.worth(report.policy, 5.0, report.end)
    numbers = worth.request.numbers
    assert numbers is not None
    seconds = report.end - worth.request.at - 5.0
    assert seconds > 0
    assert worth.harm_avoided == numbers.excess * numbers.predictions_a_second * seconds * 0.01
    assert worth.saved == worth.harm_avoided - policy().retrain.cost_of_run


async def test_a_request_that_was_never_made_is_taken_to_be_answered_after_one_training(recording: Path) -> None:
    free = with_retrain(cooldown_seconds=0.0, cooldown_trainings=0.0, labels_between=0, budget_a_day=9)
    nervous = replace(free, channels=replace(free.channels, run_length_alarm=1000.0, run_length_warn=500.0))
    report = await backtest(FileSource(recording), nervous, training=3.0)
    made = {r.id for r in report.recorded.requests}
    asked = [r.at for r in report.replayed.requests if r.id not in made]
    assert len(asked) > 1
    assert all(later - earlier >= 3.0 for earlier, later in pairwise(asked))
    assert figures(await backtest(FileSource(recording), nervous, training=3.0)) == figures(report)


@pytest.mark.parametrize("name", ["adwin", "page-hinkley"])
async def test_another_detector_watches_the_channels_and_names_itself(recording: Path, name: str) -> None:
    other = policy().watched_by(DetectorChoice(name))
    report = await backtest(FileSource(recording), other)
    found = (i for i in report.replayed.incidents.values() if i.cause is not Cause.LABELS)
    assert {e.detector for i in found for e in i.evidence} == {name}
    assert not report.identical


async def test_only_the_stretch_and_the_model_asked_for_are_reported(recording: Path) -> None:
    whole = await backtest(FileSource(recording), policy())
    (request,) = whole.recorded.requests
    later = await backtest(FileSource(recording), policy(), since=request.at + 0.5)
    assert not later.recorded.requests and not later.replayed.requests
    assert later.identical
    assert not (await backtest(FileSource(recording), policy(), until=request.at)).replayed.requests
    assert (await backtest(FileSource(recording), policy(), model="m")).recorded.requests == [request]
    with pytest.raises(UnknownModel, match="'other'; heard of: m"):
        await backtest(FileSource(recording), policy(), model="other")


async def test_a_training_takes_as_long_as_the_recorded_ones(lived: MemoryBus) -> None:
    (request,) = (await backtest(FromMemory(lived.broker.arrivals), policy())).recorded.requests
    bus = MemoryBus(service="trainer")
    run_ = trainer_pb2.Run(model="m", request_id=request.id, state=trainer_pb2.RUN_STATE_SUCCEEDED)
    run_.started_at.CopyFrom(wire.stamp(request.at + 30))
    run_.finished_at.CopyFrom(wire.stamp(request.at + 42))
    await bus.publish(
        [Event(RUN_FINISHED, "m", trainer_pb2.RunFinished(run=run_), "run", wire.moment(request.at + 42))]
    )
    report = await backtest(FromMemory([*lived.broker.arrivals, *bus.broker.arrivals]), policy())
    assert (report.training, report.assumed) == (42.0, False)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{}\n", "is no recording of version 1"),
        (b'{"format": "irisloop-recording", "version": 2, "partitions": []}\n', "is no recording of version 1"),
        (b'{"format": "irisloop-recording", "version": 1, "partitions": []}\n{"topic": 1}\n', "line 2 is no record"),
    ],
)
async def test_a_file_that_is_no_recording_is_refused_by_its_line(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "r.gz"
    file.write_bytes(gzip.compress(content))
    with pytest.raises(BrokenRecording, match=words):
        await backtest(FileSource(file), policy())
    file.write_bytes(content)
    with pytest.raises(BrokenRecording, match=r"r\.gz: Not a gzipped file .*`irisloop monitor export` wrote is needed"):
        await backtest(FileSource(file), policy())


async def test_a_recording_that_cannot_be_written_is_said_before_kafka_is_asked(tmp_path: Path) -> None:
    kafka = FileSource(tmp_path / "not opened.gz")
    with pytest.raises(BrokenRecording, match="cannot be written: No such file or directory"):
        await export(kafka, NAMES, tmp_path / "none" / "r.gz", lambda total: None, lambda steps: None)


def test_the_command_prints_and_draws_both_courses(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plot = tmp_path / "p.svg"
    words = ["monitor", "backtest", "--from", str(recording), "--plot", str(plot)]
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert re.search(r"retraining asked for +1 +1\s", shown)
    assert "The replay said exactly what was said." in shown
    first = plot.read_bytes()
    assert first.startswith(b"<?xml") and b"<svg" in first
    assert run([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["identical"] is True
    assert plot.read_bytes() == first


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--detector", "ddm"], "--detector must be one of adwin, cusum, kswin, page-hinkley, not 'ddm'"),
        (["--since", "yesterday"], "'yesterday' is neither a time"),
        (["--from", "/nowhere.gz"], "/nowhere.gz"),
        (["--plot", "x.pdf"], "a picture is a file that ends in .svg or .png, not 'x.pdf'"),
    ],
)
def test_what_is_asked_wrongly_is_said(words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitor", "backtest", *words]) != 0
    assert sentence in capsys.readouterr().err


def test_a_policy_file_is_checked_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitor", "policy", "show"]) == 0
    shown = capsys.readouterr().out
    assert "approval: none" in shown
    file = tmp_path / "policy.yaml"
    file.write_text(shown, encoding="utf-8")
    assert run(["monitor", "policy", "check", str(file)]) == 0
    file.write_text(shown.replace("approval: none", "approval: nobody"), encoding="utf-8")
    capsys.readouterr()
    assert run(["monitor", "policy", "check", str(file)]) == 1
    assert "retrain.approval must be none or person, not 'nobody'" in capsys.readouterr().err
