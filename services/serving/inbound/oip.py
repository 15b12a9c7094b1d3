"""`inference.GRPCInferenceService`: the Open Inference Protocol with Triton's extensions.

Its methods map errors and keep their own count (ModelStatistics), so that a call costs no more than it has to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, cast

import grpc
from inference import grpc_service_pb2 as pb
from inference import model_config_pb2

from services.serving.domain.restrictions import Restrictions
from services.serving.errors import BadRequest, Unsupported
from services.serving.handlers.catalog import Catalog, files_of
from services.serving.handlers.controls import Controls
from services.serving.handlers.inference import Inference
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.inbound import messages
from services.serving.inbound.statuses import abort
from services.serving.inbound.streams import Stream
from services.serving.inbound.tensors import call_of, response_of
from services.serving.inbound.unread import Unread
from services.serving.inbound.wire import Request, request_of, response_bytes

Context = grpc.aio.ServicerContext[Any, Any]
Method = Callable[[Any], Awaitable[Any]]

SERVICE: Final = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"]
INFER: Final = "ModelInfer"
STREAM: Final = "ModelStreamInfer"
TRACEPARENT: Final = "traceparent"
KEY: Final = "irisloop-key"


class InferenceService(grpc.GenericRpcHandler):
    """All methods of the service, found by name; added to the server as it is."""

    bare: Final = True

    def __init__(
        self,
        inference: Inference,
        catalog: Catalog,
        memory: SharedMemory,
        controls: Controls,
        restrictions: Restrictions,
        unread: Unread,
    ) -> None:
        self._inference = inference
        self._unread = unread
        self._restrictions = restrictions
        operations = Operations(catalog, memory, controls)
        self._methods = {
            f"/{SERVICE.full_name}/{method.name}": self._handler(method, operations) for method in SERVICE.methods
        }

    def service_name(self) -> str:
        """For health and reflection."""
        return str(SERVICE.full_name)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """The method's handler, or None."""
        return self._methods.get(handler_call_details.method)

    def _handler(self, method: Any, operations: Operations) -> Any:
        if method.name == INFER:
            return grpc.unary_unary_rpc_method_handler(self._infer, _decoded)
        if method.name == STREAM:
            return grpc.stream_stream_rpc_method_handler(self._stream, _decoded)
        answer = self._unary(method.name, getattr(operations, method.name), getattr(pb, method.input_type.name))
        return grpc.unary_unary_rpc_method_handler(answer, None, getattr(pb, method.output_type.name).SerializeToString)

    def _unary(self, name: str, method: Method, request_type: Any) -> Callable[[bytes, Context], Awaitable[Any]]:
        async def answer(data: bytes, context: Context) -> Any:
            try:
                self._restrictions.check_method(name, context.invocation_metadata() or ())
                return await method(_parsed(request_type, data))
            except Exception as error:
                await abort(context, error)

        return answer

    async def _infer(self, request: Request | Exception, context: Context) -> bytes:
        try:
            key, traceparent = self._about(INFER, context)
            if isinstance(request, Exception):
                raise request
            answer = response_bytes(*response_of(await self._inference.infer(call_of(request, key, traceparent))))
            if held := self._unread.take(len(answer)):
                context.add_done_callback(cast(Any, lambda _: self._unread.give(held)))  # the stub wants a class
            return answer
        except Exception as error:
            await abort(context, error)

    async def _stream(self, requests: AsyncIterator[Request | Exception], context: Context) -> AsyncIterator[bytes]:
        try:
            key, traceparent = self._about(STREAM, context)
        except Exception as error:
            await abort(context, error)
        async for response in Stream(self._inference, key, traceparent, self._unread).answers(requests):
            yield response

    def _about(self, method: str, context: Context) -> tuple[str, str]:
        """The key and the trace of the call. Raises where the method is restricted."""
        key = traceparent = ""
        metadata = context.invocation_metadata() or ()
        if self._restrictions:
            self._restrictions.check_method(method, metadata)
        for name, value in metadata:
            if name == TRACEPARENT:
                traceparent = str(value)
            elif name == KEY:
                key = str(value)
        return key, traceparent


