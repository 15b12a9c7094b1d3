"""Our errors as HTTP statuses of the inference protocol."""

from __future__ import annotations

from typing import Final

from services.common.errors import IrisloopError, NotFound, Transient
from services.common.telemetry import log
from services.serving.errors import NotPolled, Restricted, Unsupported

STATUSES: Final = (
    (Restricted, 403),
    (NotFound, 404),
    (Transient, 503),
    (Unsupported, 501),
    (NotPolled, 500),
    (IrisloopError, 400),
)
"""The most particular first; whatever else is known blames the request."""
RETRY_AFTER: Final = (b"retry-after", b"1")


class HttpError(Exception):
    """An answer that only HTTP has, e.g. a route that is not there."""

    def __init__(self, status: int, message: str, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


def status_of(error: Exception) -> tuple[int, str, tuple[tuple[bytes, bytes], ...]]:
    """The status, its sentence, and more headers; an error that nobody foresaw is logged, and 500."""
    if isinstance(error, HttpError):
        return error.status, str(error), error.headers
    if isinstance(error, RecursionError):  # orjson takes lists in lists deeper than Python can follow them
        return 400, "the JSON is nested too deeply", ()
    for kind, status in STATUSES:
        if isinstance(error, kind):
            return status, str(error), (RETRY_AFTER,) if status == 503 else ()
    log.error("inference_call_failed", error=repr(error), exc_info=error)
    return 500, "The server failed; its log says why.", ()
