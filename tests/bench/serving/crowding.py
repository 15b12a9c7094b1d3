"""Clients that take room and give little, in a process of their own: idle connections, readers of a byte at a time,
and calls whose body never ends. They speak just enough HTTP to be what they say.

    python -m tests.bench.serving.crowding ADDRESS KIND COUNT BODY_FILE

KIND is grpc-idle, grpc-slow, grpc-half, http-idle, http-slow or http-half. When all are there it says so in a line;
they stay until stdin ends, and then it says how many are still there.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.bench.serving.flood import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    PING,
    PREFACE,
    SETTINGS,
    frame,
    header_block,
)
from tests.bench.serving.payloads import INFER, grpc_frame

STREAM: Final = INFER.replace("ModelInfer", "ModelStreamInfer")
KINDS: Final = ("grpc-idle", "grpc-slow", "grpc-half", "http-idle", "http-slow", "http-half")
CONNECT_S: Final = 10.0
AT_ONCE: Final = 64
"""Connections made between two looks at what the others got."""
SIP_S: Final = 0.05
"""Between two bytes of a slow reader."""
SMALL_BUFFER: Final = 4096
STOP_S: Final = 60


@dataclass(frozen=True, slots=True)
class Report:
    """What became of them."""

    wanted: int
    made: int
    refused: int
    """Not even a connection."""
    alive: int
    """At the end; the others were closed by the server."""


class Guest:
    """One connection, which never blocks its process."""

    def __init__(self, address: tuple[str, int], first: bytes, slow: bool, http2: bool) -> None:
        """Raises `OSError`."""
        self.socket = socket.socket()
        if slow:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        self.socket.settimeout(CONNECT_S)
        try:
            self.socket.connect(address)
            self.socket.sendall(first)
        except OSError:
            self.socket.close()
            raise
        self.socket.setblocking(False)
        self.slow = slow
        self.alive = True
        self._http2 = http2
        self._buffer = bytearray()

    def hear(self) -> None:
        """Take what is there; a polite HTTP/2 client answers SETTINGS and PING."""
        try:
            data = self.socket.recv(1 if self.slow else 65_536)
            if not data:
                self.close()
            elif self._http2 and not self.slow:
                self._answer(data)
        except BlockingIOError:
            return
        except OSError:
            self.close()

    def _answer(self, data: bytes) -> None:
        self._buffer += data
        for reply in replies(self._buffer):
            self.socket.send(reply)

    def close(self) -> None:
        """It is gone."""
        self.alive = False
        self.socket.close()


def replies(buffer: bytearray) -> list[bytes]:
    """What whole frames ask for; they leave the buffer."""
    found: list[bytes] = []
    while len(buffer) >= HEAD and len(buffer) >= HEAD + (length := int.from_bytes(buffer[:3], "big")):
        kind, flags = buffer[3], buffer[4]
        content = bytes(buffer[HEAD : HEAD + length])
        del buffer[: HEAD + length]
        if kind == SETTINGS and not flags & ACK:
            found.append(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            found.append(frame(PING, ACK, 0, content))
    return found


def first_words(kind: str, number: int, authority: str, body: bytes) -> bytes:
    """What the `number`th of a kind sends; `body` is a call's."""
    hello = PREFACE + frame(SETTINGS, 0, 0)
    if kind == "grpc-slow":
        call = frame(HEADERS, END_HEADERS, 1, header_block(authority))
        return hello + call + frame(DATA, END_STREAM, 1, grpc_frame(body))
    if kind == "grpc-half" and number % 2:  # a stream without a message, or a call with the half of one
        return hello + frame(HEADERS, END_HEADERS, 1, header_block(authority, STREAM))
    if kind == "grpc-half":
        whole = grpc_frame(body)
        call = frame(HEADERS, END_HEADERS, 1, header_block(authority))
        return hello + call + frame(DATA, 0, 1, whole[: len(whole) // 2])
    return hello if kind == "grpc-idle" else _http_words(kind, authority, body)


def _http_words(kind: str, authority: str, body: bytes) -> bytes:
    """`body` is a request from its request line on."""
    whole = body.replace(b"AUTHORITY", authority.encode(), 1)
    return {"http-idle": b"", "http-slow": whole, "http-half": whole[: len(whole) - 20]}[kind]


def hold(address: str, kind: str, count: int, body: bytes) -> Report:
    """Until stdin ends."""
    host, _, port = address.rpartition(":")
    poll = select.epoll()
    guests: list[Guest] = []
    by_place: dict[int, Guest] = {}
    for number in range(count):
        try:
            words = first_words(kind, number, address, body)
            guest = Guest((host, int(port)), words, kind.endswith("slow"), kind.startswith("grpc"))
        except OSError:
            continue
        guests.append(guest)
        if not guest.slow:
            by_place[guest.socket.fileno()] = guest
            poll.register(guest.socket.fileno(), select.EPOLLIN)
        if number % AT_ONCE == AT_ONCE - 1:
            _hear(poll, by_place, 0)
    sys.stdout.write("there\n")
    sys.stdout.flush()
    poll.register(sys.stdin.fileno(), select.EPOLLIN)
    while not _hear(poll, by_place, SIP_S):
        for guest in guests:
            if guest.slow and guest.alive:
                guest.hear()
    return Report(count, len(guests), count - len(guests), sum(guest.alive for guest in guests))


def _hear(poll: select.epoll, guests: dict[int, Guest], seconds: float) -> bool:
    """Whether stdin ended."""
    ended = False
    for place, _ in poll.poll(seconds):
        if place == sys.stdin.fileno():
            ended = True
        else:
            guests[place].hear()
    return ended


class Crowd:
    """Processes of some kinds; a context manager, which waits until all are there. Reports are there when it ended."""

    def __init__(self, address: str, wanted: Sequence[tuple[str, int]], body: bytes) -> None:
        """`wanted`: (kind, count)."""
        self._address = address
        self._wanted = wanted
        self._body = body
        self._processes: list[subprocess.Popen[str]] = []
        self._folder = tempfile.TemporaryDirectory(prefix="irisloop-crowd-")
        self.reports: dict[str, Report] = {}

    def __enter__(self) -> Self:
        file = Path(self._folder.name) / "body"
        file.write_bytes(self._body)
        for kind, count in self._wanted:
            words = [sys.executable, "-m", __name__, self._address, kind, str(count), str(file)]
            self._processes.append(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        for process in self._processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "there":
                raise RuntimeError("a part of the crowd ended")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for (name, _), process in zip(self._wanted, self._processes, strict=True):
            output, _ = process.communicate(timeout=STOP_S)
            if error is None:
                self.reports[name] = Report(**json.loads(output))
        self._folder.cleanup()


def main() -> None:
    """One crowd."""
    address, kind, count, body = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sys.stdout.write(json.dumps(asdict(hold(address, kind, int(count), Path(body).read_bytes()))))


if __name__ == "__main__":
    main()
