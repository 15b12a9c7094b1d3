"""Walks from any thing in the loop to what it came from and to what came of it, by asking each owner.

camera -> asset -> dataset version -> run -> model version -> prediction -> asset -> camera. Predictions are events and
nobody's table, so they are looked for in their topic: an asset's in its own partition and from its own time on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final, Protocol

from irisloop.ingest.v1 import ingest_pb2, ingest_pb2_grpc
from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc
from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc
from irisloop.serving.v1 import serving_pb2
from irisloop.trainer.v1 import trainer_pb2, trainer_pb2_grpc

from services.common.errors import InvalidMessage, NotFound
from services.common.settings import CommonSettings
from services.local.predictions import PredictionTopic

FEW: Final = 5


@dataclass(slots=True)
class Node:
    """One thing; `relation` says what it is to the node above."""

    kind: str
    name: str
    detail: str = ""
    relation: str = ""
    children: list[Node] = field(default_factory=list)

    def with_relation(self, relation: str) -> Node:
        """The same under a parent."""
        self.relation = relation
        return self

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


class Owners(Protocol):
    """How the services are asked; a command's session is one."""

    def common(self) -> CommonSettings: ...

    def stub(self, service: str, make: Any) -> Any: ...

    async def call(self, service: str, method: Any, request: Any, *, timeout_s: float = 30.0) -> Any: ...


class Predictions(Protocol):
    """Where predictions are looked for."""

    async def of_asset(self, asset: ingest_pb2.Asset) -> list[serving_pb2.Prediction]: ...

    async def by_id(self, prediction_id: str) -> serving_pb2.Prediction | None: ...

    async def newest(self, model: str, version: str) -> list[serving_pb2.Prediction]: ...


async def trace(owners: Owners, subject: str, predictions: Predictions | None = None) -> Node:
    """The thing of that name with both directions below it. Raises `NotFound` when no owner knows it."""
    walk = _Walk(owners, predictions or PredictionTopic(owners.common()))
    name, slash, number = subject.rpartition("/")
    if slash:
        numbered = [partial(walk.version, name, number), partial(walk.dataset, name, number)]
        found = [node for node in [await walk.attempt(one) for one in numbered] if node is not None]
        if len(found) > 1:
            return Node("name", subject, "two things have this name", children=found)
        if found:
            return found[0]
    for attempt in () if slash else (walk.asset, walk.run, walk.prediction):
        if (node := await walk.attempt(partial(attempt, subject))) is not None:
            return node
    if (node := await walk.attempt(partial(walk.camera, subject))) is not None:
        return node
    raise NotFound(
        f"No owner knows {subject!r}. Give an asset, prediction or run id, MODEL/VERSION, DATASET/VERSION or a camera."
    )


