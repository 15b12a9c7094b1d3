"""Bodies of requests and answers: read within a limit, whole, and uncompressed or compressed."""

from __future__ import annotations

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


async def read_body(receive: Receive, limit: int, encoding: str) -> bytes:
    """The whole body, uncompressed. Raises `HttpError` above the limit, and `Gone` when it breaks off."""
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
            break
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    return body if encoding in ("", "identity") else _inflated(body, encoding, limit)


class Gone(Exception):  # nobody is there to be told
    """The client went away."""


def compressed(parts: Sequence[Part], accepted: str) -> tuple[Sequence[Part], str]:
    """The parts as one of the encodings that are accepted, and which; the first that we have counts, as in Triton."""
    for entry in accepted.split(","):
        name, _, weight = entry.replace(" ", "").lower().partition(";q=")
        refused = bool(weight) and not weight.strip("0.")
        if name in WINDOWS and not refused:
            squeezer = zlib.compressobj(wbits=31 if name == "gzip" else 15)
            return [*(squeezer.compress(part) for part in parts), squeezer.flush()], name
    return parts, ""


def _inflated(body: bytes, encoding: str, limit: int) -> bytes:
    window = WINDOWS.get(encoding)
    if window is None:
        raise HttpError(501, "Unsupported compression type", UNSUPPORTED)
    machine = zlib.decompressobj(wbits=window)
    try:
        found = machine.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not {encoding}: {error}", field="content-encoding") from error
    if len(found) > limit:
        raise _too_large(limit)
    if not machine.eof:
        raise BadRequest(f"the {encoding} body is truncated", field="content-encoding")
    return found


def _too_large(limit: int) -> HttpError:
    return HttpError(413, f"the body is larger than {limit} bytes, the server's limit")
