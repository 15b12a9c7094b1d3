"""Logs and traces: structlog lines that bear service, replica and trace id, and W3C trace context passed on.

Ids are always passed on; spans are made only when a collector is configured, and only then OpenTelemetry's SDK is
imported (it costs half a second and 20 MB).
"""

from __future__ import annotations

import hashlib
import logging
import random
import re
import sys
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from services.common.imports import without
from services.common.settings import CommonSettings

with without("rich"):  # for coloured tracebacks: 0.2 s and 5 MB in each process
    import structlog

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import Span, Tracer

log: structlog.stdlib.BoundLogger = structlog.get_logger()

TRACEPARENT: Final = re.compile(r"^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$")
SECRET_NAME: Final = re.compile(r"password|passwd|secret|token|api_?key|authorization|credential", re.IGNORECASE)
SECRET_IN_URL: Final = re.compile(r"(\w+://[^\s:/@]*):[^\s@/]+@")
QUIET: Final = ("aiokafka", "alembic", "uvicorn", "httpx", "httpcore", "grpc", "asyncio")

_traceparent: ContextVar[str] = ContextVar("irisloop_traceparent", default="")


@dataclass(slots=True)
class _Tracing:
    """The process's tracer, once spans are configured."""

    tracer: Tracer | None = None


_tracing = _Tracing()


# ---- trace context (https://www.w3.org/TR/trace-context/) ----


def new_traceparent(parent: str = "") -> str:
    """A traceparent with a new span id; in the parent's trace when the parent is valid, else in a new one."""
    span_id = random.getrandbits(64) or 1
    match = TRACEPARENT.match(parent) if parent else None
    if match is not None and is_valid(parent):
        return f"00-{match[2]}-{span_id:016x}-{match[4]}"
    return f"00-{random.getrandbits(128) or 1:032x}-{span_id:016x}-01"


def is_valid(traceparent: str) -> bool:
    """Whether it is a traceparent that the specification lets us continue."""
    match = TRACEPARENT.match(traceparent)
    if match is None or match[1] == "ff" or (match[1] == "00" and match[5]):
        return False
    return match[2] != "0" * 32 and match[3] != "0" * 16


def continued(traceparent: str, cause: str) -> str:
    """The traceparent when it is valid, else one of a new trace that derives from the cause: the same for a repeat."""
    if traceparent and is_valid(traceparent):
        return traceparent
    digest = hashlib.sha256(cause.encode()).hexdigest()
    return f"00-{digest[:32]}-{digest[32:48]}-01"


def trace_id(traceparent: str) -> str:
    """The trace's id of 32 hex digits, or "" when there is none."""
    return traceparent[3:35] if len(traceparent) >= 55 else ""


def current_traceparent() -> str:
    """The trace context of the work in hand, or "" outside of any."""
    return _traceparent.get()


class bind_trace:  # noqa: N801 - reads as a verb: `with bind_trace(traceparent):`
    """Make a traceparent the current one: until the end of the `with` block, or for the rest of the task.

    An invalid or empty one starts a new trace.
    """

    __slots__ = ("_token", "traceparent")

    def __init__(self, traceparent: str) -> None:
        """Take effect at once."""
        self.traceparent = traceparent if traceparent and is_valid(traceparent) else new_traceparent()
        self._token = _traceparent.set(self.traceparent)

    def __enter__(self) -> str:
        """The traceparent that is current now."""
        return self.traceparent

    def __exit__(self, *exc: object) -> None:
        """Back to the one before."""
        _traceparent.reset(self._token)


@contextmanager
def span(name: str, **attributes: str | int | float | bool) -> Iterator[str]:
    """A piece of work in the current trace; yields its traceparent, which is current inside.

    Without a collector only the ids are kept going.
    """
    if _tracing.tracer is None:
        with bind_trace(_traceparent.get()) as traceparent:
            yield traceparent
        return
    with _recorded(_tracing.tracer, name, attributes) as traceparent:
        yield traceparent


