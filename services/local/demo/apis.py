"""What the demo asks of the services, through the APIs that anybody has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import httpx
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc
from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc
from irisloop.serving.v1 import serving_pb2, serving_pb2_grpc
from irisloop.trainer.v1 import trainer_pb2, trainer_pb2_grpc

from services.common.grpc import call, channel
from services.local.demo.journal import Journal
from services.local.demo.scenario import CAMERAS, Scenario

if TYPE_CHECKING:
    from services.local.demo.director import Deployment


async def start_run(deployment: Deployment, model: str, seed: int) -> str:
    """Ask for the first training run; returns its id."""
    async with channel(deployment.address("trainer")) as connection:
        stub: trainer_pb2_grpc.TrainerServiceAsyncStub = trainer_pb2_grpc.TrainerServiceStub(connection)
        answer = await call(stub.StartRun, trainer_pb2.StartRunRequest(model=model, dataset=model, seed=seed + 1))
    return str(answer.run.id)


async def runs_since(deployment: Deployment, model: str, since: datetime | None) -> int:
    """How many runs were made since then."""
    if since is None:
        return 0
    stamp = Timestamp()
    stamp.FromDatetime(since)
    async with channel(deployment.address("trainer")) as connection:
        stub: trainer_pb2_grpc.TrainerServiceAsyncStub = trainer_pb2_grpc.TrainerServiceStub(connection)
        answer = await call(stub.ListRuns, trainer_pb2.ListRunsRequest(model=model, limit=100, since=stamp))
    return len(answer.runs)


async def bind(deployment: Deployment, model: str) -> None:
    """Have the demo's cameras predicted by the champion, and by whatever stands in its shadow."""
    async with channel(deployment.address("serving")) as connection:
        stub: serving_pb2_grpc.ServingServiceAsyncStub = serving_pb2_grpc.ServingServiceStub(connection)
        for role in ("champion", "shadow"):
            binding = serving_pb2.Binding(
                model=model, role=role, cameras=sorted({f"{site}/*" for site in CAMERAS.values()})
            )
            await call(stub.PutBinding, serving_pb2.PutBindingRequest(binding=binding))


async def model(deployment: Deployment, name: str) -> tuple[str, int]:
    """(champion's version, number of versions)."""
    async with channel(deployment.address("registry")) as connection:
        stub: registry_pb2_grpc.RegistryServiceAsyncStub = registry_pb2_grpc.RegistryServiceStub(connection)
        found = await call(stub.GetModel, registry_pb2.GetModelRequest(model=name))
        versions = await call(stub.ListVersions, registry_pb2.ListVersionsRequest(model=name))
    champion = [alias.version for alias in found.model.aliases if alias.name == "champion"]
    return (champion[0] if champion else ""), len(versions.versions)


async def count_frames(deployment: Deployment, scenario: Scenario) -> tuple[int, int]:
    """(stored, rejected) frames of the demo's cameras, page by page from ingest."""
    async with httpx.AsyncClient(base_url=deployment.url("ingest"), timeout=30.0) as http:
        stored = sum([len(await _pages(http, "assets", camera)) for camera in CAMERAS])
        rejected = sum([len(await _pages(http, "rejections", camera)) for camera in CAMERAS])
    return stored, rejected


async def _pages(http: httpx.AsyncClient, noun: str, camera: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = ""
    while True:
        parameters: dict[str, str | int] = {"camera_id": camera, "limit": 1000, "cursor": cursor}
        answer = (await http.get(f"/api/v1/{noun}", params=parameters)).raise_for_status().json()
        rows += answer[noun]
        cursor = answer.get("next_cursor", "")
        if not cursor:
            return rows


async def frames_in_datasets(deployment: Deployment, journal: Journal) -> set[int]:
    """Numbers of the live frames that people labelled: only those can stand in a dataset version."""
    labelled: set[str] = set()
    async with channel(deployment.address("labeling")) as connection:
        stub: labeling_pb2_grpc.LabelingServiceAsyncStub = labeling_pb2_grpc.LabelingServiceStub(connection)
        for camera in CAMERAS:
            cursor = ""
            while True:
                request = labeling_pb2.ListAnnotationsRequest(camera_id=camera, limit=1000, cursor=cursor)
                answer = await call(stub.ListAnnotations, request)
                labelled |= {annotation.asset_id for annotation in answer.annotations}
                cursor = answer.next_cursor
                if not cursor:
                    break
    return {journal.truth.asset[asset] for asset in labelled if asset in journal.truth.asset}


async def import_images(
    deployment: Deployment, name: str, images: Any, labels: Any, class_names: Sequence[str]
) -> None:
    """The same road as `irisloop import`, from memory."""
    from services.local.demo.frames import png
    from services.local.importing import LabelledImage, import_labelled

    items = (
        LabelledImage(f"{place:06d}.png", png(image), class_names[int(label)], "image/png")
        for place, (image, label) in enumerate(zip(images, labels, strict=True))
    )
    await import_labelled(
        items,
        name=name,
        dataset=name,
        class_names=list(class_names),
        ingest_url=deployment.url("ingest"),
        labeling_address=deployment.address("labeling"),
    )
