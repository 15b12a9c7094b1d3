"""HTTP and gRPC over the same handlers: the same answers, the callers' names, one form of errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.registry.v1 import registry_pb2 as pb
from irisloop.registry.v1 import registry_pb2_grpc

from services.common.bus import MemoryBus
from services.common.errors import Conflict, InvalidMessage, NotFound
from services.common.grpc import call, channel, create_grpc
from services.common.http import create_http
from services.common.settings import CommonSettings
from services.registry.app import build
from services.registry.domain.policy import Policy
from services.registry.inbound.grpc import RegistryServicer
from services.registry.inbound.http import routes
from services.registry.settings import RegistrySettings
from services.registry.wire import timestamp
from tests.unit.registry.world import START, World, better, report, run, world

if TYPE_CHECKING:
    from irisloop.registry.v1.registry_pb2_grpc import RegistryServiceAsyncStub as Stub


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path, Policy(models="asked-*", approvals=1), Policy()) as one:
        await one.hear(run("run-1"), run("run-2", better("1")), run("run-3", report({"all": 0.1})))
        await one.hear(run("run-4", model="asked-1"))
        yield one


@pytest.fixture
async def stub(registry: World) -> AsyncIterator[Stub]:
    servicer = RegistryServicer(registry.handlers)
    served = create_grpc(lambda server: registry_pb2_grpc.add_RegistryServiceServicer_to_server(servicer, server))
    port = served.server.add_insecure_port("127.0.0.1:0")
    await served.server.start()
    async with channel(f"127.0.0.1:{port}") as connection:
        yield registry_pb2_grpc.RegistryServiceStub(connection)
    await served.server.stop(None)


@pytest.fixture
async def client(registry: World) -> AsyncIterator[httpx.AsyncClient]:
    app = create_http("registry")
    app.include_router(routes(registry.handlers))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://registry") as one:
        yield one


async def test_grpc_reads(stub: Stub) -> None:
    models = (await call(stub.ListModels, pb.ListModelsRequest())).models
    assert [model.name for model in models] == ["asked-1", "garments"]
    one = (await call(stub.GetModel, pb.GetModelRequest(model="garments"))).model
    assert {alias.name: alias.version for alias in one.aliases} == {"champion": "2", "previous": "1", "shadow": "1"}
    assert one == models[1]
    by_alias = await call(stub.GetVersion, pb.GetVersionRequest(model="garments", version="previous"))
    by_number = await call(stub.GetVersion, pb.GetVersionRequest(model="garments", version="1"))
    assert by_alias.version == by_number.version
    assert by_alias.version.run_id == "run-1"
    listed = (await call(stub.ListVersions, pb.ListVersionsRequest(model="garments"))).versions
    assert [version.version for version in listed] == ["1", "2", "3"]
    assert listed[0] == by_alias.version
    of_run = await call(stub.ListVersions, pb.ListVersionsRequest(run_id="run-4"))
    assert [version.model for version in of_run.versions] == ["asked-1"]
    later = pb.ListVersionsRequest(since=Timestamp(seconds=timestamp(START).seconds + 3600))
    assert not (await call(stub.ListVersions, later)).versions


async def test_grpc_history_is_paged(stub: Stub) -> None:
    moves: list[pb.AliasMove] = []
    cursor = ""
    while True:
        page = await call(stub.ListHistory, pb.ListHistoryRequest(model="garments", limit=3, cursor=cursor))
        moves += page.moves
        cursor = page.next_cursor
        if not cursor:
            break
    assert [(move.alias, move.to_version) for move in moves] == [
        ("shadow", "1"),
        ("previous", "1"),
        ("champion", "2"),
        ("champion", "1"),
    ]
    assert len({move.id for move in moves}) == 4
    assert (await call(stub.ListHistory, pb.ListHistoryRequest(model="garments"))).moves == moves


async def test_grpc_writes_bear_the_callers_name(stub: Stub) -> None:
    rolled = await call(stub.Rollback, pb.RollbackRequest(model="garments", reason="worse"), principal="ann")
    assert {alias.name: alias.version for alias in rolled.model.aliases} == {"champion": "1", "previous": "2"}
    await call(stub.Promote, pb.PromoteRequest(model="garments", version="previous"), principal="bob")
    await call(stub.SetAlias, pb.SetAliasRequest(model="garments", alias="canary", version="3"), principal="carl")
    moves = (await call(stub.ListHistory, pb.ListHistoryRequest(model="garments", limit=4))).moves
    assert [(move.alias, move.moved_by) for move in moves[:2]] == [("canary", "carl"), ("shadow", "bob")]
    approved = pb.ApproveRequest(model="asked-1", version="1", approve=True)
    assert (await call(stub.Approve, approved)).version.state == pb.VERSION_STATE_ACCEPTED
    request = pb.RegisterVersionRequest(model="foreign", package=run().package, class_names=["a", "b"])
    registered = (await call(stub.RegisterVersion, request, principal="eve")).version
    assert (registered.version, registered.registered_by, list(registered.class_names)) == ("1", "eve", ["a", "b"])


async def test_grpc_rollouts_begin_change_and_end(stub: Stub) -> None:
    request = pb.PutRolloutRequest(model="garments", challenger="previous", stage=pb.STAGE_CANARY, share=0.1)
    begun = (await call(stub.PutRollout, request, principal="ann")).rollout
    assert (begun.challenger, begun.champion, begun.started_by, begun.automatic) == ("1", "2", "ann", False)
    assert begun.id == begun.salt
    request.share = 0.3
    changed = (await call(stub.PutRollout, request, principal="bob")).rollout
    assert (changed.id, [(arm.name, arm.share) for arm in changed.arms]) == (begun.id, [("canary", 0.3)])
    assert (await call(stub.GetModel, pb.GetModelRequest(model="garments"))).model.rollout == changed
    ended = await call(stub.EndRollout, pb.EndRolloutRequest(model="garments", reason="enough"), principal="carl")
    assert not ended.model.HasField("rollout")
    moves = (await call(stub.ListHistory, pb.ListHistoryRequest(model="garments", limit=1))).moves
    assert [(one.alias, one.from_version, one.to_version, one.moved_by, one.reason) for one in moves] == [
        ("rollout/canary", "1", "", "carl", "enough")
    ]


async def test_http_rollouts_begin_and_end(client: httpx.AsyncClient) -> None:
    url = "/api/v1/models/garments/rollout"
    arms = [{"name": "b", "version": "1", "share": 0.2}]
    begun = await client.put(url, json={"stage": "experiment", "arms": arms}, headers={"x-irisloop-principal": "ann"})
    assert (begun.json()["stage"], begun.json()["started_by"], begun.json()["arms"]) == (
        "STAGE_EXPERIMENT",
        "ann",
        arms,
    )
    assert (await client.get("/api/v1/models/garments")).json()["rollout"] == begun.json()
    other = await client.put(url, json={"stage": "shadow", "challenger": "1"})
    assert (other.status_code, other.json()["error"]["reason"]) == (409, "ROLLOUT_UNDER_WAY")
    assert "rollout" not in (await client.delete(url, params={"reason": "enough"})).json()
    again = await client.delete(url)
    assert (again.status_code, again.json()["error"]["reason"]) == (409, "NOTHING_UNDER_WAY")
    for body, field in (
        ({"stage": "green", "challenger": "1"}, "stage"),
        ({"stage": "watch", "challenger": "1"}, "stage"),
        ({"stage": "canary", "challenger": "1", "share": 2}, "share"),
    ):
        refused = await client.put(url, json=body)
        assert (refused.status_code, refused.json()["error"]["field"].split(".")[-1]) == (400, field)


async def test_grpc_errors_name_the_field(stub: Stub) -> None:
    for method, request, field in (
        (stub.GetModel, pb.GetModelRequest(), "model"),
        (stub.GetVersion, pb.GetVersionRequest(model="garments"), "version"),
        (stub.Promote, pb.PromoteRequest(model="garments"), "version"),
        (stub.SetAlias, pb.SetAliasRequest(model="garments", alias="champion", version="1"), "alias"),
        (stub.ListHistory, pb.ListHistoryRequest(model="garments", limit=1001), "limit"),
        (stub.ListHistory, pb.ListHistoryRequest(model="garments", cursor="x"), "cursor"),
        (stub.ListHistory, pb.ListHistoryRequest(model="garments", cursor="9" * 40), "cursor"),
        (stub.ListVersions, pb.ListVersionsRequest(since=Timestamp(seconds=1 << 60)), "since"),
        (stub.PutRollout, pb.PutRolloutRequest(challenger="1", stage=pb.STAGE_SHADOW), "model"),
        (stub.PutRollout, pb.PutRolloutRequest(model="garments", challenger="1"), "stage"),
        (stub.PutRollout, pb.PutRolloutRequest(model="garments", stage=pb.STAGE_SHADOW), "challenger"),
        (stub.EndRollout, pb.EndRolloutRequest(), "model"),
        (stub.RegisterVersion, pb.RegisterVersionRequest(model="a/b", package=run().package), "model"),
        (stub.RegisterVersion, pb.RegisterVersionRequest(model="a"), "package.digest"),
    ):
        with pytest.raises(InvalidMessage) as invalid:
            await call(method, request)
        assert invalid.value.field == field
    with pytest.raises(NotFound) as unknown:
        await call(stub.GetModel, pb.GetModelRequest(model="nobody"))
    assert unknown.value.reason == "UNKNOWN_MODEL"
    with pytest.raises(Conflict) as refused:
        await call(stub.Promote, pb.PromoteRequest(model="garments", version="3"))
    assert refused.value.reason == "VERSION_REFUSED"


async def test_http_reads(client: httpx.AsyncClient) -> None:
    models = (await client.get("/api/v1/models")).json()["models"]
    assert [model["name"] for model in models] == ["asked-1", "garments"]
    assert (await client.get("/api/v1/models/garments")).json() == models[1]
    versions = (await client.get("/api/v1/models/garments/versions")).json()["versions"]
    assert [version["state"] for version in versions] == [
        "VERSION_STATE_ACCEPTED",
        "VERSION_STATE_ACCEPTED",
        "VERSION_STATE_REFUSED",
    ]
    assert (await client.get("/api/v1/models/garments/versions/champion")).json() == versions[1]
    assert versions[1]["gates"][1]["gate"] == "better_on_new"
    page = (await client.get("/api/v1/models/garments/history", params={"limit": 3})).json()
    assert len(page["moves"]) == 3
    rest = (await client.get("/api/v1/models/garments/history", params={"cursor": page["next_cursor"]})).json()
    assert [move["to_version"] for move in rest["moves"]] == ["1"]
    assert rest["next_cursor"] == ""


async def test_http_writes_bear_the_callers_name(client: httpx.AsyncClient) -> None:
    who = {"x-irisloop-principal": "ann"}
    rolled = await client.post("/api/v1/models/garments/rollback", json={"reason": "worse"}, headers=who)
    assert {alias["name"]: alias["version"] for alias in rolled.json()["aliases"]} == {"champion": "1", "previous": "2"}
    refused = await client.post("/api/v1/models/garments/promote", json={"version": "3"}, headers=who)
    assert (refused.status_code, refused.json()["error"]["reason"]) == (409, "VERSION_REFUSED")
    forced = await client.post("/api/v1/models/garments/promote", json={"version": "3", "force": True}, headers=who)
    assert forced.status_code == 200
    moves = (await client.get("/api/v1/models/garments/history", params={"limit": 1})).json()["moves"]
    assert (moves[0]["moved_by"], moves[0]["reason"]) == ("ann", "promoted by hand (forced although refused)")
    waiting = "/api/v1/models/asked-1/versions/1/approve"
    assert (await client.post(waiting, json={"approve": False})).json()["state"] == "VERSION_STATE_REFUSED"
    put = await client.put("/api/v1/models/garments/aliases/canary", json={"version": "2"}, headers=who)
    assert {"name": "canary", "version": "2"} in put.json()["aliases"]


async def test_http_errors(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/models/nobody")).status_code == 404
    assert (await client.get("/api/v1/models/nobody/versions")).status_code == 404
    assert (await client.get("/api/v1/models/nobody/history")).status_code == 404
    assert (await client.get("/api/v1/models/garments/versions/9")).json()["error"]["reason"] == "UNKNOWN_VERSION"
    assert (await client.get("/api/v1/models/garments/history", params={"limit": 0})).status_code == 400
    assert (await client.post("/api/v1/models/garments/promote", json={})).json()["error"]["field"] == "version"


async def test_the_app_wires_it_all(tmp_path: Path) -> None:
    settings = RegistrySettings(common=CommonSettings(home=tmp_path))
    application = build(settings, MemoryBus(service="registry"))
    assert application.name == "registry"
    assert application.http is not None
    database = application.resources[0]
    async with database:
        transport = httpx.ASGITransport(application.http)
        async with httpx.AsyncClient(transport=transport, base_url="http://registry") as client:
            assert (await client.get("/api/v1/models")).json() == {"models": []}
            assert (await client.get("/readyz")).status_code == 200
    assert (tmp_path / "db" / "registry.sqlite").exists()
