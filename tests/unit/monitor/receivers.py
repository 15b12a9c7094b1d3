"""Those who are told of alerts: a web server and a mail server on 127.0.0.1 that keep what they get."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Post:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Web:
    """`answers` are the codes of the next answers, 204 when there are none left."""

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@contextmanager
def web() -> Iterator[Web]:
    """Until the end of the block."""
    kept = Web()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.posts.append(Post(self.path, {key.lower(): text for key, text in self.headers.items()}, body))
            self.send_response(kept.answers.pop(0) if kept.answers else 204)
            self.send_header("content-length", "0")
            self.send_header("location", "/elsewhere")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class PostOffice:
    """Mails as they came; `answers` are the next answers to the end of a mail, by default 250."""

    server: str = ""
    mails: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)


@asynccontextmanager
async def post_office() -> AsyncIterator[PostOffice]:
    """Just enough of RFC 5321."""
    kept = PostOffice()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 here\r\n")
        while line := (await reader.readline()).decode().strip().upper():
            if line == "DATA":
                writer.write(b"354 go on\r\n")
                content = await reader.readuntil(b"\r\n.\r\n")
                kept.mails.append(content.decode())
                writer.write((kept.answers.pop(0) if kept.answers else "250 taken").encode() + b"\r\n")
            elif line == "QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 fine\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    kept.server = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield kept
