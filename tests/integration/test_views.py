"""Explanations, pictures and the report of a real run: the judge on the bus finds a drift, analytics hold its rows."""

from __future__ import annotations

import io
import re
from collections.abc import AsyncIterator
from html import unescape
from xml.etree import ElementTree

import httpx
import pytest
import pytest_asyncio
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import ALERT_RAISED, DRIFT_DETECTED
from PIL import Image

from services.common.bus import MemoryBus
from services.common.http import create_http
from services.monitor import wire
from services.monitor.domain.history import Span
from services.monitor.domain.policy import QualityPolicy
from services.monitor.domain.quality.tally import Tally
from services.monitor.domain.retraining import derive
from services.monitor.handlers import Judge
from services.monitor.inbound import analytics
from services.monitor.inbound.http_views import view_routes
from services.monitor.inbound.stream import DriftStream
from services.monitor.outbound.clickhouse import ClickHouse
from services.monitor.outbound.history import ClickHouseHistory
from services.monitor.queries import Reader
from services.monitor.views.pictures import KINDS
from tests.integration.sql_house import opened
from tests.unit.monitor.test_stream import drifting
from tests.unit.monitor.worlds import EPOCH, policy

pytestmark = pytest.mark.asyncio(loop_scope="module")  # One run serves all: nobody changes it.
SPAN = Span(EPOCH - 60, EPOCH + 120)
RANGE = {"since": "2023-11-14T22:12:00Z", "until": "2023-11-14T22:16:00Z"}


class House:
    """One run's judge and analytics, asked over HTTP."""

    def __init__(self, bus: MemoryBus, judge: Judge, warehouse: ClickHouse) -> None:
        self.bus, self.judge = bus, judge
        self.history = ClickHouseHistory(warehouse, QualityPolicy())
        self.reader = Reader(judge, warehouse, self.history)
        app = create_http("monitor")
        app.include_router(view_routes(self.reader))
        self.http = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://monitor")

    def incident(self) -> pb.Incident:
        """In the judge's last word about it."""
        incident: pb.Incident = self.bus.events(DRIFT_DETECTED)[-1].value.incident
        return incident


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    judge, bus = Judge(policy()), MemoryBus(service="monitor")
    bus.stream(DriftStream(judge, pace=0.0).stream())
    warehouse = await opened(tmp_path_factory.mktemp("views") / "clickhouse")
    async with warehouse:
        analytics.subscribe(bus, warehouse)
        for number, batch in enumerate(drifting()):
            await bus.publish(batch)
            if number % 10 == 9:
                await bus.settle()
        await bus.settle()
        await bus.settle()
        made = House(bus, judge, warehouse)
        async with made.http:
            yield made


async def test_an_incident_is_explained_with_channels_and_frames_of_before_and_after(house: House) -> None:
    said = house.incident()
    body = (await house.http.get(f"/api/v1/explanations/{said.id}")).json()
    assert body["incident"]["id"] == said.id
    assert sum("sigma of the reference" in text for text in body["why"]) == 5
    assert any("Labelled error" in text for text in body["why"])
    began = said.began_at.ToJsonString()
    assert [frame["captured_at"] < began for frame in body["before"]] == [True] * 3
    assert [frame["captured_at"] >= began for frame in body["after"]] == [True] * 3
    told = next(e for e in said.evidence if e.channel == body["after"][0]["channel"])
    assert body["after"][0]["value"] == pytest.approx(told.current_mean, abs=0.2)
    assert body["before"][0]["value"] == pytest.approx(told.reference_mean, abs=0.2)
    assert any("below half of its threshold" in text for text in body["clears"])


async def test_an_alert_is_explained_by_its_incident_and_a_stranger_is_not_found(house: House) -> None:
    said = house.incident()
    alert = derive("alert", said.id, "page")
    body = (await house.http.get(f"/api/v1/explanations/{alert}")).json()
    assert body["incident"]["id"] == said.id
    unknown = await house.http.get("/api/v1/explanations/nobody")
    assert (unknown.status_code, unknown.json()["error"]["reason"]) == (404, "UNKNOWN_INCIDENT")


