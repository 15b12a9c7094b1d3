"""Ingest's own errors, beside the kit's.

IrisloopError
|-- NotFound
|   |-- UnknownAsset    no such asset, or it was deleted
|   `-- ContentGone     the asset is known, its bytes are not in the object store
`-- Transient
    `-- Overloaded      more bytes in hand than the bound allows; HTTP 503 with Retry-After
"""

from __future__ import annotations

from services.common.errors import NotFound, Transient


class UnknownAsset(NotFound):
    """No asset has this id, or it was deleted."""

    default_reason = "ASSET_UNKNOWN"


class ContentGone(NotFound):
    """The asset is known, but the object store does not hold its bytes."""

    default_reason = "CONTENT_GONE"


class Overloaded(Transient):
    """The bound on bytes in hand is reached; the same upload may be taken in a moment."""

    default_reason = "OVERLOADED"
