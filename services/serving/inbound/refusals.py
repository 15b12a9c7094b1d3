"""The extensions of Triton's that are not offered, each refused in words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import grpc
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


async def refuse(context: Context, method: str) -> NoReturn:
    """End the call with UNIMPLEMENTED."""
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, f"{method} is an extension of Triton's that this server does not offer."
    )


class Refusals(grpc_service_pb2_grpc.GRPCInferenceServiceServicer):
    """What `InferenceServicer` leaves out."""

    async def ModelStreamInfer(self, request: Any, context: Context) -> AsyncIterator[pb.ModelStreamInferResponse]:
        await refuse(context, "ModelStreamInfer")
        yield pb.ModelStreamInferResponse()

    async def ModelStatistics(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "ModelStatistics")

    async def RepositoryModelLoad(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "RepositoryModelLoad")

    async def RepositoryModelUnload(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "RepositoryModelUnload")

    async def SystemSharedMemoryStatus(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "SystemSharedMemoryStatus")

    async def SystemSharedMemoryRegister(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "SystemSharedMemoryRegister")

    async def SystemSharedMemoryUnregister(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "SystemSharedMemoryUnregister")

    async def CudaSharedMemoryStatus(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "CudaSharedMemoryStatus")

    async def CudaSharedMemoryRegister(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "CudaSharedMemoryRegister")

    async def CudaSharedMemoryUnregister(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "CudaSharedMemoryUnregister")

    async def TraceSetting(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "TraceSetting")

    async def LogSettings(self, request: Any, context: Context) -> NoReturn:
        await refuse(context, "LogSettings")
