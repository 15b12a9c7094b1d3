"""What people and programs are told: the same answers over gRPC's messages and HTTP's JSON."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.common.bus import MemoryBus
from services.common.http import create_http
from services.monitor.app import build, read_policy
from services.monitor.domain.events import Request
from services.monitor.errors import AnalyticsClosed, BrokenPolicy, UnknownModel
from services.monitor.handlers import Judge
from services.monitor.inbound.http import routes
from services.monitor.outbound.clickhouse import NoAnalytics
from services.monitor.queries import Reader
from services.monitor.settings import MonitorSettings
from tests.unit.monitor.records import Reading
from tests.unit.monitor.worlds import World, policy


class Counted:
    """Analytics that know of eight right answers among ten."""

    async def accuracy(self, request: pb.GetAccuracyRequest) -> tuple[int, int]:
        return (8, 10) if request.model == "m" else (0, 0)


@pytest.fixture(scope="module")
def judged() -> Judge:
    judge, reading = Judge(policy()), Reading()
    for batch in World(5, frames=6500, shift=1.5, error_after=0.4, uniform=0.1).inputs():
        judge.take(reading.read(batch))
    judge.rest()
    return judge


@pytest.fixture
async def http(judged: Judge) -> AsyncIterator[httpx.AsyncClient]:
    app = create_http("monitor")
    app.include_router(routes(Reader(judged, Counted())))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor") as client:
        yield client


async def test_the_status_names_cameras_channels_the_incident_and_the_open_request(judged: Judge) -> None:
    (model,) = (await Reader(judged, Counted()).status(pb.GetStatusRequest(model="m"))).models
    assert (model.version, model.state) == ("1", pb.MONITOR_STATE_CONFIRMED)
    assert [c.camera_id for c in model.cameras] == [f"camera-{n}" for n in range(5)]
    assert [c.state == pb.MONITOR_STATE_CONFIRMED for c in model.cameras] == [True] * 4 + [False]
    moved = model.cameras[0].channels[0]
    assert moved.statistic > moved.threshold > 0
    assert abs(moved.shift_sigma - 1.5) < 0.7
    assert any(c.channel == "labelled_error" for c in model.cameras[0].channels)
    assert model.incident.harm == pb.DRIFT_HARM_CROSSED
    assert model.risk.current_error > model.risk.baseline_error
    assert model.open_request_id


async def test_a_model_nobody_has_heard_of_is_not_found(judged: Judge, http: httpx.AsyncClient) -> None:
    with pytest.raises(UnknownModel):
        await Reader(judged, Counted()).status(pb.GetStatusRequest(model="nobody"))
    assert (await http.get("/api/v1/status", params={"model": "nobody"})).status_code == 404


async def test_incidents_and_decisions_are_listed_newest_first(judged: Judge, http: httpx.AsyncClient) -> None:
    incidents = (await http.get("/api/v1/incidents")).json()["incidents"]
    assert incidents[0]["state"] == "MONITOR_STATE_CONFIRMED"
    later = {"since": "2100-01-01T00:00:00Z"}
    assert (await http.get("/api/v1/incidents", params=later)).json()["incidents"] == []
    decisions = (await http.get("/api/v1/decisions", params={"model": "m"})).json()["decisions"]
    requests = judged.look(lambda e: [d for d in e.models["m"].decisions if isinstance(d, Request)])
    assert [d["id"] for d in decisions if d["decision"] == "requested"] == [r.id for r in requests]
    assert "predictions a second" in decisions[0]["reason"]


async def test_accuracy_comes_with_its_interval(http: httpx.AsyncClient) -> None:
    answer = (await http.get("/api/v1/accuracy", params={"model": "m", "since": "2026-01-01T00:00:00Z"})).json()
    assert answer["accuracy"] == 0.8
    assert answer["accuracy_low"] < 0.5 < 0.94 < answer["accuracy_high"]


async def test_without_the_role_analytics_accuracy_is_unavailable(judged: Judge) -> None:
    with pytest.raises(AnalyticsClosed):
        await Reader(judged, NoAnalytics()).accuracy(pb.GetAccuracyRequest(model="m"))


async def test_the_roles_decide_what_is_heard() -> None:
    both = build(MonitorSettings(), MemoryBus(service="monitor"))
    assert set(both.tasks) == {"bus", "clickhouse", "sql"}
    server = build(MonitorSettings(clickhouse_url="http://localhost:8123"), MemoryBus(service="monitor"))
    assert set(server.tasks) == {"bus", "clickhouse"}
    alone = build(MonitorSettings(roles=("detection",)), MemoryBus(service="monitor"))
    assert set(alone.tasks) == {"bus"}
    assert any("state" in wait() for wait in alone.ready)


def test_a_policy_that_cannot_be_used_is_named(tmp_path: object) -> None:
    from pathlib import Path

    broken = Path(str(tmp_path)) / "policy.yaml"
    broken.write_text("merge: {}", encoding="utf-8")
    with pytest.raises(BrokenPolicy, match="missing: challenge, channels"):
        read_policy(broken)
    with pytest.raises(BrokenPolicy):
        read_policy(broken.with_name("none.yaml"))
