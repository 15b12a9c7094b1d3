"""Every service's HTTP: health, metrics, and errors of one form that name the field."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import FastAPI, File, Query, UploadFile
from pydantic import BaseModel, Field

from services.common.errors import Conflict, InvalidMessage, IrisloopError, NotFound, Transient, Unavailable
from services.common.http import Principal, create_http
from services.common.telemetry import current_traceparent, new_traceparent, trace_id

ERRORS: dict[str, Exception] = {
    "invalid": InvalidMessage("The id is empty.", field="id", reason="EMPTY"),
    "missing": NotFound("There is no such asset."),
    "conflict": Conflict("The version is refused."),
    "transient": Transient("Try again."),
    "away": Unavailable("Kafka does not answer."),
    "ours": IrisloopError("Something broke."),
    "defect": ValueError("a password: hunter2"),
}


class Site(BaseModel):
    name: str = Field(min_length=1)
    size: int


class State:
    waits = ""


def make(state: State) -> FastAPI:
    app = create_http("sample", lambda: state.waits, max_body_bytes=1_000)

    @app.get("/fail/{kind}")
    async def fail(kind: str) -> None:
        raise ERRORS[kind]

    @app.get("/items")
    async def items(limit: Annotated[int, Query(ge=1, le=10)] = 5) -> int:
        return limit

    @app.post("/sites")
    async def sites(site: Site) -> Site:
        return site

    @app.post("/files")
    async def files(file: Annotated[UploadFile, File()]) -> int:
        return len(await file.read())

    @app.get("/who")
    async def who_calls(who: Principal) -> dict[str, str]:
        return {"who": who, "trace": trace_id(current_traceparent())}

    return app


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def client(state: State) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(make(state), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://sample") as client:
        yield client


def error(answer: httpx.Response) -> dict[str, Any]:
    body = answer.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "field", "reason"}
    found: dict[str, Any] = body["error"]
    return found


async def test_a_live_service_may_be_unready_and_says_what_it_waits_for(
    client: httpx.AsyncClient, state: State
) -> None:
    assert (await client.get("/readyz")).status_code == 200
    state.waits = "kafka"
    answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["waiting_for"] == "kafka"
    assert (await client.get("/healthz")).status_code == 200


async def test_metrics_are_prometheus_text(client: httpx.AsyncClient) -> None:
    await client.get("/fail/missing")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert 'irisloop_common_http_seconds_count{route="/fail/{kind}",status="4xx"}' in answer.text


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("invalid", 400, "EMPTY"),
        ("missing", 404, "NOT_FOUND"),
        ("conflict", 409, "CONFLICT"),
        ("transient", 503, "TRANSIENT"),
        ("away", 503, "UNAVAILABLE"),
        ("ours", 500, "ERROR"),
    ],
)
async def test_our_errors_have_one_status_each(client: httpx.AsyncClient, kind: str, status: int, reason: str) -> None:
    answer = await client.get(f"/fail/{kind}")
    assert answer.status_code == status
    found = error(answer)
    assert (found["reason"], found["message"]) == (reason, str(ERRORS[kind]))
    assert (answer.headers.get("retry-after") is not None) == (status == 503)


async def test_the_field_is_named(client: httpx.AsyncClient) -> None:
    assert error(await client.get("/fail/invalid"))["field"] == "id"
    answer = await client.get("/items?limit=11")
    assert answer.status_code == 400
    assert error(answer)["field"] == "limit"
    answer = await client.post("/sites", json={"name": "", "size": "many"})
    found = error(answer)
    assert found["field"] == "name"
    assert "size: " in found["message"]


async def test_a_defect_tells_the_caller_no_secrets_and_a_trace(client: httpx.AsyncClient) -> None:
    traceparent = new_traceparent()
    answer = await client.get("/fail/defect", headers={"traceparent": traceparent})
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert trace_id(traceparent) in error(answer)["message"]


async def test_unknown_roads_have_the_same_form(client: httpx.AsyncClient) -> None:
    assert error(await client.get("/nowhere"))["reason"] == "NOT_FOUND"
    assert error(await client.post("/items"))["reason"] == "METHOD_NOT_ALLOWED"


async def test_a_body_too_large_is_refused_declared_or_not(client: httpx.AsyncClient) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 100

    declared = await client.post("/sites", content=b"x" * 1_001)
    undeclared = await client.post("/sites", content=chunks())
    form = await client.post("/files", files={"file": b"x" * 2_000})
    for answer in (declared, undeclared, form):
        assert answer.status_code == 413
        assert (error(answer)["reason"], error(answer)["field"]) == ("TOO_LARGE", "body")
    assert (await client.post("/files", files={"file": b"x" * 200})).json() == 200


async def test_the_caller_is_the_local_owner_unless_it_says_otherwise(client: httpx.AsyncClient) -> None:
    assert (await client.get("/who")).json()["who"] == "local-owner"
    answer = await client.get("/who", headers={"x-irisloop-principal": "anna"})
    assert answer.json()["who"] == "anna"


async def test_the_callers_trace_goes_on(client: httpx.AsyncClient) -> None:
    traceparent = new_traceparent()
    answer = await client.get("/who", headers={"traceparent": traceparent})
    assert answer.json()["trace"] == trace_id(traceparent)
