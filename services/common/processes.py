"""A child that cannot outlive its parent, also when the parent is killed and has no moment to clean up.

Run as a program it is the launcher of the supervisor: `python -I -S processes.py <parent pid> command...` ties itself
to the parent and becomes the command. It needs the standard library alone, and it runs after fork and exec, so that
nothing has to be done between the two, where Python is not safe.
"""

from __future__ import annotations

import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2); the setting outlives exec."""


def die_with_parent(parent: int | None = None, number: int = signal.SIGKILL) -> None:
    """Let the kernel send this process a signal when its parent's thread ends; Linux only, elsewhere nothing happens.

    `parent` is the pid that the caller believes to be its parent: when that one died before this call, the process
    ends at once. Call it first thing in a child.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)


def _launch() -> None:
    parent, *command = sys.argv[1:]
    die_with_parent(int(parent))
    os.execvp(command[0], command)


if __name__ == "__main__":
    _launch()
