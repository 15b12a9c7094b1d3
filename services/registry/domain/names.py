"""Whether a name is one that a model may have."""

from __future__ import annotations

from services.common.errors import InvalidMessage
from services.common.names import NAME


def check_name(field: str, name: str) -> str:
    """The name. Raises `InvalidMessage` when it is none."""
    if not NAME.fullmatch(name):
        raise InvalidMessage(f"`{field}` {name[:80]!r} is not 1 to 128 letters, digits, dots, - and _", field=field)
    return name
