"""HTTP and gRPC over the same handlers, and trainer's own calls to labeling and registry."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc.aio
import httpx
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc
from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc
from irisloop.trainer.v1 import trainer_pb2 as pb
from irisloop.trainer.v1 import trainer_pb2_grpc

from services.common.bus import MemoryBus
from services.common.errors import Conflict, InvalidMessage, NotFound, Unavailable
from services.common.grpc import call, channel, create_grpc
from services.common.http import create_http
from services.common.settings import Addresses, CommonSettings
from services.trainer.app import build
from services.trainer.domain.jobs import Opponent
from services.trainer.domain.ports import Champion, DatasetVersion
from services.trainer.inbound.grpc import TrainerServicer
from services.trainer.inbound.http import routes
from services.trainer.outbound.neighbours import Neighbours
from services.trainer.settings import TrainerSettings
from tests.unit.trainer.world import CHAMPION, CLASSES, RUN, START, World, world

if TYPE_CHECKING:
    from irisloop.trainer.v1.trainer_pb2_grpc import TrainerServiceAsyncStub as Stub

ON_FIRST = {"model": "garments", "dataset": "garments", "dataset_version": 1}


def on_first(seed: int = 0, epochs: int = 0, request_id: str = "") -> pb.StartRunRequest:
    return pb.StartRunRequest(
        model="garments", dataset="garments", dataset_version=1, seed=seed, epochs=epochs, request_id=request_id
    )


@pytest.fixture
async def trainer(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as one:
        one.registry.live = CHAMPION
        one.processes.open.set()
        yield one


@pytest.fixture
async def stub(trainer: World) -> AsyncIterator[Stub]:
    servicer = TrainerServicer(trainer.handlers, trainer.evaluations)
    served = create_grpc(lambda server: trainer_pb2_grpc.add_TrainerServiceServicer_to_server(servicer, server))
    port = served.server.add_insecure_port("127.0.0.1:0")
    await served.server.start()
    async with channel(f"127.0.0.1:{port}") as connection:
        yield trainer_pb2_grpc.TrainerServiceStub(connection)
    await served.server.stop(None)


@pytest.fixture
async def client(trainer: World) -> AsyncIterator[httpx.AsyncClient]:
    app = create_http("trainer")
    app.include_router(routes(trainer.handlers))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://trainer") as one:
        yield one


async def test_grpc_runs_are_started_listed_and_cancelled(stub: Stub) -> None:
    request = on_first(seed=11, epochs=3, request_id="mine")
    run = (await call(stub.StartRun, request, principal="ann")).run
    assert (run.state, run.requested_by, run.seed, run.epochs) == (pb.RUN_STATE_QUEUED, "ann", 11, 3)
    assert (await call(stub.StartRun, request)).run == run
    assert (await call(stub.GetRun, pb.GetRunRequest(run_id=run.id))).run == run
    other = (await call(stub.StartRun, on_first())).run
    page = await call(stub.ListRuns, pb.ListRunsRequest(model="garments", limit=1))
    assert [one.id for one in page.runs] == [other.id]
    rest = await call(stub.ListRuns, pb.ListRunsRequest(model="garments", limit=1, cursor=page.next_cursor))
    assert ([one.id for one in rest.runs], rest.next_cursor) == ([run.id], "")
    assert not (await call(stub.ListRuns, pb.ListRunsRequest(dataset="other"))).runs
    cancelled = (await call(stub.CancelRun, pb.CancelRunRequest(run_id=run.id))).run
    assert cancelled.state == pb.RUN_STATE_CANCELLED
    with pytest.raises(Conflict) as over:
        await call(stub.CancelRun, pb.CancelRunRequest(run_id=run.id))
    assert over.value.field == "run_id"


async def test_grpc_versions_are_measured(stub: Stub) -> None:
    request = pb.EvaluateRequest(model="garments", version="3", dataset="garments", dataset_version=1)
    report = (await call(stub.Evaluate, request)).report
    assert report.scores[0].conditions[0].condition == "all"


async def test_grpc_errors_name_the_field(stub: Stub) -> None:
    cases: list[tuple[Any, Any, str]] = [
        (stub.StartRun, pb.StartRunRequest(dataset="garments"), "model"),
        (stub.StartRun, pb.StartRunRequest(model="garments"), "dataset"),
        (stub.StartRun, on_first(seed=2**63), "seed"),
        (stub.StartRun, on_first(epochs=2**31), "epochs"),
        (stub.GetRun, pb.GetRunRequest(), "run_id"),
        (stub.ListRuns, pb.ListRunsRequest(limit=1001), "limit"),
        (stub.ListRuns, pb.ListRunsRequest(cursor="nobody"), "cursor"),
        (stub.ListRuns, pb.ListRunsRequest(since=Timestamp(seconds=1 << 60)), "since"),
        (stub.Evaluate, pb.EvaluateRequest(model="garments", version="3"), "dataset"),
    ]
    for method, request, field in cases:
        with pytest.raises(InvalidMessage) as invalid:
            await call(method, request)
        assert invalid.value.field == field
    with pytest.raises(NotFound):
        await call(stub.GetRun, pb.GetRunRequest(run_id="nobody"))


async def test_http_runs(client: httpx.AsyncClient) -> None:
    started = await client.post("/api/v1/runs", json=ON_FIRST, headers={"x-irisloop-principal": "ann"})
    assert started.status_code == 202
    run = started.json()
    assert (run["state"], run["requested_by"], run["dataset_version"]) == ("RUN_STATE_QUEUED", "ann", 1)
    assert (await client.get(f"/api/v1/runs/{run['id']}")).json() == run
    assert (await client.get("/api/v1/runs")).json() == {"runs": [run], "next_cursor": ""}
    assert (await client.post(f"/api/v1/runs/{run['id']}/cancel")).json()["state"] == "RUN_STATE_CANCELLED"
    assert (await client.post(f"/api/v1/runs/{run['id']}/cancel")).status_code == 409
    assert (await client.get("/api/v1/runs/nobody")).json()["error"]["reason"] == "UNKNOWN_RUN"
    wrong = await client.post("/api/v1/runs", json={**ON_FIRST, "seed": 2**32})
    assert (wrong.status_code, wrong.json()["error"]["field"]) == (400, "seed")
    slash = await client.post("/api/v1/runs", json={**ON_FIRST, "model": "a/b"})
    assert (slash.status_code, slash.json()["error"]["field"]) == (400, "model")


class Labeling(labeling_pb2_grpc.LabelingServiceServicer):
    """Answers what the test wants to see decoded."""

    async def RequestDatasetVersion(self, request: Any, context: Any) -> labeling_pb2.RequestDatasetVersionResponse:
        assert (request.dataset, request.model, request.labels_wanted) == ("garments", "garments", 40)
        assert list(request.cameras) == ["gate-1"]
        if request.request_id == "waits":
            return labeling_pb2.RequestDatasetVersionResponse(labels_present=12, labels_wanted=40)
        return labeling_pb2.RequestDatasetVersionResponse(version=cut(), labels_present=40, labels_wanted=40)

    async def CancelDatasetRequest(self, request: Any, context: Any) -> labeling_pb2.CancelDatasetRequestResponse:
        if request.request_id == "gone":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such request")
        return labeling_pb2.CancelDatasetRequestResponse()

    async def GetDatasetVersion(self, request: Any, context: Any) -> labeling_pb2.GetDatasetVersionResponse:
        return labeling_pb2.GetDatasetVersionResponse(version=cut())


class Registry(registry_pb2_grpc.RegistryServiceServicer):
    """Knows one model."""

    async def GetVersion(self, request: Any, context: Any) -> registry_pb2.GetVersionResponse:
        if request.model != "garments":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        found = registry_pb2.ModelVersion(version="3", run_id="run-of-3", dataset="garments")
        found.package.digest = "c" * 64
        return registry_pb2.GetVersionResponse(version=found)


def cut() -> labeling_pb2.DatasetVersion:
    message = labeling_pb2.DatasetVersion(dataset="garments", version=4, class_names=CLASSES, condition_labels=40)
    message.manifest.digest = "m" * 64
    return message


async def test_neighbours_are_asked_over_grpc() -> None:
    def add(server: grpc.aio.Server) -> None:
        labeling_pb2_grpc.add_LabelingServiceServicer_to_server(Labeling(), server)  # type: ignore[abstract]
        registry_pb2_grpc.add_RegistryServiceServicer_to_server(Registry(), server)  # type: ignore[abstract]

    served = create_grpc(add)
    port = served.server.add_insecure_port("127.0.0.1:0")
    await served.server.start()
    address = f"127.0.0.1:{port}"
    version = DatasetVersion("garments", 4, "m" * 64, CLASSES, 40)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(served.server.stop, None)
        neighbours = await stack.enter_async_context(Neighbours(Addresses(labeling=address, registry=address)))
        run = replace(RUN, request_id="waits", labels_since=START, labels_wanted=40, cameras=("gate-1",))
        waits = await neighbours.labeling.request(run)
        assert (waits.version, waits.present, waits.wanted) == (None, 12, 40)
        there = await neighbours.labeling.request(replace(run, request_id="there"))
        assert there.version == version
        assert await neighbours.labeling.version("garments", 4) == version
        await neighbours.labeling.cancel("there")
        with pytest.raises(NotFound):
            await neighbours.labeling.cancel("gone")
        assert await neighbours.registry.champion("garments") == Champion("3", "c" * 64, "run-of-3", "garments")
        assert await neighbours.registry.champion("nobody") is None
        assert await neighbours.registry.version("garments", "3") == Opponent("3", "c" * 64)
        await served.server.stop(None)
        with pytest.raises(Unavailable):
            await neighbours.registry.champion("garments")


async def test_the_app_wires_it_all(tmp_path: Path) -> None:
    settings = TrainerSettings(common=CommonSettings(home=tmp_path))
    application = build(settings, MemoryBus(service="trainer"))
    assert application.http is not None
    assert set(application.tasks) == {"bus", "outbox", "runs", "labels"}
    async with application.resources[0]:
        transport = httpx.ASGITransport(application.http)
        async with httpx.AsyncClient(transport=transport, base_url="http://trainer") as client:
            assert (await client.get("/api/v1/runs")).json() == {"runs": [], "next_cursor": ""}
            assert (await client.get("/readyz")).status_code == 200
