"""Whether a model fits into what memory is left, asked before it is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from services.serving.errors import BadPackage

MEMINFO: Final = Path("/proc/meminfo")
CGROUPS: Final = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)
FACTOR: Final = 2.0
"""Memory that a model takes while it is loaded, in sizes of its file: the graph as read, and as optimised."""
RESERVE: Final = 64 << 20
"""Bytes that stay free for everything else."""


def check_room(name: str, file_bytes: int, available: int | None = None) -> None:
    """Raises `BadPackage` when loading a file of that size would not fit; `available` is asked of the system."""
    free = available_bytes() if available is None else available
    wanted = int(file_bytes * FACTOR) + RESERVE
    if free is not None and wanted > free:
        raise BadPackage(
            f"Model {name!r} would need about {wanted >> 20} MB while it is loaded, and {free >> 20} MB of memory are "
            "free. Unload another model, or give the server more memory.",
            field="memory",
        )


def available_bytes() -> int | None:
    """What this process may still take: of the machine, or of its control group when that has less; None: unknown."""
    return min(_known(), default=None)


def _known() -> Iterator[int]:
    for line in _text(MEMINFO).splitlines():
        if line.startswith("MemAvailable:"):
            yield int(line.split()[1]) * 1024
    for limit, used in CGROUPS:
        most, now = _text(limit).strip(), _text(used).strip()
        if most.isdigit() and now.isdigit():
            yield max(0, int(most) - int(now))


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
