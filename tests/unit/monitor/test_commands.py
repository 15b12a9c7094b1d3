"""What people ask of incidents, from the call to the judge and back: by gRPC and HTTP, on the bus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import CAMERA_CHANGED, COMMAND_GIVEN

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.errors import Conflict, InvalidMessage, NotFound, Unavailable
from services.common.http import create_http
from services.common.metrics import BUS_LOST
from services.monitor.commands import Commands
from services.monitor.domain.case import Case
from services.monitor.domain.events import Cause, Incident
from services.monitor.domain.model import ModelWatch
from services.monitor.handlers import Judge
from services.monitor.inbound.http import routes
from services.monitor.inbound.http_incidents import routes as incident_routes
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import NoAnalytics
from services.monitor.queries import Reader
from services.monitor.wire_fleet import command_event
from tests.unit.monitor.worlds import policy

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@dataclass
class House:
    """A judge with one open incident, its bus, and a clock that stands still."""

    judge: Judge = field(default_factory=lambda: Judge(policy()))
    bus: MemoryBus = field(default_factory=lambda: MemoryBus(MemoryBroker(), service="monitor"))
    waiting: str = ""

    def __post_init__(self) -> None:
        self.bus.stream(DriftStream(self.judge, pace=0.0).stream())
        self.commands = Commands(self.judge, self.bus.publish, lambda: self.waiting, lambda: NOW)
        self.reader = Reader(self.judge, NoAnalytics())

    async def open(self) -> House:
        await self.bus.settle()
        watch = ModelWatch("m", "1")
        at = NOW.timestamp() - 60.0
        watch.cases.append(Case("incident-1", "m", "1", "", "a", at, Cause.SCENE, cameras=["c1"], alarmed=["c1"]))
        watch.cases[0].plan_id = "held"  # Nothing closes it meanwhile.
        self.judge.look(lambda engine: engine.models.update({"m": watch}))
        return self

    async def incident(self) -> pb.Incident:
        await self.bus.settle()
        await self.bus.settle()
        return (await self.reader.incident(pb.GetIncidentRequest(id="incident-1"))).incident


@pytest.fixture
async def house() -> House:
    return await House().open()


async def test_an_acknowledgement_is_an_event_and_stands_in_the_history_once(house: House) -> None:
    request = pb.AcknowledgeIncidentRequest(id="incident-1", why="on my way")
    first = await house.commands.acknowledge(request, "ada")
    assert await house.commands.acknowledge(request, "ada") == first
    (one, two) = house.bus.events(COMMAND_GIVEN)
    assert one.ce_id == two.ce_id
    found = await house.incident()
    assert (found.acknowledged_by, found.acknowledged_at.ToDatetime(tzinfo=UTC)) == ("ada", NOW)
    assert [(h.what, h.by, h.why) for h in found.history] == [("acknowledged", "ada", "on my way")]


async def test_a_mute_ends_when_it_says(house: House) -> None:
    request = pb.MuteIncidentRequest(id="incident-1", why="known")
    request.until.FromDatetime(NOW + timedelta(hours=2))
    await house.commands.mute(request, "ada")
    found = await house.incident()
    assert found.muted
    assert found.muted_until.ToDatetime(tzinfo=UTC) == NOW + timedelta(hours=2)


async def test_a_plan_is_announced_listed_and_cancelled(house: House) -> None:
    request = pb.PlanChangeRequest(cameras=["gate-*"], labels={"site": "hall-2"}, why="new lamps")
    request.starts_at.FromDatetime(NOW)
    request.ends_at.FromDatetime(NOW + timedelta(hours=4))
    _, plan_id = await house.commands.plan(request, "ada")
    await house.incident()
    (plan,) = await house.commands.plans(True)
    assert (plan.id, plan.cameras, dict(plan.labels), plan.by) == (plan_id, ("gate-*",), {"site": "hall-2"}, "ada")
    await house.commands.cancel(pb.CancelPlanRequest(plan_id=plan_id), "bob")
    await house.incident()
    assert await house.commands.plans(True) == []
    (plan,) = await house.commands.plans(False)
    assert plan.cancelled_by == "bob"


async def test_going_on_without_missing_records_stands_in_the_history_of_open_incidents_and_is_counted(
    house: House,
) -> None:
    before = BUS_LOST.labels("judge-drift")._value.get()
    command = pb.CommandGiven(id="gone", by="ada", why="disk full")
    command.given_at.FromDatetime(NOW + timedelta(days=2))
    command.accept_gaps.handler = "judge-drift"
    command.accept_gaps.gaps.add(topic="t.v1", partition=3, wanted=100, oldest=150)
    command.accept_gaps.judged_until.FromDatetime(NOW)
    await house.bus.publish([command_event(command)])
    found = await house.incident()
    (line,) = found.history
    assert (line.what, line.by, line.at.ToDatetime(tzinfo=UTC)) == ("records missing", "ada", NOW)
    assert line.why == "disk full; judge-drift goes on without offsets of t.v1/3 from 100 to 150"
    assert BUS_LOST.labels("judge-drift")._value.get() == before + 50


async def test_what_a_camera_is_comes_from_ingest(house: House) -> None:
    camera = ingest_pb2.Camera(id="gate-1", site="hall-2", tags={"firmware": "2.1"})
    await house.bus.publish([Event(CAMERA_CHANGED, "gate-1", ingest_pb2.CameraChanged(camera=camera), "k", NOW)])
    await house.incident()
    labels = house.judge.look(lambda engine: dict(engine.board.labels("gate-1")))
    assert labels == {"site": "hall-2", "firmware": "2.1"}


def _plan(**more: Any) -> pb.PlanChangeRequest:
    request = pb.PlanChangeRequest(**{"cameras": ["c"], "why": "lamps", **more})
    request.starts_at.FromDatetime(NOW)
    if not request.HasField("ends_at"):
        request.ends_at.FromDatetime(NOW + timedelta(hours=1))
    return request


async def test_bad_commands_are_refused_by_field(house: House) -> None:
    with pytest.raises(NotFound, match="no incident 'x'"):
        await house.commands.acknowledge(pb.AcknowledgeIncidentRequest(id="x"), "ada")
    with pytest.raises(InvalidMessage, match="a reason is needed to mute") as found:
        await house.commands.mute(pb.MuteIncidentRequest(id="incident-1"), "ada")
    assert found.value.field == "why"
    late = pb.MuteIncidentRequest(id="incident-1", why="known")
    late.until.FromDatetime(NOW)
    with pytest.raises(InvalidMessage, match="until has to lie in the future"):
        await house.commands.mute(late, "ada")
    with pytest.raises(InvalidMessage, match="names 1 to 200 cameras"):
        await house.commands.plan(_plan(cameras=[]), "ada")
    over = _plan()
    over.ends_at.FromDatetime(NOW)
    with pytest.raises(InvalidMessage, match="after starts_at"):
        await house.commands.plan(over, "ada")
    with pytest.raises(NotFound, match="no plan 'x'"):
        await house.commands.cancel(pb.CancelPlanRequest(plan_id="x"), "ada")
    assert house.bus.events(COMMAND_GIVEN) == []


async def test_a_closed_incident_is_not_muted(house: House) -> None:
    def close(watch: ModelWatch) -> Incident:
        case = watch.cases.pop()
        case.closed_at = NOW.timestamp()
        watch.remember(case.incident())
        return case.incident()

    house.judge.look(lambda engine: close(engine.models["m"]))
    with pytest.raises(Conflict, match="is closed"):
        await house.commands.mute(pb.MuteIncidentRequest(id="incident-1", why="known"), "ada")
    await house.commands.acknowledge(pb.AcknowledgeIncidentRequest(id="incident-1"), "ada")
    assert (await house.incident()).acknowledged_by == "ada"


async def test_a_monitor_that_does_not_judge_says_so(house: House) -> None:
    house.waiting = "the judge's state"
    with pytest.raises(Unavailable, match="waits for the judge's state"):
        await house.commands.acknowledge(pb.AcknowledgeIncidentRequest(id="incident-1"), "ada")


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    http: FastAPI = create_http("monitor")
    http.include_router(routes(house.reader))
    http.include_router(incident_routes(house.reader, house.commands))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=http), base_url="http://monitor") as opened:
        yield opened


async def test_http_says_the_same(house: House, client: httpx.AsyncClient) -> None:
    headers = {"x-irisloop-principal": "ada"}
    answer = await client.post("/api/v1/incidents/incident-1/acknowledge", json={"why": "mine"}, headers=headers)
    assert answer.status_code == 202
    await house.incident()
    shown = (await client.get("/api/v1/incidents/incident-1")).json()
    assert (shown["acknowledged_by"], shown["history"][0]["why"]) == ("ada", "mine")
    assert (await client.get("/api/v1/incidents/x")).status_code == 404
    assert (await client.post("/api/v1/incidents/incident-1/mute", json={})).status_code == 400
    plan = {"cameras": ["c"], "why": "lamps", "starts_at": NOW.isoformat(), "ends_at": "2026-03-01T14:00:00Z"}
    plan_id = (await client.post("/api/v1/plans", json=plan, headers=headers)).json()["plan_id"]
    await house.incident()
    assert [p["id"] for p in (await client.get("/api/v1/plans", params={"open": True})).json()["plans"]] == [plan_id]
    assert (await client.post(f"/api/v1/plans/{plan_id}/cancel", json={}, headers=headers)).status_code == 202
