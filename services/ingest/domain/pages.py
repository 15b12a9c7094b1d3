"""Pages by keyset: a cursor names the last row read, so that new rows never shift a page."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.errors import InvalidMessage

DEFAULT_LIMIT = 100
LARGEST_LIMIT = 1000

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows and the cursor of the next page, empty on the last one."""

    rows: Sequence[T]
    next_cursor: str


def check_limit(limit: int) -> int:
    """The limit, 100 for 0. Raises `InvalidMessage` outside 1-1000."""
    if not 0 <= limit <= LARGEST_LIMIT:
        raise InvalidMessage(f"limit is {limit}, not 1-{LARGEST_LIMIT}.", field="limit")
    return limit or DEFAULT_LIMIT


def write_cursor(kind: str, position: int | str) -> str:
    """An opaque cursor; `kind` keeps cursors of different lists and orders apart."""
    return base64.urlsafe_b64encode(f"{kind}:{position}".encode()).decode().rstrip("=")


def read_cursor(kind: str, cursor: str) -> str:
    """The position in a cursor of this kind. Raises `InvalidMessage`."""
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
    except (ValueError, binascii.Error):
        text = ""
    found, _, position = text.partition(":")
    if found != kind or not position:
        raise InvalidMessage("cursor is not one that this list gave.", field="cursor", reason="CURSOR_UNKNOWN")
    return position


def read_number(kind: str, cursor: str) -> int:
    """The row number in a cursor of this kind. Raises `InvalidMessage`."""
    position = read_cursor(kind, cursor)
    if not position.isascii() or not position.isdigit() or len(position) > 18:
        raise InvalidMessage("cursor is not one that this list gave.", field="cursor", reason="CURSOR_UNKNOWN")
    return int(position)