class Operations:
    """Everything but inference: one method a call, named as in the protocol; errors are mapped around them."""

    def __init__(self, catalog: Catalog, memory: SharedMemory, controls: Controls) -> None:
        self._catalog = catalog
        self._memory = memory
        self._controls = controls

    async def ServerLive(self, request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """It answers, so it lives."""
        return pb.ServerLiveResponse(live=True)

    async def ServerReady(self, request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """As /readyz says."""
        return pb.ServerReadyResponse(ready=self._catalog.server_ready())

    async def ModelReady(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """A model that is not known is not ready."""
        return pb.ModelReadyResponse(ready=self._catalog.ready(request.name, request.version))

    async def ServerMetadata(self, request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Name, version, extensions."""
        facts = self._catalog.server()
        return pb.ServerMetadataResponse(name=facts.name, version=facts.version, extensions=facts.extensions)

    async def ModelMetadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """Names, types and shapes."""
        return messages.metadata_message(self._catalog.metadata(request.name, request.version))

    async def ModelConfig(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The complete configuration."""
        found = self._catalog.config(request.name, request.version)
        return pb.ModelConfigResponse(config=model_config_pb2.ModelConfig.FromString(found))

    async def ModelStatistics(self, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
        """Counts and durations since the version was loaded."""
        found = self._catalog.statistics(request.name, request.version)
        return pb.ModelStatisticsResponse(model_stats=[messages.statistics_message(*one) for one in found])

    async def RepositoryIndex(self, request: pb.RepositoryIndexRequest) -> pb.RepositoryIndexResponse:
        """Every version that is loaded, failed or could be loaded."""
        _no_repository(request.repository_name)
        return messages.index_message(self._catalog.index(ready_only=request.ready))

    async def RepositoryModelLoad(self, request: pb.RepositoryModelLoadRequest) -> pb.RepositoryModelLoadResponse:
        """Load, or load anew."""
        _no_repository(request.repository_name)
        config, files = files_of(messages.repository_values(request.parameters))
        await self._catalog.load(request.model_name, config, files)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: pb.RepositoryModelUnloadRequest) -> pb.RepositoryModelUnloadResponse:
        """Unload all versions."""
        _no_repository(request.repository_name)
        dependents = messages.repository_values(request.parameters).get("unload_dependents", False)
        if not isinstance(dependents, bool):
            raise BadRequest("invalid value type for 'unload_dependents' parameter, expected bool_param.")
        await self._catalog.unload(request.model_name, dependents=dependents)
        return pb.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """One region, or all."""
        return messages.regions_message(self._memory.status(request.name))

    async def SystemSharedMemoryRegister(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Open it."""
        self._memory.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """One, or all."""
        self._memory.unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def CudaSharedMemoryStatus(self, request: Any) -> pb.CudaSharedMemoryStatusResponse:
        """There are none."""
        raise Unsupported(NO_CUDA)

    async def CudaSharedMemoryRegister(self, request: Any) -> pb.CudaSharedMemoryRegisterResponse:
        """Refused."""
        raise Unsupported(NO_CUDA)

    async def CudaSharedMemoryUnregister(self, request: Any) -> pb.CudaSharedMemoryUnregisterResponse:
        """None is registered, as the caller wants it; clients clean up by it before they begin."""
        return pb.CudaSharedMemoryUnregisterResponse()

    async def TraceSetting(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Change what is given, answer with all."""
        changes = {name: list(setting.value) or None for name, setting in request.settings.items()}
        return messages.trace_message(self._controls.trace(request.model_name, changes))

    async def LogSettings(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Change what is given, answer with all."""
        return messages.log_message(self._controls.log(messages.log_values(request.settings)))


NO_CUDA: Final = "CUDA shared memory is not offered: this server computes on CPUs; use system shared memory"


def _no_repository(name: str) -> None:
    if name:
        raise Unsupported("'repository_name' specification is not supported")


def _decoded(data: bytes) -> Request | Exception:
    """An error is answered where the call is, with a sentence; grpcio would say UNKNOWN."""
    try:
        return request_of(data)
    except BadRequest as error:
        return error


def _parsed(request_type: Any, data: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return request_type.FromString(data)
    except DecodeError as error:
        raise BadRequest(f"The message is not an inference.{request_type.DESCRIPTOR.name}: {error}") from error
