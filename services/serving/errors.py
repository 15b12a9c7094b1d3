"""What serving refuses, as branches of the shared tree.

InvalidMessage
|-- BadPackage          the model folder breaks its format, or the graph is not what model.json says
|-- BadRequest          a call whose tensors, version or parameters do not fit the model
|-- InferenceFailed     the model cannot run on what it was given
|-- LoadFailed          a model that a client asked to load does not load
|   `-- NameTaken       it has the name of a model of registry's
`-- BadBinding          a binding that could never apply
NotFound
|-- UnknownModel
|-- UnknownVersion
|-- UnknownRegion       no shared-memory region of that name
|-- NotReady            the model is known, and no version of it answers now
`-- UnknownBinding
Transient
|-- Overloaded          the model's queue is full
|   `-- Unloaded        the version closed a moment ago; another one may answer
`-- NotAllowed          loading by call is not switched on
Restricted              a call without the secret that its group asks for
RegionTaken             a shared-memory region of that name is registered already
Unsupported             an extension of the protocol that is left out on purpose
NotPolled               a model that a client asked to load cannot be read at all
"""

from __future__ import annotations

from typing import Final

from services.common.errors import InvalidMessage, IrisloopError, NotFound, Transient

MOST_CHARACTERS: Final = 9_000


class BadPackage(InvalidMessage):
    """The package cannot become a served version. What it says has a length that a person reads: it quotes names from
    the package, and these may be of any length.
    """

    default_reason = "BAD_PACKAGE"

    def __init__(self, message: str, *, field: str = "", reason: str = "") -> None:
        """As of its base."""
        shown = message if len(message) <= MOST_CHARACTERS else f"{message[:MOST_CHARACTERS]}..."
        super().__init__(shown, field=field, reason=reason)


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


class UnknownRegion(NotFound):
    """No shared-memory region is registered under that name."""

    default_reason = "UNKNOWN_REGION"


class NotReady(NotFound):
    """No version of the model is loaded at this moment; NOT_FOUND, as Triton answers."""

    default_reason = "MODEL_NOT_READY"


class Unloaded(Overloaded):
    """The version was closed between the look-up and the call: look it up again."""

    default_reason = "UNLOADED"


class NotAllowed(Transient):
    """Models are not loaded by call here; UNAVAILABLE, as Triton answers."""

    default_reason = "NOT_ALLOWED"


class LoadFailed(InvalidMessage):
    """The model stays as it was before; the sentence says why."""

    default_reason = "LOAD_FAILED"


class NameTaken(LoadFailed):
    """Registry decides about the model of that name, so a folder's is not served."""

    default_reason = "NAME_TAKEN"


class NotPolled(IrisloopError):
    """What lies in the model folder, or came with the call, is no model; INTERNAL, as Triton's own clients expect."""

    default_reason = "NOT_POLLED"


class Restricted(IrisloopError):
    """The call's group is restricted and the header is missing or wrong; gRPC UNAVAILABLE, HTTP 403, as Triton."""

    default_reason = "RESTRICTED"


class RegionTaken(IrisloopError):
    """The name is in use; gRPC ALREADY_EXISTS."""

    default_reason = "REGION_TAKEN"


class Unsupported(IrisloopError):
    """What was asked for is not offered, and the sentence says why; gRPC UNIMPLEMENTED, HTTP 501."""

    default_reason = "UNSUPPORTED"


class InferenceFailed(InvalidMessage):
    """The model failed on this input, e.g. since shapes that it leaves open do not fit each other inside."""

    default_reason = "INFERENCE_FAILED"
