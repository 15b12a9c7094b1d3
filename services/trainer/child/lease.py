"""The lease on a run: of all processes that are started for it, one at a time works, and none without its parent."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO


def take(folder: Path) -> IO[str] | None:
    """The folder's lock, held until the process ends; None when another process has it."""
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        return None
    return lock