async def test_pages_of_predictions_hold_each_one_once_and_only_what_was_asked_for(house: House) -> None:
    asked: dict[str, str | int] = {"model": "m", "camera_id": "camera-1", "class_name": "class-3", "limit": 50, **RANGE}
    found: list[dict[str, str]] = []
    while True:
        body = (await house.http.get("/api/v1/predictions", params=asked)).json()
        found += body["predictions"]
        if not body["next_page_token"]:
            break
        assert len(body["predictions"]) == 50
        asked["page_token"] = body["next_page_token"]
    (count,) = await house.history._rows.query(
        "SELECT count() FROM predictions WHERE camera_id = 'camera-1' AND class_name = 'class-3'"
    )
    assert len(found) == len({one["id"] for one in found}) == count[0] > 100
    assert {(one["camera_id"], one["class_name"]) for one in found} == {("camera-1", "class-3")}
    times = [one["captured_at"] for one in found]
    assert times == sorted(times, reverse=True)
    none = await house.http.get("/api/v1/predictions", params={"model": "m", "max_score": 0.5})
    assert none.json()["predictions"] == []


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"min_score": 0.9, "max_score": 0.1}, "min_score"),
        ({"max_score": 1.5}, "min_score"),
        ({"page_token": "???"}, "page_token"),
        ({"since": RANGE["until"], "until": RANGE["since"]}, "since"),
    ],
)
async def test_an_odd_filter_is_named(house: House, params: dict[str, str], field: str) -> None:
    answer = await house.http.get("/api/v1/predictions", params=params)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_labels_over_time_add_up_to_what_the_judge_counts(house: House) -> None:
    scored = await house.history.scored("m", [], SPAN, 24)
    whole, drawn = Tally(), Tally()
    for one in scored:
        whole.add(one.all)
        drawn.add(one.drawn)
    assert len(scored) > 5
    cells = house.judge.look(lambda engine: dict(engine.truth.cells))
    counted, uniform = Tally(), Tally()
    for cell, tally in cells.items():
        counted.add(tally)
        if cell.drawn:
            uniform.add(tally)
    assert whole.confusion == counted.confusion
    assert (whole.labels, drawn.labels) == (counted.labels, uniform.labels)
    assert (drawn.outcomes, drawn.weight, drawn.wrong_weight) == (
        uniform.outcomes,
        uniform.weight,
        uniform.wrong_weight,
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_plot_is_a_picture_whose_words_can_be_read(house: House, kind: str) -> None:
    asked = {"model": "m", **RANGE}
    png = await house.http.get(f"/api/v1/plots/{kind}.png", params=asked)
    assert (png.status_code, png.headers["content-type"]) == (200, "image/png")
    picture = Image.open(io.BytesIO(png.content))
    assert picture.width == 900
    colours = picture.convert("RGB").getcolors(1 << 20)
    assert colours is not None
    assert len(colours) > 20
    svg = await house.http.get(f"/api/v1/plots/{kind}.svg", params=asked)
    assert svg.headers["content-type"] == "image/svg+xml"
    texts = [
        "".join(node.itertext()) for node in ElementTree.fromstring(svg.content).iter() if node.tag.endswith("}text")
    ]
    wanted = {
        "channels": {"camera-0", "alarm", "as in the reference", "event time, UTC"},
        "quality": {"version 1, labels (95 %)", "alarm", "accuracy (share of right answers)"},
        "confusion": {"class-0", "prediction", "label"},
        "calibration": {"accuracy (share right)", "confidence (top score, 0..1)", "frames"},
    }[kind]
    assert wanted <= set(texts)


async def test_a_plot_is_the_same_when_it_is_drawn_again(house: House) -> None:
    asked = {"model": "m", "channel": ["pixels.contrast", "class.class-1"], "camera_id": "camera-1", **RANGE}
    one, two = [(await house.http.get("/api/v1/plots/channels.svg", params=asked)).content for _ in range(2)]
    assert one == two
    assert b"class.class-1" in one
    assert b"camera-2" not in one


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("plots/channels.svg", {"model": "m", "channel": "nonsense"}, 400),
        ("plots/nonsense.svg", {"model": "m"}, 400),
        ("plots/channels.gif", {"model": "m"}, 400),
        ("plots/channels.svg", {"model": "nobody"}, 404),
        ("report", {"model": "nobody"}, 404),
        ("report", {"model": "m", "since": RANGE["until"], "until": RANGE["since"]}, 400),
        ("report", {"model": "m", "assets_url": "javascript:alert(1)"}, 400),
    ],
)
async def test_what_cannot_be_drawn_is_said(house: House, path: str, params: dict[str, str], status: int) -> None:
    answer = await house.http.get(f"/api/v1/{path}", params={**RANGE, **params})
    assert answer.status_code == status
    assert answer.json()["error"]["message"]


