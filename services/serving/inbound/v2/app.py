"""/v2 as an ASGI application: the path is split by hand, and infer, the road that has to be quick, is here."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from services.serving.domain.calls import InferCall
from services.serving.domain.restrictions import Restrictions
from services.serving.errors import BadRequest, Overloaded
from services.serving.handlers.catalog import Catalog
from services.serving.handlers.controls import Controls
from services.serving.handlers.inference import Inference
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.inbound.unread import Unread
from services.serving.inbound.v2.bodies import Gone, Receive
from services.serving.inbound.v2.errors import HttpError, status_of
from services.serving.inbound.v2.exchange import JSON, Answer, Request, Scope, Send, send_answer
from services.serving.inbound.v2.operations import Operations, named
from services.serving.inbound.v2.patience import Patience
from services.serving.inbound.v2.tensors import answer_parts, call_of, raw_call_of, raw_shape

ROAD: Final = "http"
OCTETS: Final = (b"content-type", b"application/octet-stream")
HEADER_SIZE: Final = b"inference-header-content-length"
CLOSE: Final = (b"connection", b"close")
LONGEST_SIZE: Final = 20
"""Digits of a number of 64 bits."""
LONG: Final = 1 << 20
"""Bytes of JSON that are read in a thread, so that other calls go on meanwhile."""


class InferenceApp:
    """`/v2...` is ours, everything else `inner`'s."""

    def __init__(
        self,
        inner: Any,
        inference: Inference,
        catalog: Catalog,
        memory: SharedMemory,
        controls: Controls,
        restrictions: Restrictions,
        limit: int,
        unread: Unread,
        patience: Patience | None = None,
    ) -> None:
        """`limit`: bytes of a body, compressed or not. `unread` knows `ROAD`."""
        self._inner = inner
        self._inference = inference
        self._catalog = catalog
        self._operations = Operations(catalog, memory, controls, restrictions)
        self._restrictions = restrictions
        self._limit = limit
        self._unread = unread
        self._patience = patience or Patience()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI 3."""
        path = scope.get("path", "")
        if scope["type"] != "http" or not (path == "/v2" or path.startswith("/v2/")):
            await self._inner(scope, receive, send)
            return
        request = Request(scope, receive, self._limit)
        self._patience.add(request)
        try:
            answer = await self._answer(request)
        except Gone:
            return
        except asyncio.CancelledError:
            if not request.lost:
                raise
            if request.lost == "gone":
                return
            answer = _refusal(HttpError(408, f"the body did not go on for {self._patience.stall_s:g} seconds", CLOSE))
        except Exception as error:
            answer = _refusal(error)
        finally:
            self._patience.remove(request)
        await self._send(send, request, answer)

    async def _send(self, send: Send, request: Request, answer: Answer) -> None:
        """When this returns the transport has all of it, and its client maybe little."""
        try:
            held = self._unread.take(sum(map(len, answer.parts)))
        except Overloaded as error:
            held, answer = 0, _refusal(error)
        try:
            await send_answer(send, request, answer)
        finally:
            self._unread.pass_on(ROAD, held)

    async def _answer(self, request: Request) -> Answer:
        parts = request.parts
        if len(parts) > 2 and parts[0] == "models" and parts[-1] == "infer":
            return await self._infer(request, *named(parts[1:-1]))
        return await self._operations.answer(request)

    async def _infer(self, request: Request, model: str, version: str) -> Answer:
        request.need("POST")
        request.check(self._restrictions, "inference")
        call = await self._call(request, model, version, await request.body())
        if any(name.startswith("triton_") for name in call.parameters):
            raise BadRequest(
                "parameter keys starting with 'triton_' are reserved for Triton usage and should not be specified.",
                field="parameters",
            )
        request.waits_for = "model"
        given = await self._inference.infer(call)
        request.waits_for = ""
        head, raws = answer_parts(given)
        if any(map(len, raws)):
            answer = Answer([head, *raws], 200, OCTETS, (HEADER_SIZE, str(len(head)).encode()))
        else:
            answer = Answer([head], 200, JSON)
        answer.compressible = True
        return answer

    async def _call(self, request: Request, model: str, version: str, body: bytes) -> InferCall:
        size = _header_size(request, len(body))
        key, traceparent = request.header(b"irisloop-key"), request.header(b"traceparent")
        if size == 0:
            return raw_call_of(model, version, body, self._only_input(model, version, len(body)), key, traceparent)
        if (len(body) if size is None else size) > LONG:
            return await asyncio.to_thread(call_of, model, version, body, size, key, traceparent)
        return call_of(model, version, body, size, key, traceparent)

    def _only_input(self, model: str, version: str, size: int) -> tuple[str, str, tuple[int, ...]]:
        config = self._catalog.version(model, version).config
        if len(config.inputs) != 1:
            raise BadRequest(
                f"Raw request must only have 1 input (found 1) to be deduced but got {len(config.inputs)} inputs in "
                f"'{model}' model configuration",
                field="inputs",
            )
        (tensor,) = config.inputs
        return tensor.name, tensor.datatype, raw_shape(tensor.dims, config.max_batch_size, size, tensor.datatype)


def _refusal(error: Exception) -> Answer:
    status, sentence, headers = status_of(error)
    return Answer([orjson.dumps({"error": sentence})], status, JSON, *headers)


def _header_size(request: Request, size: int) -> int | None:
    """Of the JSON before the binary data; None: all is JSON, 0: none is. What is no number is 0, as in Triton."""
    text = request.headers.get(HEADER_SIZE)
    if text is None:
        return None
    if not text.removeprefix(b"-").isdigit():
        return 0
    found = int(text[:LONGEST_SIZE])
    if not 0 <= found <= size:
        raise BadRequest(f"inference header size should be in range (0, {size}), got: {found}", field="headers")
    return found
