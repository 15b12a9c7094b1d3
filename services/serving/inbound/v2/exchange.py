"""One HTTP exchange: the request as the routes see it, the answer, and how it is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal
from urllib.parse import unquote

import orjson

from services.serving.domain.restrictions import Restrictions
from services.serving.inbound.v2.bodies import Part, Receive, compressed, inflated, read_body
from services.serving.inbound.v2.documents import parsed
from services.serving.inbound.v2.errors import HttpError

Headers = dict[bytes, bytes]
Scope = Any
Send = Callable[[dict[str, Any]], Awaitable[None]]
JSON: Final = (b"content-type", b"application/json")
NOT_FOUND: Final = HttpError(404, "Not Found")
SMALL: Final = 64 << 10
"""Bytes of an answer that are quicker joined than written one by one."""
LOOK_AGAIN_S: Final = 0.05


class Request:
    """One call: its method, its path below /v2, its headers, and its body once it is asked for."""

    __slots__ = (
        "_limit",
        "_receive",
        "_silent_s",
        "_task",
        "_watch",
        "headers",
        "lost",
        "method",
        "parts",
        "waits_for",
    )

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        """In the task that answers it."""
        self.method: str = scope["method"]
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.parts: list[str] = [unquote(part) for part in path.partition(b"?")[0].decode("latin-1").split("/")[2:]]
        self.headers: Headers = dict(scope["headers"])
        self.waits_for: Literal["", "body", "model"] = ""
        self.lost: Literal["", "stalled", "gone"] = ""
        """Why it was given up."""
        self._receive = receive
        self._limit = limit
        self._task = asyncio.current_task()
        self._silent_s = 0.0
        self._watch: asyncio.Task[None] | None = None

    def header(self, name: bytes) -> str:
        """As text, "" when it is not there."""
        return self.headers.get(name, b"").decode("latin-1")

    async def body(self) -> bytes:
        """All of it, uncompressed. Raises what `read_body` does."""
        declared = self.headers.get(b"content-length", b"")
        self.waits_for = "body"
        body = await read_body(self._heard, self._limit, declared)
        self.waits_for = ""
        encoding = self.header(b"content-encoding").lower()
        return body if encoding in ("", "identity") else await inflated(body, encoding, self._limit)

    async def document(self) -> dict[str, Any]:
        """The body as a JSON object; no body is an empty one."""
        body = await self.body()
        return parsed(body) if body else {}

    def need(self, *methods: str) -> None:
        """Raises `HttpError` for another method."""
        if self.method not in methods:
            raise HttpError(405, "Method Not Allowed", (b"allow", ", ".join(methods).encode()))

    def check(self, restrictions: Restrictions, group: str) -> None:
        """Raises `Restricted` where calls of the group need a secret and this one has not got it."""
        if restrictions:
            headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in self.headers.items())
            restrictions.check(group, headers)

    def silent(self, seconds: float) -> float:
        """The client sent nothing for these seconds; returns for how many it has been silent by now."""
        self._silent_s += seconds
        return self._silent_s

    def give_up(self, why: Literal["stalled", "gone"]) -> None:
        """Cancel the task that answers it."""
        self.lost = why
        if self._task is not None:
            self._task.cancel()

    def watch(self) -> None:
        """Give up when the client goes away; in a task, which `unwatch` ends."""
        if self._watch is None:
            self._watch = asyncio.get_running_loop().create_task(self._see_it_off())

    def unwatch(self) -> None:
        """It was answered, or will not be."""
        if self._watch is not None:
            self._watch.cancel()
        if self.lost and self._task is not None:
            self._task.uncancel()

    async def _heard(self) -> dict[str, Any]:
        message = await self._receive()
        self._silent_s = 0.0
        return message

    async def _see_it_off(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            await asyncio.sleep(LOOK_AGAIN_S)
        if self.waits_for == "model":
            self.give_up("gone")


class Answer:
    """What is sent back."""

    __slots__ = ("compressible", "headers", "parts", "status")

    def __init__(self, parts: Sequence[Part] = (), status: int = 200, *headers: tuple[bytes, bytes]) -> None:
        self.parts = parts
        self.compressible = False
        """Answers of infer alone, as in Triton: tritonclient cannot read other compressed ones."""
        self.status = status
        self.headers = list(headers)


def json_answer(document: Any, status: int = 200) -> Answer:
    """With the document as its body."""
    return Answer([orjson.dumps(document)], status, JSON)


async def send_answer(send: Send, request: Request, answer: Answer) -> None:
    """Small parts in one write; of large ones, each as it is, without a copy."""
    parts, accepted = answer.parts, request.headers.get(b"accept-encoding")
    if accepted and answer.compressible:
        parts, encoding = await compressed(parts, accepted.decode("latin-1"))
        if encoding:
            answer.headers.append((b"content-encoding", encoding.encode()))
    size = sum(map(len, parts))
    answer.headers.append((b"content-length", str(size).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    if size <= SMALL:
        await send({"type": "http.response.body", "body": b"".join(parts)})
        return
    last = len(parts) - 1
    for place, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": place < last})
