"""Our errors as gRPC statuses of the inference protocol: as Triton maps them, so that clients' retries work on."""

from __future__ import annotations

from typing import Any, Final, NoReturn

import grpc

from services.common.errors import Conflict, InvalidMessage, IrisloopError, NotFound, Transient
from services.common.telemetry import log
from services.serving.errors import NotPolled, RegionTaken, Restricted, Unsupported

CODES: Final = (
    (InvalidMessage, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (Transient, grpc.StatusCode.UNAVAILABLE),
    (Unsupported, grpc.StatusCode.UNIMPLEMENTED),
    (NotPolled, grpc.StatusCode.INTERNAL),
    (Restricted, grpc.StatusCode.UNAVAILABLE),
    (RegionTaken, grpc.StatusCode.ALREADY_EXISTS),
)
RETRY: Final = (("grpc-retry-pushback-ms", "500"),)
"""When to try again (gRPC proposal A6), beside UNAVAILABLE."""
BUG: Final = "The server failed; its log says why."


def status_of(error: Exception) -> tuple[grpc.StatusCode, str]:
    """The status and its message; an error that nobody foresaw is logged, and INTERNAL."""
    for kind, code in CODES:
        if isinstance(error, kind):
            return code, str(error)
    if not isinstance(error, IrisloopError):
        log.error("inference_call_failed", error=repr(error), exc_info=error)
    return grpc.StatusCode.INTERNAL, BUG


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: Exception) -> NoReturn:
    """End the call with the error's status."""
    code, message = status_of(error)
    error.__traceback__ = None  # grpcio keeps the error until a collection of cycles; the tensors are in its frames
    await context.abort(code, message, RETRY if code is grpc.StatusCode.UNAVAILABLE else ())
    raise AssertionError("abort returns")