class _Walk:
    """The questions; each thing is shown whole once, so that the tree ends."""

    def __init__(self, owners: Owners, predictions: Predictions) -> None:
        self._owners = owners
        self._predictions = predictions

    async def attempt(self, question: Callable[[], Awaitable[Node]]) -> Node | None:
        """The answer, or None for a name that its owner does not know or finds odd."""
        try:
            return await question()
        except (NotFound, InvalidMessage):
            return None

    # ---- the beginnings ----

    async def asset(self, asset_id: str) -> Node:
        asset = await self._asset(asset_id)
        node = _asset_node(asset)
        node.children.append(_camera_node(asset.camera_id).with_relation("from"))
        node.children += await self._labels(asset_id)
        for version in await self._versions_with(asset_id):
            node.children.append((await self._dataset_down(version)).with_relation("in"))
        for prediction in await self._predictions.of_asset(asset):
            node.children.append((await self._prediction_up(prediction)).with_relation("gave"))
        return node

    async def prediction(self, prediction_id: str) -> Node:
        found = await self._predictions.by_id(prediction_id)
        if found is None:
            raise NotFound(f"no prediction {prediction_id}")
        node = await self._prediction_up(found)
        if found.asset_id:
            asset = await self._known(self._asset(found.asset_id))
            above = _asset_node(asset) if asset is not None else Node("asset", found.asset_id, "deleted")
            above.relation = "of"
            above.children.append(_camera_node(found.camera_id).with_relation("from"))
            node.children.append(above)
        return node

    async def run(self, run_id: str) -> Node:
        run = await self._run(run_id)
        node = await self._run_up(run)
        node.children += await self._versions_of(run)
        return node

    async def version(self, model: str, version: str) -> Node:
        found = await self._version(model, version)
        node = await self._version_up(found)
        made = await self._predictions.newest(found.model, found.version)
        node.children += [_prediction_node(one).with_relation("made") for one in made[-FEW:]]
        return node

    async def dataset(self, name: str, number: str) -> Node:
        if not number.isdigit():
            raise NotFound(f"no dataset version {name}/{number}")
        async with self._owners.stub("labeling", labeling_pb2_grpc.LabelingServiceStub) as stub:
            request = labeling_pb2.GetDatasetVersionRequest(dataset=name, version=int(number))
            version = (await self._owners.call("labeling", stub.GetDatasetVersion, request)).version
        node = await self._dataset_down(version)
        node.children += await self._contents(version)
        return node

    async def camera(self, camera_id: str) -> Node:
        if not camera_id:
            raise NotFound("no camera without an id")
        async with self._owners.stub("ingest", ingest_pb2_grpc.IngestServiceStub) as stub:
            request = ingest_pb2.ListAssetsRequest(camera_id=camera_id, limit=FEW)
            assets = (await self._owners.call("ingest", stub.ListAssets, request)).assets
        if not assets:
            raise NotFound(f"no camera {camera_id}")
        children = [_asset_node(asset).with_relation("sent") for asset in assets]
        return Node("camera", camera_id, f"its {len(assets)} newest assets", children=children)

    # ---- upwards: where it came from ----

    async def _prediction_up(self, prediction: serving_pb2.Prediction) -> Node:
        node = _prediction_node(prediction)
        if prediction.version:
            version = await self._known(self._version(prediction.model, prediction.version))
            node.children.append(
                (await self._version_up(version)).with_relation("by")
                if version is not None
                else Node("model version", f"{prediction.model}/{prediction.version}", relation="by")
            )
        return node

    async def _version_up(self, version: registry_pb2.ModelVersion) -> Node:
        state = registry_pb2.VersionState.Name(version.state).removeprefix("VERSION_STATE_").lower()
        aliases = await self._aliases(version)
        detail = " ".join([state, *aliases, f"package {version.package.digest[:12]}"])
        node = Node("model version", f"{version.model}/{version.version}", detail)
        run = await self._known(self._run(version.run_id)) if version.run_id else None
        if run is not None:
            node.children.append((await self._run_up(run)).with_relation("from"))
        return node

    async def _run_up(self, run: trainer_pb2.Run) -> Node:
        state = trainer_pb2.RunState.Name(run.state).removeprefix("RUN_STATE_").lower()
        asked = f", asked for by {run.request_id or run.requested_by}" if run.request_id or run.requested_by else ""
        node = Node("run", run.id, f"{run.model}, {state}, seed {run.seed}{asked}")
        if run.dataset_version:
            async with self._owners.stub("labeling", labeling_pb2_grpc.LabelingServiceStub) as stub:
                request = labeling_pb2.GetDatasetVersionRequest(dataset=run.dataset, version=run.dataset_version)
                answer = await self._known(self._owners.call("labeling", stub.GetDatasetVersion, request))
            if answer is not None:
                above = _dataset_node(answer.version).with_relation("on")
                above.children += await self._contents(answer.version)
                node.children.append(above)
        return node

    async def _contents(self, version: labeling_pb2.DatasetVersion) -> list[Node]:
        """Cameras of a dataset version and how many assets each gave, from its manifest."""
        content = await self._known(self._object(version.manifest.digest))
        if content is None:
            where = self._owners.common().objects
            return [Node("manifest", version.manifest.digest, f"not in {where}: run this where the loop's home is")]
        rows = await asyncio.to_thread(read_manifest, content)
        cameras: dict[str, list[str]] = {}
        for asset_id, camera_id in rows:
            cameras.setdefault(camera_id, []).append(asset_id)
        return [
            Node(
                "camera",
                camera_id,
                f"{len(assets):,} assets",
                relation="holds",
                children=[Node("asset", asset_id, relation="sent") for asset_id in assets[:FEW]],
            )
            for camera_id, assets in sorted(cameras.items())
        ]

    # ---- downwards: what came of it ----

    async def _dataset_down(self, version: labeling_pb2.DatasetVersion) -> Node:
        node = _dataset_node(version)
        async with self._owners.stub("trainer", trainer_pb2_grpc.TrainerServiceStub) as stub:
            request = trainer_pb2.ListRunsRequest(dataset=version.dataset, limit=100)
            runs = (await self._owners.call("trainer", stub.ListRuns, request)).runs
        for run in runs:
            if run.dataset_version == version.version:
                below = Node("run", run.id, run.model, relation="trained")
                below.children += await self._versions_of(run)
                node.children.append(below)
        return node

    async def _versions_of(self, run: trainer_pb2.Run) -> list[Node]:
        async with self._owners.stub("registry", registry_pb2_grpc.RegistryServiceStub) as stub:
            request = registry_pb2.ListVersionsRequest(model=run.model, run_id=run.id)
            answer = await self._known(self._owners.call("registry", stub.ListVersions, request))
        versions = answer.versions if answer is not None else ()
        return [
            Node("model version", f"{one.model}/{one.version}", " ".join(await self._aliases(one)), relation="gave")
            for one in versions
        ]

    async def _versions_with(self, asset_id: str) -> Sequence[labeling_pb2.DatasetVersion]:
        async with self._owners.stub("labeling", labeling_pb2_grpc.LabelingServiceStub) as stub:
            request = labeling_pb2.ListDatasetVersionsRequest(asset_id=asset_id)
            versions: Sequence[labeling_pb2.DatasetVersion]
            versions = (await self._owners.call("labeling", stub.ListDatasetVersions, request)).versions
            return versions

    async def _labels(self, asset_id: str) -> list[Node]:
        async with self._owners.stub("labeling", labeling_pb2_grpc.LabelingServiceStub) as stub:
            request = labeling_pb2.ListAnnotationsRequest(asset_id=asset_id)
            annotations = (await self._owners.call("labeling", stub.ListAnnotations, request)).annotations
        return [
            Node(
                "annotation",
                one.id,
                f"{', '.join(label.class_name for label in one.labels)} by {one.annotated_by}, revision {one.revision}",
                relation="labelled",
            )
            for one in annotations
        ]

    # ---- single questions ----

    async def _asset(self, asset_id: str) -> ingest_pb2.Asset:
        async with self._owners.stub("ingest", ingest_pb2_grpc.IngestServiceStub) as stub:
            request = ingest_pb2.GetAssetRequest(asset_id=asset_id)
            asset: ingest_pb2.Asset = (await self._owners.call("ingest", stub.GetAsset, request)).asset
            return asset

    async def _run(self, run_id: str) -> trainer_pb2.Run:
        async with self._owners.stub("trainer", trainer_pb2_grpc.TrainerServiceStub) as stub:
            request = trainer_pb2.GetRunRequest(run_id=run_id)
            run: trainer_pb2.Run = (await self._owners.call("trainer", stub.GetRun, request)).run
            return run

    async def _version(self, model: str, version: str) -> registry_pb2.ModelVersion:
        async with self._owners.stub("registry", registry_pb2_grpc.RegistryServiceStub) as stub:
            request = registry_pb2.GetVersionRequest(model=model, version=version)
            found: registry_pb2.ModelVersion
            found = (await self._owners.call("registry", stub.GetVersion, request)).version
            return found

    async def _aliases(self, version: registry_pb2.ModelVersion) -> list[str]:
        async with self._owners.stub("registry", registry_pb2_grpc.RegistryServiceStub) as stub:
            request = registry_pb2.GetModelRequest(model=version.model)
            model = (await self._owners.call("registry", stub.GetModel, request)).model
        return [alias.name for alias in model.aliases if alias.version == version.version]

    async def _object(self, digest: str) -> bytes:
        from services.common.objects import ObjectStore

        settings = self._owners.common()
        async with ObjectStore(settings.objects, settings.durability) as store:
            return await store.get(digest)

    async def _known(self, question: Any) -> Any:
        """The answer, or None for what its owner does not have any more."""
        try:
            return await question
        except NotFound:
            return None


