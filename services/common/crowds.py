"""Keeps many connections from being at the others' expense: calls in hand are bounded, not connections; who neither
asks nor takes what it asked for is shown out; and the process may hold as many files as the system allows it.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Final

from services.common.telemetry import log

LEAST_BYTES: Final = 64 << 10
"""Of an answer, to be taken within the patience; the rest of one that is smaller."""
REFUSAL: Final = b'{"error":"the server has too many calls in hand; try again"}'


class AtOnce:
    """An ASGI application that answers 503 to what comes while so many calls are in hand.

    uvicorn's own limit counts idle connections as well, by which a thousand silent clients shut out everybody.
    """

    def __init__(self, inner: Any, most: int) -> None:
        self._inner = inner
        self._most = most
        self._now = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One call."""
        if self._now >= self._most:
            headers = [(b"content-type", b"application/json"), (b"retry-after", b"1")]
            await send({"type": "http.response.start", "status": 503, "headers": headers})
            await send({"type": "http.response.body", "body": REFUSAL})
            return
        self._now += 1
        try:
            await self._inner(scope, receive, send)
        finally:
            self._now -= 1


@dataclass(frozen=True, slots=True)
class _Seen:
    """Since when a connection is as it is: after which call, with how many bytes that its client has not taken."""

    since: float
    cycle: Any
    left: int


class Doorkeeper:
    """Looks over uvicorn's connections from time to time."""

    def __init__(self, connections: Callable[[], Collection[Any]], patience_s: float) -> None:
        """`patience_s`: how long a connection may neither send a request nor take `LEAST_BYTES` of its answers."""
        self._connections = connections
        self._patience_s = patience_s
        self._seen: dict[Any, _Seen] = {}

    def look(self, now: float) -> None:
        """`now` by the event loop's clock; seconds."""
        seen: dict[Any, _Seen] = {}
        for connection in list(self._connections()):
            left = connection.transport.get_write_buffer_size()
            cycle = connection.cycle
            if not left and cycle is not None and not cycle.response_complete:
                continue  # a call is in hand, which is the application's matter
            before = self._seen.get(connection)
            if before is None or before.cycle is not cycle or left <= before.left - LEAST_BYTES:
                seen[connection] = _Seen(now, cycle, left)
            elif now - before.since <= self._patience_s:
                seen[connection] = before
            else:
                self._show_out(connection, left)
        self._seen = seen

    def _show_out(self, connection: Any, left: int) -> None:
        """What is left in a buffer would keep `close` waiting as long as the client likes."""
        log.info("connection_given_up", client=connection.client, bytes_left=left)
        if left:
            connection.transport.abort()
        else:
            connection.transport.close()


def allow_many_files() -> None:
    """Raise the process's own limit of open files, often 1,024, to what the system allows; a connection is a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # macOS has a lower limit of the kernel's
            log.info("open_files_limited", limit=soft, error=str(error))
