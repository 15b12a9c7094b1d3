"""irisloop monitor: what it asks the monitor, and how it tells the answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from services.local.cli.app import run
from services.local.state import DeploymentState, HomeLock, ProcessState, write_state

INCIDENT = {
    "id": "i-1", "model": "parts", "version": "3", "state": "MONITOR_STATE_CONFIRMED", "cause": "DRIFT_CAUSE_SCENE",
    "harm": "DRIFT_HARM_CROSSED", "shape": "DRIFT_SHAPE_SUDDEN", "detected_at": "2026-05-01T08:00:03.5Z",
    "cameras": ["gate-1"],
}  # fmt: skip
CHANNEL = {"channel": "pixels.sharpness", "statistic": 12.0, "threshold": 16.0, "shift_sigma": -1.25}
FRAME = {
    "asset_id": "a-1", "camera_id": "gate-1", "captured_at": "2026-05-01T08:00:01Z", "class_name": "ok", "score": 0.5,
    "channel": "pixels.sharpness", "value": 0.125,
}  # fmt: skip
ANSWERS: dict[str, object] = {
    "/api/v1/status": {
        "models": [
            {
                "model": "parts", "version": "3", "state": "MONITOR_STATE_CONFIRMED", "open_request_id": "r-1",
                "incident": INCIDENT, "risk": {"current_error": 0.25, "current_labels": "40"},
                "cameras": [
                    {
                        "camera_id": "gate-1", "state": "MONITOR_STATE_ALARM", "predictions": "900",
                        "channels": [{**CHANNEL, "channel": "labelled_error", "statistic": 99.0}, CHANNEL],
                    }
                ],
            }
        ]
    },
    "/api/v1/incidents": {"incidents": [INCIDENT, {**INCIDENT, "id": "i-0", "closed_at": "2026-04-01T00:00:00Z"}]},
    "/api/v1/explanations/i-1": {
        "incident": INCIDENT, "why": ["It is [foggy]."], "before": [FRAME], "after": [], "clears": ["Sun."],
        "unknown": ["When."],
    },
    "/api/v1/predictions": {
        "predictions": [
            {
                "captured_at": "2026-05-01T08:00:01Z", "model": "parts", "version": "3", "role": "champion",
                "camera_id": "gate-1", "error": "", "class_name": "ok", "score": 0.5, "asset_id": "a-1",
            }
        ],
        "next_page_token": "more",
    },
    "/api/v1/quality": {
        "segments": [
            {
                "version": "3", "role": "champion", "camera_id": "gate-1", "labels": "40", "accuracy": 0.75,
                "risk": {
                    "labels": "30", "weighted_error": 0.2, "low": 0.125, "high": 0.375, "answered": 0.5,
                    "provisional": True, "anytime_valid": False, "corrected": "2",
                },
                "boxes": {
                    "map": 0.5, "map50": 0.75, "loss": 0.2,
                    "classes": [
                        {
                            "class_name": "lamp", "labels": "9", "predictions": "8", "right": "6", "precision": 0.75,
                            "ap": 0.5, "ap50": 0.75,
                        }
                    ],
                },
            }
        ]
    },
    "/api/v1/plots/channels.svg": b"<svg/>",
    "/api/v1/report": b"<!doctype html>",
}  # fmt: skip
EMPTY: dict[str, object] = {
    "/api/v1/incidents": {"incidents": []},
    "/api/v1/predictions": {"predictions": [], "next_page_token": ""},
}
"""Lists answer an unknown model with nothing, as monitor does."""
REFUSAL = {
    "error": {"message": "nothing has been heard of model 'nobody'", "field": "model", "reason": "UNKNOWN_MODEL"}
}


Questions = list[tuple[str, dict[str, list[str]]]]


class Monitor(BaseHTTPRequestHandler):
    """Answers as above and notes what it was asked."""

    asked: Questions

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        self.asked.append((parts.path, query))
        lists = parts.path in EMPTY
        refused = query.get("model") == ["nobody"] and not lists
        unknown = query.get("model", ["parts"]) != ["parts"]
        answer = REFUSAL if refused else EMPTY[parts.path] if lists and unknown else ANSWERS[parts.path]
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(404 if refused else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing to the terminal."""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Questions]:
    """A monitor that runs here; the questions it was asked."""
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))

    class Asked(Monitor):
        asked: Questions = []  # noqa: RUF012 - this test's own

    server = HTTPServer(("127.0.0.1", 0), Asked)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    (tmp_path / "run").mkdir()
    process = ProcessState("monitor", "ready", pid=7, http_port=server.server_port, grpc_port=8161)
    write_state(tmp_path / "run", DeploymentState(str(tmp_path), processes={"monitor": process}))
    with HomeLock(tmp_path / "run"):
        yield Asked.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_status_tells_models_cameras_and_the_furthest_channel(
    asked: Questions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["monitor", "status", "--model", "parts"]) == 0
    said = capsys.readouterr().out
    assert "parts version 3 is confirmed; labelled error 0.250; incident i-1; a retraining is asked for." in said
    assert "pixels.sharpness -1.25 sigma, 75% of its threshold" in said
    assert asked == [("/api/v1/status", {"model": ["parts"]})]