@contextmanager
def _recorded(tracer: Tracer, name: str, attributes: Mapping[str, str | int | float | bool]) -> Iterator[str]:
    context = _context(_traceparent.get())
    with (
        tracer.start_as_current_span(name, context=context, attributes=attributes) as recorded,
        bind_trace(_traceparent_of(recorded)) as traceparent,
    ):
        yield traceparent


@contextmanager
def message_spans(
    name: str, traceparents: Sequence[str], **attributes: str | int | float | bool
) -> Iterator[Sequence[str]]:
    """A span in the trace of each message while a batch of them is worked on; yields the spans' traceparents.

    Without a collector the messages' own come back.
    """
    if _tracing.tracer is None:
        yield traceparents
        return
    from opentelemetry.trace import SpanKind, Status, StatusCode

    spans = [
        _tracing.tracer.start_span(name, _context(traceparent), SpanKind.CONSUMER, attributes)
        for traceparent in traceparents
    ]
    try:
        yield [_traceparent_of(one) for one in spans]
    except BaseException as error:
        for one in spans:
            one.set_status(Status(StatusCode.ERROR, repr(error)))
        raise
    finally:
        for one in spans:
            one.end()


def _context(traceparent: str) -> Any:
    from opentelemetry.trace import NonRecordingSpan, set_span_in_context

    parent = _span_context(traceparent)
    return set_span_in_context(NonRecordingSpan(parent)) if parent is not None else None


def _traceparent_of(span: Span) -> str:
    own = span.get_span_context()
    return f"00-{own.trace_id:032x}-{own.span_id:016x}-{own.trace_flags:02x}"


def _span_context(traceparent: str) -> Any:
    from opentelemetry.trace import SpanContext, TraceFlags

    if not traceparent or not is_valid(traceparent):
        return None
    _, trace, parent, flags = traceparent.split("-")[:4]
    return SpanContext(int(trace, 16), int(parent, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))


# ---- configuration ----


def configure(settings: CommonSettings, service: str) -> None:
    """Set up logs for the process, and spans when `settings.otlp_endpoint` is set."""
    _configure_logs(settings, service)
    if settings.otlp_endpoint:
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        exporter = OTLPSpanExporter(settings.otlp_endpoint, insecure=settings.otlp_endpoint.startswith("http://"))
        record_spans(BatchSpanProcessor(exporter), service, settings.replica)


def record_spans(processor: SpanProcessor, service: str, replica: int = 0) -> None:
    """Make spans from now on and hand them to the processor (a collector's, or one in memory)."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider

    resource = Resource.create({"service.name": f"irisloop-{service}", "service.instance.id": str(replica)})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(processor)
    _tracing.tracer = provider.get_tracer("irisloop")


def stop_spans() -> None:
    """Make no more spans."""
    _tracing.tracer = None


def _configure_logs(settings: CommonSettings, service: str) -> None:
    def add_identity(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["service"] = service
        event["replica"] = settings.replica
        traceparent = _traceparent.get()
        if traceparent:
            event["trace_id"] = trace_id(traceparent)
        return event

    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        add_identity,
        redact,
    ]
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(settings)],
        )
    )
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLevelName(settings.log_level)))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _renderers(settings: CommonSettings) -> list[Any]:
    if settings.log_format == "json":
        return [structlog.processors.format_exc_info, redact, structlog.processors.JSONRenderer()]
    plain = structlog.dev.plain_traceback
    return [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), exception_formatter=plain)]


def redact(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: hide what is secret by its name, and passwords inside URLs."""
    for name, value in event.items():
        event[name] = _hidden(name, value)
    return event


def _hidden(name: str, value: Any) -> Any:
    if isinstance(value, SecretStr) or (SECRET_NAME.search(name) and isinstance(value, str | bytes) and value):
        return "***"
    if isinstance(value, str) and "://" in value:
        return SECRET_IN_URL.sub(r"\1:***@", value)
    if isinstance(value, dict):
        return {key: _hidden(str(key), item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(name, item) for item in value]
    return value
