"""Ports for the servers that tests start."""

from __future__ import annotations

from typing import Final

from services.local import ports

_GIVEN: Final[set[int]] = set()


def free_port() -> int:
    """A port that is free now and was given to nobody here before.

    None of those that the kernel gives to outgoing connections: one of them would take it while its server starts,
    which takes a broker seconds on a busy machine.
    """
    port = ports.free_port(_GIVEN)
    _GIVEN.add(port)
    return port