def test_history_tells_what_is_open_and_what_is_over(asked: Questions, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitor", "history", "--since", "2026-01-01", "--limit", "7"]) == 0
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split() == [
        "i-1", "parts", "3", "2026-05-01", "08:00:03", "open", "confirmed", "scene", "crossed", "sudden", "gate-1",
    ]  # fmt: skip
    assert "2026-04-01 00:00:00  over" in second
    assert asked[0][1] == {"since": ["2026-01-01T00:00:00+00:00"], "limit": ["7"]}


def test_a_time_may_be_how_long_ago(asked: Questions) -> None:
    assert run(["monitor", "history", "--since", "90m"]) == 0
    since = datetime.fromisoformat(asked[0][1]["since"][0])
    assert timedelta(minutes=89) < datetime.now(UTC) - since < timedelta(minutes=95)


def test_explain_tells_all_parts_with_links_to_the_frames(asked: Questions, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["monitor", "explain", "i-1"]) == 0
    said = capsys.readouterr().out
    assert "It is [foggy]." in said
    assert "/api/v1/assets/a-1/content" in said
    assert "Sun." in said
    assert "When." in said
    assert "Frames after" not in said


def test_predictions_pass_every_filter_on_and_say_how_to_go_on(
    asked: Questions, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "--model parts --version 3 --role champion --camera gate-1 --class ok --min-score 0.2 --max-score 0.6"
    more = "--since 2026-05-01T00:00Z --until 2026-05-02 --limit 5 --page t"
    assert run(["monitor", "predictions", *words.split(), *more.split()]) == 0
    assert "--page more" in capsys.readouterr().out
    assert asked[0][1] == {
        "model": ["parts"], "version": ["3"], "role": ["champion"], "camera_id": ["gate-1"], "class_name": ["ok"],
        "min_score": ["0.2"], "max_score": ["0.6"], "since": ["2026-05-01T00:00:00+00:00"],
        "until": ["2026-05-02T00:00:00+00:00"], "limit": ["5"], "page_token": ["t"],
    }  # fmt: skip


def test_plots_and_reports_are_written_to_a_file(asked: Questions, tmp_path: Path) -> None:
    svg, page = tmp_path / "a.svg", tmp_path / "r.html"
    channels = ["--channel", "energy", "--channel", "class.ok"]
    assert run(["monitor", "plot", "channels", "--model", "parts", *channels, "-o", str(svg)]) == 0
    assert run(["monitor", "report", "--model", "parts", "--camera", "gate-1", "-o", str(page)]) == 0
    assert (svg.read_bytes(), page.read_bytes()) == (b"<svg/>", b"<!doctype html>")
    assert asked[0][1]["channel"] == ["energy", "class.ok"]
    assert asked[1][1]["camera_id"] == ["gate-1"]
    assert asked[1][1]["assets_url"][0].startswith("http://")


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["report", "--model", "nobody", "-o", "{}/r.html"], 1, "nothing has been heard of model 'nobody'"),
        (["plot", "channels", "--model", "parts", "-o", "{}/a.gif"], 1, "ends in .svg or .png"),
        (["plot", "nonsense", "--model", "parts", "-o", "{}/a.svg"], 2, "nonsense"),
        (["report", "--model", "parts", "-o", "{}/none/r.html"], 1, "cannot be written"),
        (["history", "--model", "nobody"], 1, "nothing has been heard of model 'nobody'"),
        (["predictions", "--model", "nobody"], 1, "nothing has been heard of model 'nobody'"),
        (["history", "--since", "yesterday"], 1, "'yesterday' is neither a time"),
        (["predictions", "--min-score", "2"], 2, "--min-score"),
        (["report"], 2, "--model"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    asked: Questions, tmp_path: Path, words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["monitor", *(word.format(tmp_path) for word in words)]) == code
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert not (tmp_path / "r.html").exists()


def test_a_monitor_that_does_not_run_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("IRISLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("IRISLOOP_ADDRESSES__MONITOR", "127.0.0.1:1")
    (tmp_path / "run").mkdir()
    process = ProcessState("monitor", "waiting", pid=7, http_port=1, waiting_for="the judge's state")
    write_state(tmp_path / "run", DeploymentState(str(tmp_path), processes={"monitor": process}))
    with HomeLock(tmp_path / "run"):
        assert run(["monitor", "status"]) == 1
    assert "waits for the judge's state" in capsys.readouterr().err


def test_quality_tells_the_error_its_doubts_and_how_boxes_fit(
    asked: Questions, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["monitor", "quality", "--model", "parts", "--by", "camera", "--since", "2026-05-01"]) == 0
    said = capsys.readouterr().out
    assert "0.200 (0.125 - 0.375)" in said
    assert "provisional: about 50% of the draw is answered" in said
    assert "not anytime-valid: 2 labels were corrected" in said
    assert "Boxes of version 3 champion gate-1: mAP 0.500, mAP50 0.750; loss 0.200." in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("lamp")]
    assert row == ["lamp", "9", "8", "0.750", "unknown", "0.500", "0.750", "unknown", "unknown"]
    assert asked == [
        ("/api/v1/quality", {"model": ["parts"], "by": ["camera"], "since": ["2026-05-01T00:00:00+00:00"]})
    ]
