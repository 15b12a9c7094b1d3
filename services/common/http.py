"""The HTTP side of every service: a FastAPI with health, metrics, one form of errors and one place for the caller."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.errors import Conflict, InvalidMessage, IrisloopError, NotFound, Transient
from services.common.metrics import HTTP_SECONDS
from services.common.readiness import waiting_for
from services.common.telemetry import bind_trace, log, span, trace_id

LOCAL_OWNER: Final = "local-owner"
PRINCIPAL_HEADER: Final = "x-irisloop-principal"
MAX_BODY_BYTES: Final = 64 << 20
RETRY_AFTER_S: Final = 1
STATUS: Final[tuple[tuple[type[IrisloopError], int], ...]] = (
    (InvalidMessage, 400),
    (NotFound, 404),
    (Conflict, 409),
    (Transient, 503),
    (IrisloopError, 500),
)
"""The most particular first."""
REASONS: Final = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "TOO_LARGE"}
"""Words for what the framework refuses."""


async def http_principal(x_irisloop_principal: Annotated[str, Header(max_length=128)] = LOCAL_OWNER) -> str:
    """Who calls; a local owner by default."""
    return x_irisloop_principal or LOCAL_OWNER


Principal = Annotated[str, Depends(http_principal)]
"""Annotate a route's parameter with it: `async def promote(..., who: Principal)`."""


def create_http(
    service: str, ready: Callable[[], str] | None = None, *, max_body_bytes: int = MAX_BODY_BYTES
) -> FastAPI:
    """An application with /healthz, /readyz and /metrics; `ready` says what is waited for, or "".

    The runtime adds the reasons that it knows to `app.state.waits`; `app.state.unsent()` says how many bytes of answers
    its clients have not taken.
    """
    app = FastAPI(title=f"Irisloop {service}", version="1")
    waits: list[Callable[[], str]] = [ready] if ready is not None else []
    app.state.waits = waits
    app.state.unsent = lambda: 0
    _add_health(app, service, waits)
    _add_errors(app)
    app.add_middleware(Gate, max_body_bytes=max_body_bytes)
    return app


def _add_health(app: FastAPI, service: str, waits: Sequence[Callable[[], str]]) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"service": service, "status": "live"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz(response: Response) -> dict[str, str]:
        reason = waiting_for(waits)
        if reason:
            response.status_code = 503
            return {"service": service, "status": "not ready", "waiting_for": reason}
        return {"service": service, "status": "ready", "waiting_for": ""}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

        return Response(generate_latest(), headers={"content-type": CONTENT_TYPE_LATEST})


def answer(error: IrisloopError) -> JSONResponse:
    """The error as a response; what may pass bears a retry hint."""
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    headers = {"retry-after": str(RETRY_AFTER_S)} if status == 503 else None
    return JSONResponse(_body(error.reason, str(error), error.field), status, headers)


def _body(reason: str, message: str, field: str = "") -> dict[str, Any]:
    code = reason.lower()
    return {"error": {"code": code, "message": message, "field": field, "reason": reason}}


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(IrisloopError)
    async def ours(_: Request, error: IrisloopError) -> JSONResponse:
        if not isinstance(error, InvalidMessage | NotFound | Conflict | Transient):
            log.error("http_failed", error=str(error), reason=error.reason, exc_info=error)
        return answer(error)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse(_validation_body(error), 400)

    @app.exception_handler(HTTPException)
    async def framework(_: Request, error: HTTPException) -> JSONResponse:
        reason = REASONS.get(error.status_code, "INVALID")
        body = _body(reason, str(error.detail), "body" if error.status_code == 413 else "")
        return JSONResponse(body, error.status_code, error.headers)


def _validation_body(error: RequestValidationError) -> dict[str, Any]:
    problems = error.errors()
    fields = [".".join(str(part) for part in problem["loc"][1:] or problem["loc"]) for problem in problems]
    text = "; ".join(f"{field}: {problem['msg']}" for field, problem in zip(fields, problems, strict=True))
    return _body("INVALID", text or "The request is not valid.", fields[0] if fields else "")


class Gate:
    """What every request passes: the trace, the size limit, the measurement, and a last net for errors."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        """`max_body_bytes` bounds what a request may carry."""
        self._app = app
        self._max = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        status, started = 0, time.perf_counter()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with bind_trace(headers.get(b"traceparent", b"").decode("latin-1")) as traceparent:
            try:
                with span("http request", method=scope["method"], path=scope["path"]):
                    await self._pass(scope, receive, note, headers)
            except Exception as error:
                log.exception("http_failed", path=scope["path"], error=repr(error))
                if not status:
                    text = f"The service failed; its log says why under trace {trace_id(traceparent)}."
                    await JSONResponse(_body("INTERNAL", text), 500)(scope, receive, note)
            finally:
                template = getattr(scope.get("route"), "path", "other")
                HTTP_SECONDS.labels(template, f"{status // 100 or 5}xx").observe(time.perf_counter() - started)

    async def _pass(self, scope: Scope, receive: Receive, send: Send, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._max:
            body = _body("TOO_LARGE", self._too_large(), "body")
            await JSONResponse(body, 413, {"connection": "close"})(scope, receive, send)
            return
        taken = 0

        async def bounded() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > self._max:
                raise HTTPException(413, self._too_large())
            return message

        await self._app(scope, bounded, send)

    def _too_large(self) -> str:
        return f"A request may carry {self._max:,} bytes at most."
