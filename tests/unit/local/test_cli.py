"""The command line: each error is one sentence and an exit code, never a traceback."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from irisloop.registry.v1 import registry_pb2

from services.common.errors import Unavailable
from services.local.cli.app import run, sentence
from services.local.cli.cameras import _pairs
from services.local.cli.datasets import gate_line
from services.local.errors import LocalError
from services.local.logs import LogFile
from services.local.ports import free_port
from services.local.state import DeploymentState, HomeLock, ProcessState, write_state


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home where nothing runs, and services at ports where nobody listens."""
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    for service in ("INGEST", "REGISTRY", "SERVING", "TRAINER"):
        monkeypatch.setenv(f"IRISLOOP_ADDRESSES__{service}", f"127.0.0.1:{free_port(set())}")
    return tmp_path


def said_by(capsys: pytest.CaptureFixture[str]) -> str:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["models", "list"], 1, "serving does not answer at 127.0.0.1:"),
        (["models", "rollback", "m"], 1, "Start it with `irisloop up`"),
        (["train", "--dataset", "d"], 1, "nothing runs here"),
        (["models", "bind", "m"], 1, "Say which cameras"),
        (["models", "bind", "m", "--tag", "odd"], 1, "'odd' is not name=value"),
        (["models", "rollout", "m"], 1, "registry does not answer at 127.0.0.1:"),
        (["models", "rollout", "m", "2"], 1, "Say which version and which stage"),
        (["models", "rollout", "m", "--stage", "canary", "--share", "0.1"], 1, "Say which version and which stage"),
        (["models", "rollout", "m", "2", "--stage", "watch"], 1, "Say which version and which stage"),
        (["models", "rollout", "m", "2", "--arm", "b=2:0.5"], 1, "--arm makes an experiment"),
        (["models", "rollout", "m", "--arm", "b=2"], 1, "'b=2' is not name=version:share"),
        (["models", "rollout", "m", "2", "--stage", "shadow", "--end"], 1, "--end ends what is under way"),
        (["logs", "ingest"], 1, "There is no log of ingest"),
        (["up", "--only", "ingest,nobody"], 1, "There is no service 'nobody'"),
        (["up", "--replicas", "serving=many"], 1, "is not SERVICE=N"),
        (["import", "/no/such/folder"], 1, "/no/such/folder is no folder"),
        (["dlq", "replay"], 1, "Say which"),
        (["dlq", "list", "--service", "nobody"], 1, "There is no service 'nobody'"),
        (["models", "rollout", "m", "2", "--stage", "odd"], 1, "shadow or canary"),
        (["status", "--nonsense"], 2, "--nonsense. `irisloop status --help` says more."),
        (["train"], 2, "--dataset"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_an_error_is_one_sentence_and_an_exit_code(
    words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words) == code
    assert sentence in said_by(capsys)


def test_debug_shows_where_an_error_came_from() -> None:
    with pytest.raises(LocalError):
        run(["--debug", "logs", "ingest"])


@pytest.mark.parametrize(
    "name", ["IRISLOOP_LOCAL__KAFKA_PORT", "IRISLOOP_REPLICA", "IRISLOOP_KAFKA__SECURITY_PROTOCOL"]
)
def test_an_odd_setting_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "many")
    assert run(["status"]) == 1
    assert f"The setting {name} is not valid" in said_by(capsys)


def test_a_kafka_that_is_away_is_said_with_what_to_do() -> None:
    assert sentence(Unavailable("Kafka does not answer: why", reason="KAFKA_AWAY")) == (
        "Kafka does not answer: why. Start it with `irisloop up`, or name another by IRISLOOP_KAFKA__BOOTSTRAP_SERVERS."
    )


def test_help_lists_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    commands = capsys.readouterr().out
    for command in ("up", "status", "doctor", "logs", "import", "train", "lineage", "demo", "cameras", "models", "dlq"):
        assert f" {command} " in commands


def test_without_a_command_the_help_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == run(["monitor"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: irisloop ")
    assert "irisloop: " not in said


def test_a_gate_is_told_with_its_numbers() -> None:
    gate = registry_pb2.GateResult(
        gate="parity", passed=True, measured=9.537e-7, limit=1e-3, detail="largest difference"
    )
    assert gate_line(gate) == "passed parity: 9.537e-07 (limit 0.001, largest difference)"


def test_a_folder_without_models_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["migrate", "triton", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert "holds no model" in said
    assert "Start them" not in said


def test_status_says_that_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 1
    assert "Nothing runs" in capsys.readouterr().out


def test_status_shows_what_runs_to_people_and_programs(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "run").mkdir()
    ready = ProcessState("ingest", "ready", pid=7, http_port=8110, grpc_port=8111, pss_mb=71.0, lag=5)
    waiting = ProcessState("monitor", "waiting", pid=8, waiting_for="[Kafka] to answer")
    write_state(home / "run", DeploymentState(str(home), processes={"ingest": ready, "monitor": waiting}))
    with HomeLock(home / "run"):
        assert run(["status"]) == 1
        shown = capsys.readouterr().out
        assert "71 MB" in shown
        assert "[Kafka] to answer" in shown
        assert run(["status", "--json"]) == 1
        state = json.loads(capsys.readouterr().out)
        assert state["processes"]["ingest"]["http_port"] == 8110
        write_state(home / "run", DeploymentState(str(home), processes={"ingest": ready}))
        assert run(["status"]) == 0


def test_logs_shows_the_last_lines_readable_or_raw(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = LogFile(home / "logs" / "ingest.log", 1 << 20)
    log.path.parent.mkdir()
    log.path.write_text('first\n{"event": "frame_stored", "level": "info", "n": 3}\n')
    assert run(["logs", "ingest", "-n", "1"]) == 0
    assert capsys.readouterr().out == "info    frame_stored n=3\n"
    assert run(["logs", "ingest", "--raw"]) == 0
    assert capsys.readouterr().out.startswith('first\n{"event"')


def test_doctor_looks_at_everything_for_programs_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor"]) == 0
    assert "java" in capsys.readouterr().out
    run(["doctor", "--json"])
    findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {"python", "java", "jars", "torch", "chdb", "memory", "disk", "ports", "data", "irisloop"} <= set(findings)
    assert findings["python"]["good"]
    assert "make data" in findings["data"]["text"]


def test_topics_list_names_every_declared_topic(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topics", "list", "--json"]) == 0
    topics = {topic["topic"]: topic for topic in json.loads(capsys.readouterr().out)}
    assert topics["irisloop.ingest.frame.captured.v1"]["consumers"] == ["ingest.store-frames"]


def test_help_is_there_before_anything_heavy_is_imported() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from services.local.cli.app import run; run(['--help']); "
        "print([m for m in ('pydantic', 'grpc', 'aiokafka', 'httpx', 'numpy', 'psutil') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines()[-1] == "[]"


def test_tags_are_pairs_and_an_empty_value_removes_one() -> None:
    assert _pairs(["a=1", "b=", "c=x=y"]) == {"a": "1", "b": "", "c": "x=y"}
    with pytest.raises(LocalError, match="not name=value"):
        _pairs(["=1"])
