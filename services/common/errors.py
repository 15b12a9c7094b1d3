"""The errors that decide what happens to a piece of work, whatever road it came by.

    IrisloopError
    |-- InvalidMessage      will never work            -> dead letter, HTTP 400, gRPC INVALID_ARGUMENT
    |-- NotFound            names something unknown    -> dead letter, HTTP 404, gRPC NOT_FOUND
    |-- Conflict            breaks a rule of the state -> dead letter, HTTP 409, gRPC FAILED_PRECONDITION
    |-- Transient           may work in a moment       -> retried with back-off, HTTP 503, gRPC UNAVAILABLE
    `-- Unavailable         a neighbour is missing     -> not ready, retried, HTTP 503, gRPC UNAVAILABLE

The mapping to status codes lives with each transport (`services.common.http`, `services.common.grpc`).
"""

from __future__ import annotations


class IrisloopError(Exception):
    """The root; `str(error)` is one sentence a person can act on."""

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        """`field` names the offending input; `reason` is an UPPER_SNAKE_CASE word that programs may rely on."""
        super().__init__(message)
        self.field = field
        self.reason = reason or type(self).default_reason

    default_reason = "ERROR"


class InvalidMessage(IrisloopError):
    """The input breaks its contract and would break it again: answered or dead-lettered, never retried."""

    default_reason = "INVALID"


class NotFound(IrisloopError):
    """The input names something that its owner does not have."""

    default_reason = "NOT_FOUND"


class Conflict(IrisloopError):
    """The input is well formed, but the present state forbids it."""

    default_reason = "CONFLICT"


class Transient(IrisloopError):
    """The same input may succeed in a moment: retried with back-off, in order."""

    default_reason = "TRANSIENT"


class Unavailable(Transient):
    """A neighbour that this work needs does not answer; the service stays up and says what it waits for."""

    default_reason = "UNAVAILABLE"


class PoisonedDelivery(InvalidMessage):
    """One delivery of a batch is at fault; the others are fine and are handed in again without it."""

    def __init__(self, index: int, message: str, *, field: str = "", reason: str = "") -> None:
        """`index` is the delivery's place in the batch that the handler was given."""
        super().__init__(message, field=field, reason=reason)
        self.index = index


def why_unreadable(error: Exception) -> str:
    """Why a file cannot be opened or understood: on one line and without its path, which the caller names."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text in UTF-8"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    words = " ".join(str(error).split())
    return f"{type(error).__name__} {words}" if isinstance(error, (KeyError, TypeError)) else words
