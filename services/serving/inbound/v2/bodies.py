"""Bodies of requests and answers: read whole within a limit, uncompressed or compressed."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from services.serving.errors import BadRequest
from services.serving.inbound.v2.errors import HttpError

Receive = Callable[[], Awaitable[dict[str, Any]]]
Part = bytes | memoryview

WINDOWS: Final = {"gzip": 31, "deflate": 47}
"""zlib's window bits; 47 takes zlib's and gzip's own headers alike."""
UNSUPPORTED: Final = (b"accept-encoding", b"gzip, deflate")
QUICK: Final = 64 << 10
"""Bytes that are compressed on the event loop; more of them in a thread."""


async def read_body(receive: Receive, limit: int, declared: bytes = b"") -> bytes:
    """The whole body as it was sent; `declared` is its Content-Length, empty when it comes in chunks.

    Raises `HttpError` above the limit, and `Gone` when it breaks off.
    """
    if declared.isdigit() and (len(declared) > len(str(limit)) or int(declared) > limit):
        raise _too_large(limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Gone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


class Gone(Exception):  # nobody is there to be told
    """The client went away."""


async def inflated(body: bytes, encoding: str, limit: int) -> bytes:
    """Uncompressed, in a thread: few bytes may become very many.

    Raises `HttpError` above the limit or for another encoding, `BadRequest` for what is not of the encoding.
    """
    if encoding not in WINDOWS:
        raise HttpError(501, "Unsupported compression type", UNSUPPORTED)
    return await asyncio.to_thread(_inflated, body, encoding, limit)


async def compressed(parts: Sequence[Part], accepted: str) -> tuple[Sequence[Part], str]:
    """The parts as one of the encodings that are accepted, and which; the first that we have counts, as in Triton."""
    for entry in accepted.split(","):
        name, _, weight = entry.replace(" ", "").lower().partition(";q=")
        refused = bool(weight) and not weight.strip("0.")
        if name not in WINDOWS or refused:
            continue
        if sum(map(len, parts)) <= QUICK:
            return _deflated(parts, name), name
        return await asyncio.to_thread(_deflated, parts, name), name
    return parts, ""


def _deflated(parts: Sequence[Part], name: str) -> list[bytes]:
    squeezer = zlib.compressobj(wbits=31 if name == "gzip" else 15)
    return [*(squeezer.compress(part) for part in parts), squeezer.flush()]


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    machine = zlib.decompressobj(wbits=WINDOWS[encoding])
    try:
        found = machine.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not {encoding}: {error}", field="content-encoding") from error
    if len(found) > limit:
        raise _too_large(limit)
    if not machine.eof:
        raise BadRequest(f"the {encoding} body is truncated", field="content-encoding")
    if machine.unused_data:
        raise BadRequest(f"bytes follow the end of the {encoding} body", field="content-encoding")
    return found


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes, the server's limit")
