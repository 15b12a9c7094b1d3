"""Bytes of the answers that pygrpc-native was given and has not sent yet, by what it counts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any


class Answered:
    """It counts a call's bytes when the call ends, as its client has taken all of them or went away; but none of a call
    that is cancelled just when it is answered. So no more is believed to wait than the calls under way can hold.

    May be used from any thread.
    """

    def __init__(self, method: str, metrics: Callable[[], Mapping[str, Any]]) -> None:
        """`method`: its path; `metrics`: of a `NativeGrpcFront`."""
        self._method = method
        self._metrics = metrics
        self._lock = threading.Lock()
        self._bytes = 0
        self._largest = 0
        """Of one answer since no call was under way."""

    def add(self, size: int) -> None:
        """An answer of so many bytes was given."""
        with self._lock:
            self._bytes += size
            self._largest = max(self._largest, size)

    def waiting(self) -> int:
        """Bytes that have not gone out: never too few, and too many by what calls under way could hold at most."""
        with self._lock:
            _, ended, sent = self._read()
            started, _, _ = self._read()  # Later: none that is under way is left out.
            most = (started - ended) * self._largest
            self._bytes = min(self._bytes, sent + most)
            if started == ended:
                self._largest = 0
            return max(self._bytes - sent, 0)

    def _read(self) -> tuple[int, int, int]:
        """Calls that began, calls that ended, bytes sent in these."""
        figures = self._metrics()["methods"].get(self._method, {"started": 0, "status": {}})
        ended = figures["status"].values()
        return (
            int(figures["started"]),
            sum(int(one["count"]) for one in ended),
            sum(int(one["sent"]["sum"]) for one in ended),
        )
