"""Bounds the bytes of large answers that wait for their readers, over all transports: a reader that is slow, or reads
nothing, keeps its answer in memory, and many of them would take all of it.

An answer is taken when it is about to be sent. grpcio tells when it has gone out, and it is given back. HTTP and
pygrpc-native do not; they say how many bytes of theirs wait now, and are asked when there seems to be no room.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from services.serving.errors import Overloaded

SMALL: Final = 64 << 10
"""An answer up to so many bytes is always sent: what is large must not shut out what is not."""


def counted(size: int) -> int:
    """How many of an answer's bytes count: none of a small one."""
    return size if size > SMALL else 0


class Unread:
    """Of one process; may be used from any thread."""

    def __init__(self, most: int) -> None:
        """`most`: bytes. One answer may be larger when no other one waits."""
        self._most = most
        self._lock = threading.Lock()
        self._held = 0
        self._roads: dict[str, Callable[[], int]] = {}
        self._with: dict[str, int] = {}
        """Bytes given to each road, as far as it is not known that they have gone out."""

    def add_road(self, name: str, waiting: Callable[[], int]) -> None:
        """A transport that does not tell when an answer has gone out; `waiting` says how many bytes have not."""
        self._roads[name], self._with[name] = waiting, 0

    def take(self, size: int) -> int:
        """Room for an answer of so many bytes; returns how many to give back, none of a small one.

        Raises `Overloaded`.
        """
        if not counted(size):
            return 0
        if not self._reserve(size):
            self._ask()
            if not self._reserve(size):
                raise Overloaded(
                    f"Answers of {self._most >> 20} MiB wait for readers that do not take them: no more large answers "
                    "now; try again in a moment."
                )
        return size

    def give(self, size: int) -> None:
        """It has gone out, or will not."""
        with self._lock:
            self._held -= size

    def pass_on(self, road: str, size: int) -> None:
        """The transport has it, and will not tell when it has gone out."""
        with self._lock:
            self._held -= size
            self._with[road] += size

    def waiting(self) -> int:
        """Bytes that wait now."""
        self._ask()
        with self._lock:
            return self._sum()

    def _ask(self) -> None:
        """What has gone out meanwhile."""
        for name, waiting in self._roads.items():
            found = waiting()
            with self._lock:
                self._with[name] = found

    def _sum(self) -> int:
        """Of what is known; the caller has the lock."""
        return self._held + sum(self._with.values())

    def _reserve(self, size: int) -> bool:
        """Whether there was room, which is taken."""
        with self._lock:
            now = self._sum()
            fits = not now or now + size <= self._most
            self._held += size if fits else 0
        return fits
