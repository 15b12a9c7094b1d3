"""What a model may be called: names stand in URLs, keys of records and globs of policies."""

from __future__ import annotations

import re
from typing import Final

from services.common.errors import InvalidMessage

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_name(field: str, name: str) -> str:
    """The name. Raises `InvalidMessage` when it is none."""
    if not NAME.fullmatch(name):
        raise InvalidMessage(f"`{field}` {name[:80]!r} is not 1 to 128 letters, digits, dots, - and _", field=field)
    return name
