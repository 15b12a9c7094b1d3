"""Every query of every dashboard on tables that a real run fills, asked as Grafana asks: over ClickHouse's protocol.

The run: the judge on the bus finds a drift and asks for a retraining; a second version answers after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import COMMAND_GIVEN, DRIFT_DETECTED, FRAME_REJECTED, PREDICTION_MADE, RETRAIN_REQUESTED

from services.common.bus import Event, MemoryBus
from services.monitor import wire
from services.monitor.domain.sql import Limits
from services.monitor.inbound import analytics
from tests.integration.sql_house import answering, opened
from tests.unit.monitor.test_stream import drifting, play
from tests.unit.monitor.worlds import EPOCH

FOLDER = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
CAMERA = "camera-0"


async def test_every_query_of_every_dashboard_returns_rows_of_a_real_run(tmp_path: Path) -> None:
    bus = await play(drifting())
    end = await ended(bus)
    warehouse = await opened(tmp_path / "clickhouse")
    async with warehouse:
        analytics.subscribe(bus, warehouse)
        await bus.settle()
        async with (
            answering(warehouse, Limits(30, 100_000, 512)) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http,
        ):
            choices = {
                "model": await column(http, "model"),
                "camera": await column(http, "camera_id"),
                "incident": await column(http, "incident_id", "drifts"),
            }
            numbers = [
                (await http.post("/", content=filled(sql, choices, end))).text.strip()
                for where, kind, sql in queries()
                if where.startswith("irisloop-delivery") and kind == "stat"
            ]
            failed = [
                f"{where}: {problem}"
                for where, kind, sql in queries()
                if (problem := await problem_of(http, kind, filled(sql, choices, end)))
            ]
    assert not failed, "\n".join(failed)
    lead, restore, failures, releases = map(float, numbers)
    assert (lead, failures, releases) == (60, 0.5, 2)
    assert 0 < restore < end - EPOCH


async def ended(bus: MemoryBus) -> float:
    """A second version is champion, the incident is closed with a fault found and acknowledged, a camera is refused a
    frame; the time after all that.
    """
    (request,) = bus.events(RETRAIN_REQUESTED)
    at = wire.seconds(request.value.requested_at) + 60
    for n in range(200):
        await bus.publish([released(n, at + n / 10)])
    closed = pb.DriftDetected()
    closed.CopyFrom(bus.events(DRIFT_DETECTED)[-1].value)
    closed.revision += 10  # the judge goes on meanwhile, and may say more about it
    closed.incident.closed_at.CopyFrom(wire.stamp(at + 30))
    closed.incident.faults.add(camera_id=CAMERA, kind="blur", since=wire.stamp(at - 30), before_asset_id="before")
    await bus.publish([Event(DRIFT_DETECTED, closed.incident.model, closed, "closed", wire.moment(at + 30))])
    known = pb.Acknowledge(incident_id=closed.incident.id)
    command = pb.CommandGiven(id="c", by="ann", why="seen", given_at=wire.stamp(at), acknowledge=known)
    await bus.publish([Event(COMMAND_GIVEN, "c", command, "c", wire.moment(at))])
    rejection = ingest_pb2.Rejection(id="r", camera_id=CAMERA, reason=ingest_pb2.REJECTION_REASON_TRUNCATED)
    rejection.captured_at.CopyFrom(wire.stamp(at))
    rejection.rejected_at.CopyFrom(wire.stamp(at))
    rejected = ingest_pb2.FrameRejected(rejection=rejection)
    await bus.publish([Event(FRAME_REJECTED, CAMERA, rejected, "r", wire.moment(at))])
    return at + 60


def released(n: int, at: float) -> Event[serving_pb2.PredictionMade]:
    value = serving_pb2.Prediction(
        id=f"new-{n}", asset_id=f"new-{n}", camera_id=CAMERA, model="m", version="2", role="champion", latency_ms=4.0
    )
    value.captured_at.CopyFrom(wire.stamp(at))
    value.predicted_at.CopyFrom(wire.stamp(at + 0.2))
    value.scores.add(class_name="class-1", score=0.9)
    made = serving_pb2.PredictionMade(prediction=value)
    return Event(PREDICTION_MADE, f"camera/{CAMERA}", made, value.id, wire.moment(at))


def queries() -> Iterator[tuple[str, str, str]]:
    """(where, kind of panel, SQL); a variable's query too."""
    for file in sorted(FOLDER.glob("*.json")):
        board = json.loads(file.read_text(encoding="utf-8"))
        for variable in board["templating"].get("list", []):
            if variable["type"] == "textbox":
                continue
            yield f"{file.stem}, ${variable['name']}", "variable", variable["query"]
        for panel in board["panels"]:
            for target in panel["targets"]:
                if "rawSql" in target:
                    yield f"{file.stem}, {panel['title']}", panel["type"], target["rawSql"]


def filled(sql: str, choices: dict[str, list[str]], end: float) -> str:
    """As Grafana's data source fills in its macros and variables."""
    low, high = int(EPOCH) - 60, int(end)
    sql = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 >= toDateTime({low}) AND \1 <= toDateTime({high})", sql)
    sql = re.sub(r"\$__timeInterval\(([\w.]+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 20 second)", sql)
    for name, values in choices.items():
        sql = sql.replace("${" + name + ":singlequote}", ", ".join(f"'{value}'" for value in values))
    assert "$" not in sql, sql
    return sql


async def column(http: httpx.AsyncClient, name: str, table: str = "predictions") -> list[str]:
    answer = await http.post("/", content=f"SELECT DISTINCT {name} FROM {table} ORDER BY {name}")
    return answer.text.split()


async def problem_of(http: httpx.AsyncClient, kind: str, sql: str) -> str:
    """What is wrong with an answer; "" when a panel can show it."""
    answer = await http.post("/", content=sql, params={"default_format": "JSONCompact"})
    if answer.status_code != 200:
        return answer.text
    body: dict[str, Any] = answer.json()
    if not body["data"]:
        return "no rows"
    if kind == "timeseries" and not (body["meta"][0]["name"] == "time" and "Date" in body["meta"][0]["type"]):
        return "the first column is not the time"
    if kind == "stat" and (len(body["data"]) != 1 or body["data"][0][0] is None):
        return "not one number"
    return ""
