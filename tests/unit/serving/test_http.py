"""Bindings and deployments over HTTP and gRPC, and across replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import pytest
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.serving.v1 import serving_pb2_grpc

from tests.unit.serving import tiny
from tests.unit.serving.house import House, serving
from tests.waiting import until

CHAMPION = {"model": "clothes", "role": "champion", "cameras": ["gate-*"], "tags": {}}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with serving(tmp_path) as one:
        yield one


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=house.http) as one:
        yield one


async def test_bindings_are_put_listed_and_deleted(client: httpx.AsyncClient) -> None:
    path = "/api/v1/bindings/clothes/champion"
    assert (await client.put(path, json={"cameras": ["gate-*"]})).json() == CHAMPION
    assert (await client.put(path, json={"cameras": ["gate-*"]})).status_code == 200
    assert (await client.get("/api/v1/bindings")).json() == {"bindings": [CHAMPION]}
    assert (await client.delete(path)).status_code == 200
    assert (await client.get("/api/v1/bindings")).json() == {"bindings": []}
    gone = await client.delete(path)
    assert (gone.status_code, gone.json()["error"]["code"]) == (404, "unknown_binding")


async def test_a_binding_that_selects_nothing_is_refused_with_its_field(client: httpx.AsyncClient) -> None:
    refusal = await client.put("/api/v1/bindings/clothes/champion", json={})
    assert (refusal.status_code, refusal.json()["error"]["field"]) == (400, "binding.cameras")


async def test_grpc_speaks_of_the_same_bindings(house: House, client: httpx.AsyncClient) -> None:
    async with grpc.aio.insecure_channel(house.address) as channel:
        stub = serving_pb2_grpc.ServingServiceStub(channel)
        binding = pb.Binding(model="clothes", role="shadow", tags={"line": "a"})
        await stub.PutBinding(pb.PutBindingRequest(binding=binding))
        listed = await stub.ListBindings(pb.ListBindingsRequest())
        assert list(listed.bindings) == [binding]
        assert (await client.get("/api/v1/bindings")).json()["bindings"][0]["tags"] == {"line": "a"}
        await stub.DeleteBinding(pb.DeleteBindingRequest(model="clothes", role="shadow"))
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.PutBinding(pb.PutBindingRequest(binding=pb.Binding(model="clothes", cameras=["["])))
        assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_change_reaches_the_other_replica(house: House, tmp_path: Path) -> None:
    async with serving(tmp_path, replica=1) as other, httpx.AsyncClient() as client:
        await client.put(f"{house.http}/api/v1/bindings/clothes/champion", json={"cameras": ["gate-*"]})

        async def arrived() -> bool:
            found = (await client.get(f"{other.http}/api/v1/bindings")).json()
            return bool(found == {"bindings": [CHAMPION]})

        await until(arrived)
        assert (await client.get(f"{house.http}/api/v1/bindings")).json() == {"bindings": [CHAMPION]}


async def test_models_and_deployments_are_shown(house: House, client: httpx.AsyncClient) -> None:
    assert "nothing is served" in (await client.get("/api/v1/models")).json()["note"]
    package = await tiny.store(house.objects, house.home, tiny.package_files())
    await house.publish(tiny.aliases(1, champion=("1", package)))
    await until(lambda: house.revisions() == [1])
    (model,) = (await client.get("/api/v1/models")).json()["models"]
    assert (model["versions"], model["aliases"]) == (["1"], {"champion": {"asked": "1", "serving": "1"}})
    (deployment,) = (await client.get("/api/v1/deployments")).json()["deployments"]
    assert (deployment["state"], deployment["replica"]) == ("DEPLOYMENT_STATE_LOADED", "serving-0")
    async with grpc.aio.insecure_channel(house.address) as channel:
        stub = serving_pb2_grpc.ServingServiceStub(channel)
        listed = await stub.ListDeployments(pb.ListDeploymentsRequest())
        assert [(one.version, list(one.roles)) for one in listed.deployments] == [("1", ["champion"])]


async def test_health_and_metrics_answer(client: httpx.AsyncClient) -> None:
    assert (await client.get("/readyz")).status_code == 200
    assert "irisloop_serving_predictions_total" in (await client.get("/metrics")).text