async def test_the_report_is_one_page_that_fetches_nothing(house: House) -> None:
    asked = {"model": "m", "assets_url": "http://localhost:8110", **RANGE}
    answer = await house.http.get("/api/v1/report", params=asked)
    assert answer.status_code == 200
    page = answer.text
    assert not re.search(r"<script|<link|<iframe|@import|\ssrc=", page)
    assert all(one.startswith("#") for one in re.findall(r"url\(([^)]*)\)", page))
    outside = {one for one in re.findall(r'href="([^"]*)"', page) if not one.startswith(("#", "data:"))}
    assert outside
    assert all(one.startswith("http://localhost:8110/api/v1/assets/") for one in outside)
    assert page.count('<svg role="img"') == 4
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


async def test_the_report_holds_the_judges_own_numbers(house: House) -> None:
    page = unescape((await house.http.get("/api/v1/report", params={"model": "m", **RANGE})).text)
    status = (await house.reader.status(pb.GetStatusRequest(model="m"))).models[0]
    said = house.incident()
    quality = (await house.reader.quality(pb.GetQualityRequest(model="m"))).segments[0]
    assert f'<p class="state">{pb.MonitorState.Name(status.state).removeprefix("MONITOR_STATE_")}</p>' in page
    assert said.id in page
    assert f"{100 * (1 - quality.risk.weighted_error):.1f} %" in page
    assert f"{quality.labels:,}</td>" in page
    for evidence in status.incident.evidence:
        assert f"{evidence.shift_sigma:+.2f}" in page
    decisions = (await house.reader.decisions(pb.ListDecisionsRequest(model="m"))).decisions
    assert decisions
    for decision in decisions:
        assert decision.reason in page
    alerts = [d.value for d in house.bus.events(ALERT_RAISED)]
    assert alerts
    for alert in alerts:
        assert f"alert ({alert.severity})</td><td>{alert.summary}" in page
    assert "Accuracy of version 1 without labels" in page  # one hour of labels calibrates nothing
    (rows,) = await house.history._rows.query("SELECT count() FROM predictions")
    assert f'<td class="n">{rows[0]:,}</td>' in page


async def test_incidents_that_the_judge_has_forgotten_are_told_without_evidence(house: House) -> None:
    said = house.incident()
    (kept,) = await house.history.incidents("m", SPAN)
    assert (kept.id, kept.evidence) == (said.id, ())
    assert kept.began_at == pytest.approx(wire.seconds(said.began_at))
    assert (int(kept.cause), int(kept.harm), int(kept.shape)) == (said.cause, said.harm, said.shape)
    assert await house.history.incidents("m", Span(EPOCH - 900, EPOCH - 600)) == []
    assert await house.history.incidents("other", SPAN) == []
