"""ClickHouse's HTTP interface, read-only, for Grafana, notebooks and DBeaver while the engine is in process."""

from __future__ import annotations

import asyncio
import gzip
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import uvicorn

from services.common.metrics import MONITOR_SQL_SECONDS
from services.common.servers import GRACE_S, CannotStart, QuietServer, listen
from services.common.telemetry import log
from services.monitor.domain.sql import Answer, Engine
from services.monitor.errors import QueryFailed
from services.monitor.inbound import native, sql_request
from services.monitor.inbound.frames import framed
from services.monitor.inbound.sql_request import MAX_BODY_BYTES, Request

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Headers = dict[str, str]

NAME: Final = "irisloop"
_STATUS: Final = {
    **dict.fromkeys(
        (6, 8, 15, 25, 26, 27, 36, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427), 400
    ),
    **dict.fromkeys((441, 675, 676), 400),
    194: 401,
    **dict.fromkeys((192, 193, 497, 512, 516), 403),
    **dict.fromkeys((46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511), 404),
    159: 408,
    229: 413,
    48: 501,
    **dict.fromkeys((76, 209, 439), 503),
}
"""HTTP status by ClickHouse's code, else 500 (as its src/Server/HTTP/exceptionCodeToHTTPStatus.cpp)."""
_CONTENT: Final = {
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONStrings": "application/json; charset=UTF-8",
    "JSONCompactStrings": "application/json; charset=UTF-8",
    "JSONColumns": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "Arrow": "application/octet-stream",
    "ArrowStream": "application/octet-stream",
    "Native": "application/octet-stream",
    "Parquet": "application/octet-stream",
    "RowBinary": "application/octet-stream",
    "RowBinaryWithNames": "application/octet-stream",
    "RowBinaryWithNamesAndTypes": "application/octet-stream",
    "XML": "application/xml; charset=UTF-8",
}
_SMALL: Final = 1024
"""Answers up to so many bytes are not worth compressing."""


class SqlFront:
    """The ASGI application."""

    def __init__(self, engine: Engine, password: str = "") -> None:
        """Whoever connects may ask when the password is empty; names of users do not matter."""
        self._engine, self._password = engine, password

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        head = scope["method"] == "HEAD"
        status, headers, body = await self._respond(scope, receive)
        headers.setdefault("content-type", "text/plain; charset=UTF-8")
        headers |= {"x-clickhouse-server-display-name": NAME, "content-length": str(len(body))}
        raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if head else body})

    async def _respond(self, scope: Mapping[str, Any], receive: Receive) -> tuple[int, Headers, bytes]:
        path, query = scope["path"], scope["query_string"]
        if path in ("/ping", "/replicas_status") or (path == "/" and not query and scope["method"] in ("GET", "HEAD")):
            return 200, {}, b"Ok.\n"
        if path != "/":
            return 404, {}, f"There is no handle {path}\n".encode()
        if scope["method"] not in ("GET", "POST"):
            return 501, {"allow": "GET, POST"}, b"Only GET and POST are answered here\n"
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        loop = asyncio.get_running_loop()
        start, outcome = loop.time(), "failed"
        try:
            self._authenticate(query, headers)
            request = sql_request.read(scope["method"], query, headers, await _body(receive))
            answer = await self._engine.ask(request.question)
            result = await asyncio.to_thread(_answered, request, answer, frames=sql_request.wants_frames(query))
            result[0]["x-clickhouse-timezone"] = (await self._engine.about())[1]
            outcome = "answered"
            return 200, *result
        except QueryFailed as error:
            return await self._failed(error, frames=sql_request.wants_frames(query))
        finally:
            MONITOR_SQL_SECONDS.labels(outcome).observe(loop.time() - start)

    def _authenticate(self, query: bytes, headers: Mapping[str, str]) -> None:
        if not self._password:
            return
        given = sql_request.password_of(query, headers)
        if not hmac.compare_digest(given.encode(), self._password.encode()):
            raise QueryFailed(516, "AUTHENTICATION_FAILED", "Authentication failed: password is incorrect")

    async def _failed(self, error: QueryFailed, *, frames: bool) -> tuple[int, Headers, bytes]:
        version, _ = await self._engine.about()
        message = str(error).rstrip(".")
        text = f"Code: {error.code}. DB::Exception: {message}. ({error.reason}) (version {version})\n"
        log.debug("sql_failed", code=error.code, error=message)
        body = framed(text.encode()) if frames else text.encode()
        return _STATUS.get(error.code, 500), {"x-clickhouse-exception-code": str(error.code)}, body


def _answered(request: Request, answer: Answer, *, frames: bool) -> tuple[Headers, bytes]:
    """(headers, body). Raises `QueryFailed`."""
    data = answer.data
    if answer.format == "Native" and request.protocol:
        try:
            data = native.as_revision(data, request.protocol)
        except native.UnknownLayout as error:
            raise QueryFailed(48, "NOT_IMPLEMENTED", f"Type {error} in Native for this client: choose JSON") from error
    summary = {
        "read_rows": answer.read_rows,
        "read_bytes": answer.read_bytes,
        "written_rows": 0,
        "written_bytes": 0,
        "total_rows_to_read": answer.read_rows,
        "result_rows": answer.rows,
        "result_bytes": len(answer.data),
        "elapsed_ns": int(answer.seconds * 1e9),
    }
    headers = {
        "content-type": _CONTENT.get(answer.format, _text_of(answer.format)),
        "x-clickhouse-format": answer.format,
        "x-clickhouse-query-id": request.query_id,
        "x-clickhouse-summary": json.dumps({name: str(value) for name, value in summary.items()}),
    }
    if frames:
        return headers, framed(data)
    if request.gzip and len(data) > _SMALL:
        headers |= {"content-encoding": "gzip", "vary": "Accept-Encoding"}
        data = gzip.compress(data, 1)
    return headers, data


def _text_of(name: str) -> str:
    kind = "tab-separated-values" if name.startswith(("TabSeparated", "TSV")) else "plain"
    return f"text/{kind}; charset=UTF-8"


async def _body(receive: Receive) -> bytes:
    """Raises `QueryFailed` when it is longer than a query may be."""
    parts, length = list[bytes](), 0
    while True:
        message = await receive()
        part = message.get("body", b"")
        length += len(part)
        if length > MAX_BODY_BYTES:
            raise QueryFailed(229, "QUERY_IS_TOO_LARGE", f"The query is larger than {MAX_BODY_BYTES} bytes")
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


async def serve(front: SqlFront, host: str, port: int, listening: Callable[[int], None] = lambda _port: None) -> None:
    """Until cancelled. A port that is taken is waited for: the monitor does without this one."""
    config = uvicorn.Config(
        front, log_config=None, access_log=False, lifespan="off", ws="none", server_header=False,
        timeout_graceful_shutdown=int(GRACE_S), limit_concurrency=200,
    )  # fmt: skip
    server = QuietServer(config)
    while True:
        try:
            socket = listen("monitor", "SQL", host, port)
            break
        except CannotStart as error:
            log.warning("sql_waits", error=str(error))
            await asyncio.sleep(10.0)
    listening(socket.getsockname()[1])
    log.info("sql_listening", sql_port=socket.getsockname()[1])
    serving = asyncio.create_task(server.serve(sockets=[socket]), name="sql")
    try:
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
