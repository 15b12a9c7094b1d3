"""An open loop over gRPC: calls go out by the clock, whether earlier ones have been answered or not.

    python -m tests.bench.serving.flood ADDRESS BODY_FILE RATE SECONDS CONNECTIONS

It speaks just enough HTTP/2 (RFC 9113) to cost some microseconds a call, where grpc.aio costs hundreds: a generator
that falls behind would close the loop. An answer with a body was accepted, one without was refused. BODY_FILE holds a
serialized ModelInferRequest; the answer is one line of JSON. Times run from when a call was due.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import uvloop

from tests.bench.serving.payloads import INFER, grpc_frame

DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
MAX_STREAMS, INITIAL_WINDOW = 3, 4
"""Names of settings."""
PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
FRAME: Final = 16_384
START_WINDOW: Final = 65_535
WIDE: Final = (1 << 31) - 1 - START_WINDOW
HEAD: Final = 9
TICK_S: Final = 0.001
DRAIN_S: Final = 10.0
GRACE_S: Final = 60
PRIORITY: Final = -10


@dataclass(frozen=True, slots=True)
class Flood:
    """What came of it; `accepted` and `refused` are the seconds that each took, sorted."""

    due: int
    accepted: tuple[float, ...]
    refused: tuple[float, ...]
    unanswered: int
    lag_s: float
    """The most that the generator was behind its own clock."""


def run(address: str, message: bytes, rate: float, seconds: float, connections: int = 8) -> Flood:
    """In a process of its own."""
    with tempfile.TemporaryDirectory(prefix="irisloop-flood-") as folder:
        body = Path(folder) / "body"
        body.write_bytes(message)
        words = [sys.executable, "-m", __name__, address, str(body), str(rate), str(seconds), str(connections)]
        answer = subprocess.run(words, capture_output=True, text=True, check=False, timeout=seconds + GRACE_S)
    if answer.returncode:
        raise RuntimeError(f"the open loop ended with {answer.returncode}: {answer.stderr[-1500:]}")
    found = json.loads(answer.stdout)
    return Flood(found["due"], tuple(found["accepted"]), tuple(found["refused"]), found["unanswered"], found["lag_s"])


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """One frame, RFC 9113 4.1."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def header_block(authority: str, method: str = INFER) -> bytes:
    """The request's fields as HPACK literals that no table remembers (RFC 7541 6.2.2): the same bytes for each call."""

    def text(value: str) -> bytes:
        return bytes([len(value)]) + value.encode()

    post, http = b"\x83", b"\x86"
    path, host, content_type = b"\x04" + text(method), b"\x01" + text(authority), b"\x0f\x10" + text("application/grpc")
    return post + http + path + host + content_type + b"\x00" + text("te") + text("trailers")


