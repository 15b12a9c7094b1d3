"""Labeling and registry over gRPC, as the handlers see them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Self

from irisloop.labeling.v1 import labeling_pb2, labeling_pb2_grpc
from irisloop.registry.v1 import registry_pb2, registry_pb2_grpc

from services.common.errors import NotFound
from services.common.grpc import call, channel
from services.common.settings import Addresses
from services.trainer import wire
from services.trainer.domain.jobs import Opponent
from services.trainer.domain.ports import Champion, DatasetVersion, LabelsAnswer
from services.trainer.domain.runs import Run


class Neighbours:
    """The two channels; connects when the first call is made, and again after a neighbour's restart."""

    labeling: GrpcLabeling
    registry: GrpcRegistry

    def __init__(self, addresses: Addresses) -> None:
        self._addresses = addresses
        self._stack = AsyncExitStack()
        self.labeling = GrpcLabeling()
        self.registry = GrpcRegistry()

    async def __aenter__(self) -> Self:
        labeling = await self._stack.enter_async_context(channel(self._addresses.labeling))
        registry = await self._stack.enter_async_context(channel(self._addresses.registry))
        self.labeling.stub = labeling_pb2_grpc.LabelingServiceStub(labeling)
        self.registry.stub = registry_pb2_grpc.RegistryServiceStub(registry)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()


class GrpcLabeling:
    """`Labeling` by `irisloop.labeling.v1.LabelingService`."""

    stub: labeling_pb2_grpc.LabelingServiceAsyncStub

    async def request(self, run: Run) -> LabelsAnswer:
        answer = await call(
            self.stub.RequestDatasetVersion,
            labeling_pb2.RequestDatasetVersionRequest(
                request_id=run.request_id,
                dataset=run.dataset,
                labels_since=wire.timestamp(run.labels_since),
                labels_wanted=run.labels_wanted,
                cameras=run.cameras,
                model=run.model,
            ),
            timeout_s=60.0,
        )
        version = wire.version_value(answer.version) if answer.HasField("version") else None
        return LabelsAnswer(version, answer.labels_present, answer.labels_wanted)

    async def cancel(self, request_id: str) -> None:
        await call(self.stub.CancelDatasetRequest, labeling_pb2.CancelDatasetRequestRequest(request_id=request_id))

    async def version(self, dataset: str, version: int) -> DatasetVersion:
        request = labeling_pb2.GetDatasetVersionRequest(dataset=dataset, version=version)
        return wire.version_value((await call(self.stub.GetDatasetVersion, request)).version)


class GrpcRegistry:
    """`Registry` by `irisloop.registry.v1.RegistryService`."""

    stub: registry_pb2_grpc.RegistryServiceAsyncStub

    async def champion(self, model: str) -> Champion | None:
        try:
            found = await self._version(model, "champion")
        except NotFound:
            return None
        return Champion(found.version, found.package.digest, found.run_id, found.dataset)

    async def version(self, model: str, version: str) -> Opponent:
        found = await self._version(model, version)
        return Opponent(found.version, found.package.digest)

    async def _version(self, model: str, version: str) -> registry_pb2.ModelVersion:
        request = registry_pb2.GetVersionRequest(model=model, version=version)
        return (await call(self.stub.GetVersion, request)).version