def _asset_node(asset: ingest_pb2.Asset) -> Node:
    captured = asset.captured_at.ToDatetime().isoformat(" ", "seconds")
    return Node("asset", asset.id, f"captured {captured} UTC, {asset.width}x{asset.height}, {asset.object.digest[:12]}")


def _camera_node(camera_id: str) -> Node:
    return Node("camera", camera_id)


def _prediction_node(prediction: serving_pb2.Prediction) -> Node:
    best = prediction.scores[0] if prediction.scores else None
    said = f"{best.class_name} {best.score:.2f}" if best is not None else prediction.error
    return Node("prediction", prediction.id, f"{prediction.role}, {said}")


def _dataset_node(version: labeling_pb2.DatasetVersion) -> Node:
    splits = ", ".join(f"{split.assets:,} {split.split}" for split in version.splits)
    return Node("dataset version", f"{version.dataset}/{version.version}", f"{splits}, digest {version.digest[:12]}")


def read_manifest(content: bytes) -> list[tuple[str, str]]:
    """(asset id, camera id) of every row of a dataset version's Parquet manifest."""
    import io

    from pyarrow import parquet

    table = parquet.read_table(io.BytesIO(content), columns=["asset_id", "camera_id"])
    return list(zip(table["asset_id"].to_pylist(), table["camera_id"].to_pylist(), strict=True))
