"""How glibc's allocator is told to give memory back: a version that was closed is to leave nothing behind."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Any, Final

M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
"""mallopt(3)."""
APART: Final = 8 << 20
"""Bytes from which a block is mapped by itself, and so goes back when it is freed: weights; not a camera's picture."""
TOP: Final = 64 << 20
"""Bytes that an arena may keep for the next request: with less, a call with a 5 MB picture costs 4,000 page faults."""


def keep_large_blocks_apart() -> None:
    """By itself glibc raises the first bound, up to 32 MiB, once it has seen large blocks; then it keeps weights."""
    _glibc("mallopt", M_MMAP_THRESHOLD, APART)
    _glibc("mallopt", M_TRIM_THRESHOLD, TOP)


def trim_memory() -> None:
    """Give back the pages that nothing uses; elsewhere than on glibc the allocator does as it likes."""
    _glibc("malloc_trim", 0)


def _glibc(name: str, *arguments: int) -> None:
    with suppress(OSError, AttributeError):
        libc: Any = ctypes.CDLL(None)
        getattr(libc, name)(*arguments)