@dataclass
class Tally:
    """Shared by the connections."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)


class Connection(asyncio.Protocol):
    """One connection: sends what is due as far as the server's windows allow, and times the answers."""

    def __init__(self, authority: str, message: bytes, tally: Tally) -> None:
        self._head = header_block(authority)
        self._body = grpc_frame(message)
        self._tally = tally
        self._waiting: deque[float] = deque()
        self._open: dict[int, float] = {}
        self._answered: set[int] = set()
        self._next = 1
        self._window, self._stream_window, self._most = START_WINDOW, START_WINDOW, 1 << 30
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self.ready = asyncio.Event()
        self.problem = ""

    @property
    def unanswered(self) -> int:
        """Calls that are due and have no answer."""
        return len(self._waiting) + len(self._open)

    def connection_made(self, transport: Any) -> None:
        """Preface and settings."""
        self._transport = transport
        transport.write(PREFACE + frame(SETTINGS, 0, 0) + frame(WINDOW, 0, 0, struct.pack(">I", WIDE)))

    def call(self, due: float) -> None:
        """One more call, which was due at that time."""
        self._waiting.append(due)
        self._send()

    def _send(self) -> None:
        size = len(self._body)
        while self._waiting and self._window >= size and len(self._open) < self._most and self._transport is not None:
            stream, self._next = self._next, self._next + 2
            self._open[stream] = self._waiting.popleft()
            self._window -= size
            parts = [frame(HEADERS, END_HEADERS, stream, self._head)]
            for begin in range(0, size, FRAME):
                last = END_STREAM if begin + FRAME >= size else 0
                parts.append(frame(DATA, last, stream, self._body[begin : begin + FRAME]))
            self._transport.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        """Whole frames; the rest waits for more."""
        self._buffer += data
        place = 0
        while len(self._buffer) - place >= HEAD:
            length = int.from_bytes(self._buffer[place : place + 3], "big")
            if len(self._buffer) - place - HEAD < length:
                break
            kind, flags, stream = struct.unpack_from(">BBI", self._buffer, place + 3)
            self._take(kind, flags, stream & 0x7FFFFFFF, bytes(self._buffer[place + HEAD : place + HEAD + length]))
            place += HEAD + length
        del self._buffer[:place]
        self._send()

    def _take(self, kind: int, flags: int, stream: int, content: bytes) -> None:
        if kind == DATA and content:
            self._answered.add(stream)
        if kind == RESET or (kind in (DATA, HEADERS) and flags & END_STREAM):
            self._finish(stream)
        elif kind == WINDOW and stream == 0:
            self._window += int.from_bytes(content, "big")
        elif kind == SETTINGS and not flags & ACK:
            self._settle(content)
        elif kind == PING and not flags & ACK:
            self._reply(frame(PING, ACK, 0, content))
        elif kind == GOAWAY:
            self.problem = f"the server says goodbye: {content[8:]!r}"

    def _finish(self, stream: int) -> None:
        due = self._open.pop(stream, None)
        if due is None:
            return
        took = time.perf_counter() - due
        (self._tally.accepted if stream in self._answered else self._tally.refused).append(took)
        self._answered.discard(stream)

    def _settle(self, content: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", content):
            if name == INITIAL_WINDOW:
                self._stream_window = value
            elif name == MAX_STREAMS:
                self._most = value
        if len(self._body) > self._stream_window:
            self.problem = f"a call has {len(self._body)} bytes, the server's window for one is {self._stream_window}"
        self._reply(frame(SETTINGS, ACK, 0))
        self.ready.set()

    def connection_lost(self, error: Exception | None) -> None:
        """Only the server does that: `close` is the end."""
        self._transport, self.problem = None, self.problem or f"the server closed the connection: {error}"

    def _reply(self, content: bytes) -> None:
        if self._transport is not None:
            self._transport.write(content)

    def close(self) -> None:
        """At once."""
        if self._transport is not None:
            self._transport.abort()


async def generate(address: str, message: bytes, rate: float, seconds: float, connections: int) -> dict[str, object]:
    """The figures of `Flood`, as JSON knows them."""
    loop, tally = asyncio.get_running_loop(), Tally()
    host, _, port = address.rpartition(":")
    made = [Connection(address, message, tally) for _ in range(connections)]
    for one in made:
        await loop.create_connection(lambda one=one: one, host, int(port))  # type: ignore[misc]
        await asyncio.wait_for(one.ready.wait(), DRAIN_S)
    begun, sent, lag = time.perf_counter(), 0, 0.0
    all_of_them = round(rate * seconds)
    while sent < all_of_them:
        now = time.perf_counter() - begun
        lag = max(lag, now - sent / rate)
        while sent < min(now * rate, all_of_them):
            made[sent % connections].call(begun + sent / rate)
            sent += 1
        await asyncio.sleep(TICK_S)
    drained = begun + seconds + DRAIN_S
    while any(one.unanswered and not one.problem for one in made) and time.perf_counter() < drained:
        await asyncio.sleep(TICK_S)
    unanswered, problems = sum(one.unanswered for one in made), [one.problem for one in made if one.problem]
    if problems:
        raise RuntimeError(problems[0])
    for one in made:
        one.close()
    return {
        "due": sent,
        "accepted": sorted(round(one, 6) for one in tally.accepted),
        "refused": sorted(round(one, 6) for one in tally.refused),
        "unanswered": unanswered,
        "lag_s": lag,
    }


def main() -> None:
    """One run."""
    address, body, rate, seconds, connections = sys.argv[1:]
    with suppress(PermissionError):  # a generator that waits for its turn would call its own lateness the server's
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    message = Path(body).read_bytes()
    found = uvloop.run(generate(address, message, float(rate), float(seconds), int(connections)))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
