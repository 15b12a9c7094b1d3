"""`inference.GRPCInferenceService`: the Open Inference Protocol, and what clients often ask of Triton's extensions."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version as installed_version
from typing import Any, Final

import grpc
from inference import grpc_service_pb2 as pb
from inference import model_config_pb2

from services.serving.domain.routes import Route, RouteTable, Version
from services.serving.domain.tensors import TensorSpec, datatype_of, encoded
from services.serving.errors import UnknownModel, UnknownVersion
from services.serving.handlers.inference import Inference
from services.serving.inbound.refusals import Refusals
from services.serving.inbound.tensors import call_of

Context = grpc.aio.ServicerContext[Any, Any]

NAME: Final = "triton"
"""Clients of Triton look for it; what really answers stands in the version."""
EXTENSIONS: Final = ("binary_tensor_data", "model_configuration", "model_repository")
CONFIG_TYPES: Final = {"BYTES": "TYPE_STRING"}


class InferenceServicer(Refusals):
    """Decodes, calls the handler, encodes; errors are mapped by the kit's interceptor."""

    def __init__(self, table: Callable[[], RouteTable], inference: Inference, waiting_for: Callable[[], str]) -> None:
        self._table = table
        self._inference = inference
        self._waiting_for = waiting_for

    async def ServerLive(self, request: pb.ServerLiveRequest, context: Context) -> pb.ServerLiveResponse:
        """It answers, so it lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest, context: Context) -> pb.ServerReadyResponse:
        """As /readyz says; without any model it is ready too."""
        return pb.ServerReadyResponse(ready=not self._waiting_for())

    async def ModelReady(self, request: pb.ModelReadyRequest, context: Context) -> pb.ModelReadyResponse:
        """Whether the champion, or the version, would answer; a model that is not known is not ready."""
        try:
            self._table().resolve(request.name, request.version)
        except (UnknownModel, UnknownVersion):
            return pb.ModelReadyResponse(ready=False)
        return pb.ModelReadyResponse(ready=True)

    async def ServerMetadata(self, request: pb.ServerMetadataRequest, context: Context) -> pb.ServerMetadataResponse:
        """The protocol's name of the server, and our version."""
        ours = f"irisloop-{installed_version('irisloop')}"
        return pb.ServerMetadataResponse(name=NAME, version=ours, extensions=EXTENSIONS)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest, context: Context) -> pb.ModelMetadataResponse:
        """Names, types and shapes of the champion's tensors, or of a version's."""
        found = self._table().resolve(request.name, request.version)
        route = self._table().routes[found.model]
        return pb.ModelMetadataResponse(
            name=found.model,
            versions=[request.version] if request.version else sorted(route.versions, key=int),
            platform="onnxruntime_onnx",
            inputs=[_tensor(spec) for spec in found.engine.inputs],
            outputs=[_tensor(spec) for spec in found.engine.outputs],
        )

    async def ModelConfig(self, request: pb.ModelConfigRequest, context: Context) -> pb.ModelConfigResponse:
        """What Triton's config.pbtxt would say of it."""
        return pb.ModelConfigResponse(config=config_of(self._table().resolve(request.name, request.version)))

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest, context: Context) -> pb.RepositoryIndexResponse:
        """Every version: loaded ones are READY, failed ones UNAVAILABLE with the reason."""
        entries = [
            entry
            for _, route in sorted(self._table().routes.items())
            for entry in _index(route)
            if entry.state == "READY" or not request.ready
        ]
        return pb.RepositoryIndexResponse(models=entries)

    async def ModelInfer(self, request: pb.ModelInferRequest, context: Context) -> pb.ModelInferResponse:
        """One call."""
        answer = await self._inference.infer(call_of(request))
        response = pb.ModelInferResponse(
            model_name=answer.version.model, model_version=answer.version.name, id=request.id
        )
        for name, array in answer.outputs:
            response.outputs.add(name=name, datatype=datatype_of(array), shape=array.shape)
            response.raw_output_contents.append(encoded(array))
        return response


def config_of(version: Version) -> model_config_pb2.ModelConfig:
    """Triton's description; dimensions stand there without the batch."""
    engine = version.engine
    skip = 1 if engine.max_batch else 0
    config = model_config_pb2.ModelConfig(
        name=version.model, platform="onnxruntime_onnx", backend="onnxruntime", max_batch_size=engine.max_batch
    )
    config.version_policy.specific.versions.append(int(version.name))
    config.default_model_filename = "model.onnx"
    if engine.max_batch:
        config.dynamic_batching.max_queue_delay_microseconds = 0
    for spec in engine.inputs:
        config.input.add(name=spec.name, data_type=_config_type(spec), dims=spec.shape[skip:])
    for spec in engine.outputs:
        config.output.add(name=spec.name, data_type=_config_type(spec), dims=spec.shape[skip:])
    return config


def _config_type(spec: TensorSpec) -> model_config_pb2.DataType.ValueType:
    return model_config_pb2.DataType.Value(CONFIG_TYPES.get(spec.datatype, f"TYPE_{spec.datatype}"))


def _tensor(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _index(route: Route) -> list[pb.RepositoryIndexResponse.ModelIndex]:
    loaded = [
        pb.RepositoryIndexResponse.ModelIndex(name=route.model, version=name, state="READY")
        for name in sorted(route.versions, key=int)
    ]
    failed = [
        pb.RepositoryIndexResponse.ModelIndex(name=route.model, version=name, state="UNAVAILABLE", reason=problem)
        for name, problem in sorted(route.problems.items())
    ]
    return loaded + failed
