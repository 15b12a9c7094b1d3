"""What serving refuses, as branches of the shared tree.

InvalidMessage
|-- BadPackage          the model folder breaks its format, or the graph is not what model.json says
|-- BadRequest          a call whose tensors, version or parameters do not fit the model
`-- BadBinding          a binding that could never apply
NotFound
|-- UnknownModel
|-- UnknownVersion
`-- UnknownBinding
Transient
`-- Overloaded          the model's queue is full
IrisloopError
`-- InferenceFailed     the runtime failed on well-formed input
"""

from __future__ import annotations

from services.common.errors import InvalidMessage, IrisloopError, NotFound, Transient


class BadPackage(InvalidMessage):
    """The package cannot become a served version."""

    default_reason = "BAD_PACKAGE"


class BadRequest(InvalidMessage):
    """The call does not fit the model it names."""

    default_reason = "BAD_REQUEST"


class BadBinding(InvalidMessage):
    """The binding is refused, since it could never apply."""

    default_reason = "BAD_BINDING"


class UnknownModel(NotFound):
    """No alias of a model of that name was ever published here."""

    default_reason = "UNKNOWN_MODEL"


class UnknownVersion(NotFound):
    """The model is known; the version is not loaded, or has no champion."""

    default_reason = "UNKNOWN_VERSION"


class UnknownBinding(NotFound):
    """There is no binding of that model and role."""

    default_reason = "UNKNOWN_BINDING"


class Overloaded(Transient):
    """The queue is full: the caller may try again in a moment."""

    default_reason = "OVERLOADED"


class InferenceFailed(IrisloopError):
    """The runtime failed; the input was as the model asks."""

    default_reason = "INFERENCE_FAILED"
