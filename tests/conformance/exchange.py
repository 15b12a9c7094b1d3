"""Sends the steps of a case to a server as bytes, so that no client library corrects them, and notes the answers."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from multiprocessing import shared_memory
from typing import Any, Final

import grpc

from tests.conformance.cases import Case, Grpc, Http, Region, Step
from tests.conformance.messages import class_of
from tests.conformance.reduction import Record, http_record, message_record

SERVICE: Final = "/inference.GRPCInferenceService/"
TIMEOUT_S: Final = 120
STREAMED: Final = "ModelStreamInfer"
DEAD: Final[Record] = {"code": "SERVER DIED"}
COMPRESSIONS: Final = {"gzip": grpc.Compression.Gzip, "deflate": grpc.Compression.Deflate}


class Exchange:
    """One channel to a server, for many cases; close it."""

    def __init__(self, grpc_address: str, http_address: str) -> None:
        self._channel = grpc.insecure_channel(grpc_address)
        self._http = http_address

    def close(self) -> None:
        """End the channel."""
        self._channel.close()

    def run(self, case: Case) -> list[Record]:
        """The record of each step that has an answer."""
        with ExitStack() as regions:
            found = [self._step(step, regions) for step in case.steps]
        return [record for record in found if record is not None]

    def _step(self, step: Step, regions: ExitStack) -> Record | None:
        if isinstance(step, Region):
            return _region(step, regions)
        return self._call(step) if isinstance(step, Grpc) else self._request(step)

    def _call(self, step: Grpc) -> Record:
        try:
            if step.method == STREAMED:
                answers = self._method(self._channel.stream_stream, step)(iter(step.messages), timeout=TIMEOUT_S)
                return _streamed(answers)
            compression = COMPRESSIONS.get(step.compression)
            answer = self._method(self._channel.unary_unary, step)(
                step.messages[0], timeout=TIMEOUT_S, compression=compression
            )
            return {"code": "OK", **message_record(step.method, answer)}
        except grpc.RpcError as error:
            return _failed(error)

    @staticmethod
    def _method(kind: Callable[..., Any], step: Grpc) -> Any:
        return kind(SERVICE + step.method, request_serializer=None, response_deserializer=None)

    def _request(self, step: Http) -> Record:
        connection = http.client.HTTPConnection(self._http, timeout=TIMEOUT_S)
        try:
            connection.putrequest(step.verb, step.path, skip_accept_encoding=True)
            for name, value in step.headers:
                connection.putheader(name, value)
            if step.body is not None:
                connection.putheader("Content-Length", str(len(step.body)))
            connection.endheaders(step.body)
            answer = connection.getresponse()
            return http_record(step.path, answer.status, dict(answer.getheaders()), answer.read())
        except (OSError, http.client.HTTPException) as error:
            return {"code": f"CONNECTION: {type(error).__name__}"}
        finally:
            connection.close()


def _streamed(answers: Iterable[bytes]) -> Record:
    found: list[Record] = []
    code = "OK"
    try:
        for answer in answers:
            found.append(message_record(STREAMED, answer))  # noqa: PERF401 (what came before an error is kept)
    except grpc.RpcError as error:
        code = error.code().name
    return {"code": code, "answers": found}


def _failed(error: grpc.RpcError) -> Record:
    code, details = error.code().name, error.details() or ""
    return {"code": code, "message": class_of(details), "text": details}


def _region(step: Region, regions: ExitStack) -> Record | None:
    if step.read is None:
        region = shared_memory.SharedMemory(step.key.lstrip("/"), create=True, size=len(step.content))
        regions.callback(region.unlink)
        regions.callback(region.close)
        _memory(region)[: len(step.content)] = step.content
        return None
    region = shared_memory.SharedMemory(step.key.lstrip("/"))
    try:
        return {"region": bytes(_memory(region)[slice(*step.read)]).hex()}
    finally:
        region.close()


def _memory(region: shared_memory.SharedMemory) -> memoryview:
    assert region.buf is not None  # only after close()
    return region.buf
