"""Calls that a transport took off the wire and has not read yet: bounded, and given up before anything is spent on them
when they would be too late anyhow. What waits elsewhere (in a library's queue, in sockets) cannot be bounded or timed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

UNREAD_SHARE: Final = 0.5
"""Of the time that a model lets a call wait: who has waited so long unread would expire in the model's own queue."""

SOON_NS: Final = 1_000_000
"""Nobody is late before that."""


@dataclass(slots=True)
class Arrival:
    """A call as it came; `taken_ns` by `time.perf_counter_ns`."""

    identity: int
    payload: bytes
    metadata: Any
    taken_ns: int


class Intake:
    """First in, first out. For one thread."""

    def __init__(self, most: int, patience_ns: Callable[[bytes], int]) -> None:
        """`most`: calls that wait. `patience_ns`: how long a payload's model lets it wait; 0: for ever."""
        self._most = most
        self._patience_ns = patience_ns
        self._waiting: deque[Arrival] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, arrival: Arrival) -> bool:
        """False: there is no room."""
        if len(self._waiting) >= self._most:
            return False
        self._waiting.append(arrival)
        return True

    def take(self, most: int, now_ns: int) -> tuple[Sequence[Arrival], Sequence[Arrival]]:
        """The next ones, at most so many, and those in front of them that are too late."""
        found: list[Arrival] = []
        late: list[Arrival] = []
        while self._waiting and len(found) < most:
            arrival = self._waiting.popleft()
            (late if self._is_late(arrival, now_ns) else found).append(arrival)
        return found, late

    def _is_late(self, arrival: Arrival, now_ns: int) -> bool:
        waited_ns = now_ns - arrival.taken_ns
        if waited_ns < SOON_NS:
            return False
        patience_ns = self._patience_ns(arrival.payload)
        return bool(patience_ns) and waited_ns > patience_ns * UNREAD_SHARE
