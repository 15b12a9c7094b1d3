"""ModelStreamInfer: requests of one stream run side by side; answers come in the order of their requests, except that
those of decoupled models go out as soon as they are there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from inference import grpc_service_pb2 as pb

from services.serving.domain.calls import InferAnswer, InferCall
from services.serving.domain.work import Work
from services.serving.errors import Overloaded
from services.serving.handlers.inference import Inference
from services.serving.inbound.statuses import status_of
from services.serving.inbound.tensors import call_of, response_of
from services.serving.inbound.unread import Unread, counted
from services.serving.inbound.wire import Request

AT_ONCE: Final = 256
"""Requests of a stream in hand; the next one is read when one of them has ended."""
MOST_WAITING: Final = 4096
"""Answers that wait for a slow reader; a decoupled request that gives more is ended."""
FINAL: Final = "triton_final_response"
WANTS_EMPTY: Final = "triton_enable_empty_final_response"

Answer = tuple["_Reply", InferAnswer | Exception | None, bool]


class Stream:
    """One stream in hand."""

    def __init__(self, inference: Inference, key: str, traceparent: str, unread: Unread) -> None:
        """Made inside the event loop."""
        self._unread = unread
        self._inference = inference
        self._key = key
        self._traceparent = traceparent
        self._loop = asyncio.get_running_loop()
        self._answers: asyncio.Queue[Answer | None] = asyncio.Queue()
        self._free = asyncio.Semaphore(AT_ONCE)
        self._open: set[Work] = set()
        self._held = 0
        """Bytes of its large answers that wait to be read."""
        self._order: deque[_Reply] = deque()
        """Requests whose answer is not out yet, oldest first; decoupled ones leave with their first answer."""

    async def answers(self, requests: AsyncIterator[Request | Exception]) -> AsyncIterator[bytes]:
        """Serialized ModelStreamInferResponses, until the client ends its side and all is answered."""
        reading = asyncio.create_task(self._read(requests))
        try:
            while (item := await self._answers.get()) is not None:
                reply, answer, last = item
                if last:
                    self._free.release()
                response = _response(reply, answer, last)
                if response is not None:
                    yield response.SerializeToString()
                self._let_out(answer)
            await reading
        finally:
            reading.cancel()
            self._unread.give(self._held)
            for work in self._open:
                work.cancelled = True

    async def _read(self, requests: AsyncIterator[Request | Exception]) -> None:
        try:
            async for request in requests:
                await self._free.acquire()
                self._submit(request)
            for _ in range(AT_ONCE):  # all that is in hand has ended
                await self._free.acquire()
        finally:
            self._answers.put_nowait(None)

    def _submit(self, request: Request | Exception) -> None:
        reply = _Reply(self, InferCall("", "", ()))
        self._order.append(reply)
        try:
            if isinstance(request, Exception):
                raise request
            reply.call = InferCall("", "", (), id=request[0].id)
            call = call_of(request, self._key, self._traceparent)
            reply.work = self._inference.submit(call, reply.take)
            reply.call = call
            self._open.add(reply.work)
        except Exception as error:
            self._take(reply, error, True)

    def put(self, reply: _Reply, answer: InferAnswer | Exception | None, last: bool) -> None:
        """From any thread."""
        self._loop.call_soon_threadsafe(self._take, reply, answer, last)

    def _take(self, reply: _Reply, answer: InferAnswer | Exception | None, last: bool) -> None:
        if reply.ended:
            return
        answer = self._with_room(answer, last)
        if isinstance(answer, Overloaded) and not last:
            last = True
            if reply.work is not None:
                reply.work.cancelled = True
        reply.ended = last
        if last and reply.work is not None:
            self._open.discard(reply.work)
        if reply.decoupled or not last or answer is None:
            self._let_go(reply)
            self._answers.put_nowait((reply, answer, last))
        else:
            reply.answer = answer
        while self._order and self._order[0].ended:
            first = self._order.popleft()
            self._answers.put_nowait((first, first.answer, True))

    def _with_room(self, answer: InferAnswer | Exception | None, last: bool) -> InferAnswer | Exception | None:
        """The answer, or why it has to go without."""
        if not last and self._answers.qsize() >= MOST_WAITING:
            return Overloaded(f"{MOST_WAITING} answers wait to be read; the request is ended.")
        try:
            self._held += self._unread.take(_bytes_of(answer))
        except Overloaded as error:
            return error
        return answer

    def _let_out(self, answer: InferAnswer | Exception | None) -> None:
        """Its reader has it."""
        held = counted(_bytes_of(answer))
        self._held -= held
        self._unread.give(held)

    def _let_go(self, reply: _Reply) -> None:
        """It answers more than once, and so does not wait for the others."""
        if not reply.decoupled:
            reply.decoupled = True
            self._order.remove(reply)


class _Reply:
    """Where the answers of one request go."""

    def __init__(self, stream: Stream, call: InferCall) -> None:
        self._stream = stream
        self.call = call
        self.work: Work | None = None
        self.answer: InferAnswer | Exception | None = None
        self.decoupled = False
        self.ended = False

    def take(self, answer: InferAnswer | Exception | None, last: bool) -> None:
        """A `Reply`."""
        self._stream.put(self, answer, last)


def _bytes_of(answer: InferAnswer | Exception | None) -> int:
    if not isinstance(answer, InferAnswer):
        return 0
    return sum(output.data.nbytes for output in answer.outputs if output.region is None)


def _response(reply: _Reply, answer: InferAnswer | Exception | None, last: bool) -> pb.ModelStreamInferResponse | None:
    call = reply.call
    if isinstance(answer, Exception):
        return _failed(reply, answer)
    if answer is None:
        if call.parameters.get(WANTS_EMPTY) is not True:
            return None
        found = pb.ModelInferResponse(model_name=call.model, model_version=call.version, id=call.id)
    else:
        found, raws = response_of(answer)
        found.raw_output_contents.extend(bytes(raw) for raw in raws)
    found.parameters[FINAL].bool_param = last
    return pb.ModelStreamInferResponse(infer_response=found)


def _failed(reply: _Reply, error: Exception) -> pb.ModelStreamInferResponse:
    """A request that ran says so by its model's name; one that never did has its id alone, as in Triton."""
    _, message = status_of(error)
    found = pb.ModelInferResponse(id=reply.call.id)
    if reply.work is not None:
        found.model_name = reply.call.model
        found.parameters[FINAL].bool_param = True
    return pb.ModelStreamInferResponse(error_message=message, infer_response=found)
