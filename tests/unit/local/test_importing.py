"""Importing: frames and labels in batches, again without doubling, through services that are briefly away."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import pytest
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc

from services.common.errors import IrisloopError
from services.local.importing import LabelledImage, frame_id, import_labelled
from services.local.labelled import BoxLabel


@dataclass
class Ingest:
    """Answers as ingest does; refuses images that say so, and is away for the first calls if told to."""

    away: int = 0
    refuse_all: bool = False
    ids: list[str] = field(default_factory=list)
    cameras: set[str] = field(default_factory=set)

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.post("/api/v1/frames")
        async def post(request: Request) -> JSONResponse:
            if self.away > 0:
                self.away -= 1
                return JSONResponse({"error": {"message": "busy", "reason": "TRANSIENT"}}, 503)
            if self.refuse_all:
                return JSONResponse({"error": {"message": "the camera id is odd", "reason": "INVALID"}}, 400)
            async with request.form(max_files=1000, max_fields=4000) as form:
                self.cameras |= set(map(str, form.getlist("camera_id")))
                ids = list(map(str, form.getlist("ce_id")))
                contents = [await file.read() for file in form.getlist("files") if not isinstance(file, str)]
            results = [self.result(*pair) for pair in zip(ids, contents, strict=True)]
            return JSONResponse({"results": results})

        return app

    def result(self, ce_id: str, content: bytes) -> dict[str, Any]:
        status = "rejected" if content == b"bad" else "redelivered" if ce_id in self.ids else "stored"
        self.ids.append(ce_id)
        return {
            "id": f"asset-of-{ce_id}",
            "status": status,
            "reason": "truncated" if status == "rejected" else "",
            "detail": "",
            "object_digest": hashlib.sha256(content).hexdigest(),
            "captured_at": "2026-01-02T03:04:05.250000Z",
        }


class Labeling(labeling_pb2_grpc.LabelingServiceServicer):
    def __init__(self) -> None:
        self.annotations: dict[str, labeling_pb2.ImportedLabel] = {}
        self.requests: list[labeling_pb2.ImportAnnotationsRequest] = []

    async def ImportAnnotations(
        self, request: labeling_pb2.ImportAnnotationsRequest, context: Any
    ) -> labeling_pb2.ImportAnnotationsResponse:
        self.requests.append(request)
        new = [one for one in request.annotations if one.asset_id not in self.annotations]
        self.annotations |= {one.asset_id: one for one in request.annotations}
        return labeling_pb2.ImportAnnotationsResponse(created=len(new), unchanged=len(request.annotations) - len(new))


@dataclass
class World:
    ingest: Ingest
    labeling: Labeling
    addresses: dict[str, Any]


@asynccontextmanager
async def world(**ingest_as: Any) -> AsyncIterator[World]:
    ingest, labeling = Ingest(**ingest_as), Labeling()  # type: ignore[abstract] # the other calls are not made
    http = uvicorn.Server(uvicorn.Config(ingest.app(), port=0, log_level="error", lifespan="off"))
    rpc = grpc.aio.server()
    labeling_pb2_grpc.add_LabelingServiceServicer_to_server(labeling, rpc)
    port = rpc.add_insecure_port("127.0.0.1:0")
    await rpc.start()
    async with asyncio.TaskGroup() as group:
        group.create_task(http.serve())
        while not http.started:
            await asyncio.sleep(0.01)
        url = f"http://127.0.0.1:{http.servers[0].sockets[0].getsockname()[1]}"
        try:
            yield World(ingest, labeling, {"ingest_url": url, "labeling_address": f"127.0.0.1:{port}"})
        finally:
            http.should_exit = True
            await rpc.stop(0)


def images(count: int) -> list[LabelledImage]:
    return [LabelledImage(f"{n}.png", f"pixels {n}".encode(), f"class{n % 2}", "image/png") for n in range(count)]


async def test_every_image_is_stored_and_labelled_once_and_again_changes_nothing() -> None:
    async with world() as there:
        seen: list[int] = []
        arguments: dict[str, Any] = {"name": "toy", "dataset": "toys", "class_names": ["class0", "class1"]}
        first = await import_labelled(images(1001), on_progress=seen.append, **arguments, **there.addresses)
        second = await import_labelled(images(1001), **arguments, **there.addresses)
    assert (first.statuses["stored"], first.labels_created, first.images) == (1001, 1001, 1001)
    assert (second.statuses["redelivered"], second.labels_created, second.labels_unchanged) == (1001, 0, 1001)
    assert sorted(seen)[-1] == 1001
    assert there.ingest.cameras == {"import/toy"}
    assert there.labeling.requests[0].dataset == "toys"
    assert list(there.labeling.requests[0].class_names) == ["class0", "class1"]


async def test_a_label_carries_what_ingest_answered() -> None:
    boxed = LabelledImage("b.png", b"boxed", "", "image/png", (BoxLabel("cat", 1, 2, 3, 4),))
    async with world() as there:
        await import_labelled([boxed], name="toy", dataset="toys", class_names=["cat"], **there.addresses)
        (annotation,) = there.labeling.annotations.values()
    assert annotation.asset_id == f"asset-of-{frame_id('toy', boxed)}"
    assert annotation.captured_at.ToJsonString() == "2026-01-02T03:04:05.250Z"
    assert annotation.object.digest == hashlib.sha256(b"boxed").hexdigest()
    assert (annotation.labels[0].class_name, annotation.labels[0].box.width) == ("cat", 3.0)


async def test_a_refused_image_is_reported_and_not_labelled() -> None:
    items = [*images(2), LabelledImage("x.png", b"bad", "class0", "image/png")]
    async with world() as there:
        report = await import_labelled(items, name="t", dataset="t", class_names=["class0"], **there.addresses)
    assert report.statuses == {"stored": 2, "rejected": 1}
    assert report.rejected == ["x.png: truncated"]
    assert report.labels_created == 2


async def test_an_unlabelled_image_is_stored_without_a_label() -> None:
    async with world() as there:
        report = await import_labelled(
            [LabelledImage("x.png", b"x", "", "image/png")], name="t", dataset="t", class_names=[], **there.addresses
        )
    assert (report.statuses["stored"], report.labels_created, there.labeling.requests) == (1, 0, [])


async def test_a_service_that_is_briefly_away_is_waited_for() -> None:
    async with world(away=2) as there:
        report = await import_labelled(images(3), name="t", dataset="t", class_names=[], **there.addresses)
    assert report.statuses["stored"] == 3


async def test_what_ingest_refuses_as_a_whole_is_raised_in_its_words() -> None:
    async with world(refuse_all=True) as there:
        with pytest.raises(IrisloopError, match="the camera id is odd"):
            await import_labelled(images(1), name="!", dataset="t", class_names=[], **there.addresses)


def test_the_id_of_a_frame_depends_on_import_path_and_content() -> None:
    image = LabelledImage("1.png", b"x", "a", "image/png")
    others = [
        frame_id("other", image),
        frame_id("t", LabelledImage("2.png", b"x", "a", "image/png")),
        frame_id("t", LabelledImage("1.png", b"y", "a", "image/png")),
    ]
    assert frame_id("t", image) == frame_id("t", LabelledImage("1.png", b"x", "another label", "image/png"))
    assert len({frame_id("t", image), *others}) == 4
