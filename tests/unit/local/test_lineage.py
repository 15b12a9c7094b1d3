"""Lineage: from every thing in the loop up to the camera and down to the predictions."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.trainer.v1 import trainer_pb2
from pyarrow import parquet

from services.common.errors import NotFound
from services.common.objects import ObjectStore
from services.common.settings import CommonSettings
from services.local.lineage import Node, trace

ASSET = ingest_pb2.Asset(id="a1", camera_id="gate-1", width=28, height=28)
PREDICTION = serving_pb2.Prediction(
    id="p1", asset_id="a1", camera_id="gate-1", model="shoes", version="3", role="champion",
    scores=[serving_pb2.Score(class_name="boot", score=0.9)],
)  # fmt: skip
RUN = trainer_pb2.Run(
    id="r1", model="shoes", state=trainer_pb2.RUN_STATE_SUCCEEDED, dataset="shoes-data", dataset_version=2, seed=4
)
VERSION = registry_pb2.ModelVersion(
    model="shoes", version="3", run_id="r1", state=registry_pb2.VERSION_STATE_ACCEPTED, dataset="shoes-data"
)


class Owners:
    """Four services that know one of each thing; the stub is the owner itself."""

    def __init__(self, settings: CommonSettings, manifest: str) -> None:
        self._settings = settings
        self._dataset = labeling_pb2.DatasetVersion(
            dataset="shoes-data", version=2, splits=[labeling_pb2.SplitCount(split="train", assets=2)]
        )
        self._dataset.manifest.digest = manifest

    def common(self) -> CommonSettings:
        return self._settings

    @asynccontextmanager
    async def stub(self, service: str, make: Any) -> AsyncIterator[Owners]:
        yield self

    async def call(self, service: str, method: Any, request: Any, *, timeout_s: float = 1.0) -> Any:
        return method(request)

    def GetAsset(self, request: Any) -> Any:
        _must_be(request.asset_id, "a1")
        return ingest_pb2.GetAssetResponse(asset=ASSET)

    def ListAssets(self, request: Any) -> Any:
        assets = [ASSET] * (request.camera_id in ("gate-1", ""))  # an empty id is every camera, as ingest has it
        return ingest_pb2.ListAssetsResponse(assets=assets)

    def GetRun(self, request: Any) -> Any:
        _must_be(request.run_id, "r1")
        return trainer_pb2.GetRunResponse(run=RUN)

    def ListRuns(self, request: Any) -> Any:
        return trainer_pb2.ListRunsResponse(runs=[RUN, trainer_pb2.Run(id="r0", dataset_version=1)])

    def GetVersion(self, request: Any) -> Any:
        _must_be(f"{request.model}/{request.version}", "shoes/3")
        return registry_pb2.GetVersionResponse(version=VERSION)

    def ListVersions(self, request: Any) -> Any:
        return registry_pb2.ListVersionsResponse(versions=[VERSION] * (request.run_id == "r1"))

    def GetModel(self, request: Any) -> Any:
        aliases = [registry_pb2.Alias(name="champion", version="3"), registry_pb2.Alias(name="shadow", version="2")]
        return registry_pb2.GetModelResponse(model=registry_pb2.Model(name="shoes", aliases=aliases))

    def GetDatasetVersion(self, request: Any) -> Any:
        _must_be(f"{request.dataset}/{request.version}", "shoes-data/2")
        return labeling_pb2.GetDatasetVersionResponse(version=self._dataset)

    def ListDatasetVersions(self, request: Any) -> Any:
        return labeling_pb2.ListDatasetVersionsResponse(versions=[self._dataset] * (request.asset_id == "a1"))

    def ListAnnotations(self, request: Any) -> Any:
        label = labeling_pb2.Annotation(id="n1", labels=[labeling_pb2.Label(class_name="boot")], annotated_by="ann")
        return labeling_pb2.ListAnnotationsResponse(annotations=[label])


def _must_be(name: str, known: str) -> None:
    if name != known:
        raise NotFound(f"no {name}")


class Predictions:
    async def of_asset(self, asset: ingest_pb2.Asset) -> list[serving_pb2.Prediction]:
        return [PREDICTION] * (asset.id == "a1")

    async def by_id(self, prediction_id: str) -> serving_pb2.Prediction | None:
        return PREDICTION if prediction_id == "p1" else None

    async def newest(self, model: str, version: str) -> list[serving_pb2.Prediction]:
        return [PREDICTION] * (f"{model}/{version}" == "shoes/3")


@pytest.fixture
async def owners(tmp_path: Path) -> Owners:
    settings = CommonSettings(home=tmp_path)
    table = pa.table({"asset_id": ["a1", "a2"], "camera_id": ["gate-1", "gate-1"], "label": ["boot", "boot"]})
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    async with ObjectStore(settings.objects) as store:
        return Owners(settings, await store.put(buffer.getvalue()))


def paths(node: Node, above: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """Every way from the root to a leaf, as kind and name."""
    here = (*above, f"{node.kind} {node.name}")
    return {here}.union(*(paths(child, here) for child in node.children))


UP = ("model version shoes/3", "run r1", "dataset version shoes-data/2", "camera gate-1", "asset a1")
DOWN = ("dataset version shoes-data/2", "run r1", "model version shoes/3")


@pytest.mark.parametrize(
    ("subject", "ways"),
    [
        ("p1", [("prediction p1", *UP), ("prediction p1", "asset a1", "camera gate-1")]),
        ("a1", [("asset a1", "camera gate-1"), ("asset a1", *DOWN), ("asset a1", "prediction p1", *UP)]),
        ("shoes/3", [UP, ("model version shoes/3", "prediction p1")]),
        ("r1", [UP[1:], DOWN[1:]]),
        ("shoes-data/2", [DOWN, UP[2:]]),
        ("gate-1", [("camera gate-1", "asset a1")]),
    ],
)
async def test_each_thing_leads_both_ways(owners: Owners, subject: str, ways: list[tuple[str, ...]]) -> None:
    found = await trace(owners, subject, Predictions())
    assert set(ways) <= paths(found)


async def test_a_label_and_the_aliases_are_told(owners: Owners) -> None:
    found = await trace(owners, "a1", Predictions())
    told = {child.relation: child.detail for child in found.children}
    assert "boot by ann" in told["labelled"]
    assert told["gave"] == "champion, boot 0.90"
    version = await trace(owners, "shoes/3", Predictions())
    assert version.detail.startswith("accepted champion package")


async def test_a_manifest_that_is_not_in_this_home_is_said_and_the_rest_is_shown(owners: Owners) -> None:
    elsewhere = Owners(owners.common(), "0" * 64)
    found = await trace(elsewhere, "shoes/3", Predictions())
    (dataset,) = found.children[0].children
    (manifest,) = dataset.children
    assert (found.name, dataset.name, manifest.kind) == ("shoes/3", "shoes-data/2", "manifest")
    assert f"not in {owners.common().objects}" in manifest.detail


async def test_a_prediction_outlives_its_asset(owners: Owners) -> None:
    class OfADeletedAsset(Predictions):
        async def by_id(self, prediction_id: str) -> serving_pb2.Prediction | None:
            return serving_pb2.Prediction(id="p1", asset_id="a9", camera_id="gate-1", model="shoes", version="3")

    found = await trace(owners, "p1", OfADeletedAsset())
    assert ("prediction p1", "asset a9", "camera gate-1") in paths(found)
    assert [child.detail for child in found.children if child.kind == "asset"] == ["deleted"]


@pytest.mark.parametrize("subject", ["nothing", "shoes/4", "shoes-data/x", ""])
async def test_what_nobody_knows_is_a_sentence(owners: Owners, subject: str) -> None:
    with pytest.raises(NotFound, match="No owner knows"):
        await trace(owners, subject, Predictions())
