"""The whole service over real sockets: gRPC and HTTP give the same answers, errors and pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from irisloop.labeling.v1 import labeling_pb2 as pb
from irisloop.labeling.v1 import labeling_pb2_grpc

from services.common.bus import MemoryBus
from services.common.errors import InvalidMessage, NotFound, Unavailable
from services.common.grpc import call, channel
from services.common.runtime import Runtime
from services.common.settings import Addresses, CommonSettings
from services.labeling import codec
from services.labeling.app import build
from services.labeling.settings import LabelingSettings
from tests.unit.labeling.world import CLASSES, START, asset, predicted, stored, stream
from tests.waiting import PATIENCE_S

if TYPE_CHECKING:
    from irisloop.labeling.v1.labeling_pb2_grpc import LabelingServiceAsyncStub as Stub


@dataclass
class Service:
    """Labeling, running, and two ways to talk to it."""

    stub: Stub
    http: httpx.AsyncClient
    bus: MemoryBus


@asynccontextmanager
async def running(home: Path) -> AsyncIterator[Service]:
    """As `python -m services.labeling`, but on a bus in memory."""
    bus = MemoryBus(service="labeling")
    common = CommonSettings(home=home, addresses=Addresses(ingest="127.0.0.1:1"))  # nobody is there
    settings = LabelingSettings(common=common, http_port=0, grpc_port=0, uniform_share=1.0, tasks_per_second=1e6)
    runtime = Runtime(build(settings, bus))
    task = asyncio.ensure_future(runtime.run())
    async with asyncio.timeout(PATIENCE_S):
        while runtime.waiting_for():
            await asyncio.sleep(0.02)
    address = f"127.0.0.1:{runtime.ports['grpc_port']}"
    base = f"http://127.0.0.1:{runtime.ports['http_port']}"
    async with channel(address) as connection, httpx.AsyncClient(base_url=base) as http:
        yield Service(labeling_pb2_grpc.LabelingServiceStub(connection), http, bus)
    runtime.stop()
    assert await task == 0


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with running(tmp_path) as one:
        yield one


def imports(count: int) -> pb.ImportAnnotationsRequest:
    request = pb.ImportAnnotationsRequest(dataset="garments", class_names=CLASSES)
    for number in range(count):
        one = asset(f"old-{number}", "import/first", START + number)
        request.annotations.add(
            asset_id=one.id,
            camera_id=one.camera_id,
            captured_at=codec.timestamp(one.captured_at),
            object=codec.object_message(one.object),
            labels=[pb.Label(class_name=CLASSES[number % 3])],
        )
    return request


async def tasks_are_there(service: Service, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            listed = await call(service.stub.ListTasks, pb.ListTasksRequest(limit=1))
            if listed.counts["open"] == count:
                return
            await asyncio.sleep(0.02)


async def test_import_version_and_lists_by_grpc(service: Service) -> None:
    answer = await call(service.stub.ImportAnnotations, imports(30))
    assert (answer.created, answer.unchanged) == (30, 0)
    request = pb.RequestDatasetVersionRequest(request_id="r-1", dataset="garments")
    version = (await call(service.stub.RequestDatasetVersion, request, principal="ann")).version
    assert (version.version, version.created_by, version.request_id) == (1, "ann", "r-1")
    assert [(one.split, one.assets) for one in version.splits] == [("train", 24), ("validation", 3), ("test", 3)]
    assert (
        await call(service.stub.GetDatasetVersion, pb.GetDatasetVersionRequest(dataset="garments"))
    ).version == version
    held = pb.ListDatasetVersionsRequest(asset_id=asset("old-3").id)
    assert list((await call(service.stub.ListDatasetVersions, held)).versions) == [version]
    page = await call(service.stub.ListAnnotations, pb.ListAnnotationsRequest(limit=20))
    rest = await call(service.stub.ListAnnotations, pb.ListAnnotationsRequest(limit=20, cursor=page.next_cursor))
    assert (len(page.annotations), len(rest.annotations), rest.next_cursor) == (20, 10, "")
    listed = await call(service.stub.ListDatasets, pb.ListDatasetsRequest())
    assert [list(one.class_names) for one in listed.datasets] == [list(CLASSES)]


async def test_a_frame_is_asked_about_and_answered_by_grpc(service: Service) -> None:
    await call(service.stub.PutDataset, pb.PutDatasetRequest(name="garments", class_names=CLASSES))
    frames = stream(5)
    await service.bus.publish([*map(stored, frames), *map(predicted, frames)])
    await tasks_are_there(service, 5)
    leased = (await call(service.stub.LeaseTasks, pb.LeaseTasksRequest(limit=3), principal="ann")).tasks
    assert {task.leased_by for task in leased} == {"ann"}
    assert not any(task.HasField("suggestion") for task in leased)  # drawn at random: answered unseen
    assert [task.captured_at.ToMicroseconds() for task in leased] == [one.captured_at for one in frames[:1:-1]]
    answers = [pb.TaskAnswer(task_id=task.id, labels=[pb.Label(class_name="boot")]) for task in leased]
    done = await call(service.stub.AnswerTasks, pb.AnswerTasksRequest(answers=answers), principal="ann")
    assert [one.task_id for one in done.annotations] == [task.id for task in leased]
    listed = await call(service.stub.ListTasks, pb.ListTasksRequest(state=pb.TASK_STATE_DONE))
    assert {task.id for task in listed.tasks} == {task.id for task in leased}
    assert dict(listed.counts) == {"done": 3, "open": 2}


async def test_a_request_waits_visibly_and_can_be_cancelled_by_grpc(service: Service) -> None:
    await call(service.stub.ImportAnnotations, imports(30))
    request = pb.RequestDatasetVersionRequest(
        request_id="r-1",
        dataset="garments",
        labels_wanted=40,
        model="garments",
        labels_since=codec.timestamp(START + 10),
    )
    waiting = await call(service.stub.RequestDatasetVersion, request)
    assert (waiting.HasField("version"), waiting.labels_present, waiting.labels_wanted) == (False, 20, 40)
    await call(service.stub.CancelDatasetRequest, pb.CancelDatasetRequestRequest(request_id="r-1"))
    with pytest.raises(NotFound):
        await call(service.stub.GetDatasetVersion, pb.GetDatasetVersionRequest(dataset="garments"))


async def test_errors_name_the_field_by_grpc(service: Service) -> None:
    bad = imports(1)
    bad.annotations[0].ClearField("object")
    with pytest.raises(InvalidMessage) as caught:
        await call(service.stub.ImportAnnotations, bad)
    assert caught.value.field == "annotations[0]"
    with pytest.raises(InvalidMessage) as caught:
        await call(service.stub.ListTasks, pb.ListTasksRequest(cursor="x"))
    assert caught.value.field == "cursor"
    with pytest.raises(InvalidMessage) as caught:
        await call(service.stub.ListTasks, pb.ListTasksRequest(state=99))  # type: ignore[arg-type]  # of a later client
    assert caught.value.field == "state"
    with pytest.raises(Unavailable):  # only ingest knows whether there is such an asset, and it is away
        await call(service.stub.ConfirmAnnotation, confirm("nobody"))


def confirm(asset_id: str) -> pb.ConfirmAnnotationRequest:
    return pb.ConfirmAnnotationRequest(asset_id=asset_id, labels=[pb.Label(class_name="coat")])


async def test_people_label_by_http(service: Service) -> None:
    put = await service.http.put("/api/v1/datasets/garments", json={"class_names": CLASSES})
    assert put.json()["cameras"] == ["*"]
    frames = stream(3)
    await service.bus.publish([*map(stored, frames), *map(predicted, frames)])
    await tasks_are_there(service, 3)
    who = {"x-irisloop-principal": "bob"}
    leased = (await service.http.post("/api/v1/tasks/lease", json={"limit": 2}, headers=who)).json()["tasks"]
    answers = [{"task_id": leased[0]["id"], "labels": [{"class_name": "boot"}]}, {"task_id": leased[1]["id"]}]
    done = (await service.http.post("/api/v1/tasks/answers", json={"answers": answers}, headers=who)).json()
    assert [one["annotated_by"] for one in done["annotations"]] == ["bob"]
    listed = (await service.http.get("/api/v1/tasks", params={"state": "open"})).json()
    assert listed["counts"] == {"done": 1, "open": 1, "skipped": 1}
    assert [task["asset_id"] for task in listed["tasks"]] == [frames[0].id]
    body = {"asset_id": frames[0].id, "labels": [{"class_name": "coat", "box": [1, 2, 3, 4]}]}
    direct = (await service.http.post("/api/v1/annotations", json=body)).json()
    assert direct["labels"][0]["box"] == {"x": 1.0, "y": 2.0, "width": 3.0, "height": 4.0}
    found = (await service.http.get("/api/v1/annotations", params={"asset_id": frames[0].id})).json()
    assert found["annotations"] == [direct]
    gone = (await service.http.delete(f"/api/v1/annotations/{frames[0].id}", headers=who)).json()
    assert (gone["withdrawn"], gone["revision"], gone["annotated_by"]) == (True, 2, "bob")
    same = await call(service.stub.WithdrawAnnotation, pb.WithdrawAnnotationRequest(asset_id=frames[0].id))
    assert (same.annotation.id, same.annotation.withdrawn) == (gone["id"], True)


async def test_versions_are_cut_and_shown_by_http(service: Service) -> None:
    await call(service.stub.ImportAnnotations, imports(30))
    made = (await service.http.post("/api/v1/datasets/garments/versions", json={"request_id": "r-1"})).json()
    assert made["version"]["version"] == 1
    assert (await service.http.get("/api/v1/datasets/garments/versions/1")).json() == made["version"]
    assert (await service.http.get("/api/v1/versions", params={"dataset": "garments"})).json() == {
        "versions": [made["version"]]
    }
    waiting = {"request_id": "r-2", "labels_wanted": 99, "labels_since": "2026-01-01T00:00:00Z"}
    open_ = (await service.http.post("/api/v1/datasets/garments/versions", json=waiting)).json()
    assert (open_["version"], open_["labels_present"]) == (None, 30)
    assert (await service.http.delete("/api/v1/requests/r-2")).status_code == 200
    assert [one["name"] for one in (await service.http.get("/api/v1/datasets")).json()["datasets"]] == ["garments"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "field"),
    [
        ("GET", "/api/v1/tasks?state=asleep", None, 400, "state"),
        ("GET", "/api/v1/tasks?limit=5000", None, 400, "limit"),
        ("GET", "/api/v1/datasets/none/versions/1", None, 404, "dataset"),
        ("POST", "/api/v1/tasks/lease", {"limit": 101}, 400, "limit"),
        ("POST", "/api/v1/tasks/answers", {"answers": [{"task_id": "x"}]}, 404, "answers[0].task_id"),
        ("POST", "/api/v1/annotations", {"asset_id": "x", "labels": []}, 400, "labels"),
        ("DELETE", "/api/v1/annotations/x", None, 404, "asset_id"),
    ],
)
async def test_http_answers_with_a_code_a_sentence_and_the_field(
    service: Service, method: str, path: str, body: object, status: int, field: str
) -> None:
    answer = await service.http.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (status, field)
    assert answer.json()["error"]["message"]


async def test_an_open_request_survives_a_restart_of_the_service(tmp_path: Path) -> None:
    async with running(tmp_path) as first:
        await call(first.stub.ImportAnnotations, imports(10))
        request = pb.RequestDatasetVersionRequest(request_id="r-1", dataset="garments", labels_wanted=30)
        assert not (await call(first.stub.RequestDatasetVersion, request)).HasField("version")
    async with running(tmp_path) as second:
        await call(second.stub.ImportAnnotations, imports(30))
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await call(second.stub.ListDatasetVersions, pb.ListDatasetVersionsRequest())
                if found.versions:
                    break
                await asyncio.sleep(0.05)
        assert [version.request_id for version in found.versions] == ["r-1"]
