"""Trace ids are passed on, lines bear them, secrets stay out of both."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import SecretStr

from services.common import telemetry
from services.common.settings import CommonSettings, KafkaSettings
from services.common.telemetry import (
    bind_trace,
    configure,
    continued,
    current_traceparent,
    is_valid,
    log,
    message_spans,
    new_traceparent,
    record_spans,
    span,
    stop_spans,
    trace_id,
)

KNOWN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_new_traceparent_is_valid_and_its_own() -> None:
    made = {new_traceparent() for _ in range(1_000)}
    assert len(made) == 1_000
    assert all(is_valid(traceparent) for traceparent in made)


def test_a_child_stays_in_the_trace_with_a_span_of_its_own() -> None:
    child = new_traceparent(KNOWN)
    assert trace_id(child) == trace_id(KNOWN) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert child != KNOWN
    assert trace_id(new_traceparent("rubbish")) != trace_id(KNOWN)


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "rubbish",
        KNOWN.upper(),
        "ff" + KNOWN[2:],
        KNOWN + "-extra",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
    ],
)
def test_what_the_specification_forbids_is_not_continued(wrong: str) -> None:
    assert not is_valid(wrong)
    with bind_trace(wrong) as traceparent:
        assert is_valid(traceparent)
        assert trace_id(traceparent) != trace_id(KNOWN)


def test_a_later_version_of_the_specification_is_continued() -> None:
    assert is_valid("01" + KNOWN[2:] + "-more")


async def test_the_current_trace_is_that_of_the_task() -> None:
    async def work(traceparent: str) -> str:
        with bind_trace(traceparent):
            await asyncio.sleep(0)
            return current_traceparent()

    wanted = [new_traceparent() for _ in range(10)]
    assert await asyncio.gather(*map(work, wanted)) == wanted
    assert current_traceparent() == ""


def test_without_a_collector_the_sdk_is_not_imported() -> None:
    code = (
        "import sys; from services.common.settings import CommonSettings; from services.common import telemetry; "
        "telemetry.configure(CommonSettings(), 'x'); telemetry.span('a').__enter__(); "
        "sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- spans ----


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    record_spans(SimpleSpanProcessor(exporter), "sample", 3)
    yield exporter
    stop_spans()


def test_a_span_continues_the_trace(spans: InMemorySpanExporter) -> None:
    with bind_trace(KNOWN), span("handle batch", messages=2) as inner:
        assert current_traceparent() == inner
        with span("write"):
            pass
    write, batch = spans.get_finished_spans()
    assert (batch.name, write.name) == ("handle batch", "write")
    assert f"{batch.context.trace_id:032x}" == trace_id(KNOWN) == trace_id(inner)
    assert batch.parent is not None
    assert f"{batch.parent.span_id:016x}" == "00f067aa0ba902b7"
    assert write.parent is not None
    assert write.parent.span_id == batch.context.span_id
    assert dict(batch.attributes or {}) == {"messages": 2}
    assert batch.resource.attributes["service.name"] == "irisloop-sample"


def test_each_message_of_a_batch_gets_a_span_in_its_own_trace(spans: InMemorySpanExporter) -> None:
    other = new_traceparent()
    with message_spans("ingest.store-frames", [KNOWN, other], messages=2) as own:
        assert [trace_id(traceparent) for traceparent in own] == [trace_id(KNOWN), trace_id(other)]
        assert not set(own) & {KNOWN, other}
    first, second = spans.get_finished_spans()
    assert [f"{one.context.span_id:016x}" for one in (first, second)] == [traceparent[36:52] for traceparent in own]
    assert first.parent is not None
    assert f"{first.parent.span_id:016x}" == KNOWN[36:52]
    with pytest.raises(ValueError, match="no"), message_spans("ingest.store-frames", [KNOWN]):
        raise ValueError("no")
    assert not spans.get_finished_spans()[-1].status.is_ok


def test_without_a_collector_messages_keep_their_traces() -> None:
    with message_spans("ingest.store-frames", [KNOWN]) as own:
        assert own == [KNOWN]


def test_what_brings_no_valid_trace_gets_one_that_a_repeat_gets_too() -> None:
    assert continued(KNOWN, "id-1") == KNOWN
    for odd in ("", "rubbish", f"00-{'0' * 32}-00f067aa0ba902b7-01"):
        assert is_valid(continued(odd, "id-1"))
        assert continued(odd, "id-1") == continued("", "id-1") != continued("", "id-2")


def test_a_span_notes_the_error_that_ended_it(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="no"), span("work"):
        raise ValueError("no")
    (work,) = spans.get_finished_spans()
    assert not work.status.is_ok


def test_without_a_collector_a_span_still_gives_the_work_a_trace() -> None:
    with span("work") as traceparent:
        assert is_valid(traceparent)
        assert current_traceparent() == traceparent
    assert current_traceparent() == ""


# ---- logs ----


@pytest.mark.usefixtures("logs_as_before")
def test_a_line_bears_service_replica_and_trace(capsys: pytest.CaptureFixture[str]) -> None:
    configure(CommonSettings(replica=2), "sample")
    with bind_trace(KNOWN):
        log.info("frame_stored", camera="gate-1")
    (line,) = lines(capsys)
    assert line["event"] == "frame_stored"
    assert (line["service"], line["replica"], line["camera"], line["level"]) == ("sample", 2, "gate-1", "info")
    assert line["trace_id"] == trace_id(KNOWN)


@pytest.mark.usefixtures("logs_as_before")
def test_lines_of_libraries_look_the_same_and_the_chatty_are_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    configure(CommonSettings(), "sample")
    logging.getLogger("some.library").info("hello %s", "there")
    logging.getLogger("aiokafka.consumer").info("joined the group")
    logging.getLogger("some.library").debug("too much")
    assert [(line["event"], line["service"]) for line in lines(capsys)] == [("hello there", "sample")]


@pytest.mark.usefixtures("logs_as_before")
def test_an_exception_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure(CommonSettings(), "sample")
    try:
        raise ValueError("no")
    except ValueError:
        log.exception("work_failed")
    (line,) = lines(capsys)
    assert "ValueError: no" in str(line["exception"])


@pytest.mark.usefixtures("logs_as_before")
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_is_ever_logged(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    secret = "hunter2"
    settings = CommonSettings(
        log_format=log_format,  # type: ignore[arg-type]
        database_url=SecretStr(f"postgresql://user:{secret}@host/db"),
        kafka=KafkaSettings(sasl_password=SecretStr(secret)),
    )
    configure(settings, "sample")
    log.info("started", settings=settings, kafka=settings.kafka, password=secret, api_key=secret)
    log.info("connected", url=f"postgresql://user:{secret}@host/db", nested={"auth": {"token": secret}})
    try:
        raise ConnectionError(f"no answer from postgresql://user:{secret}@host/db")
    except ConnectionError as error:
        log.info("failed", error=str(error))
    log.info("plain", value=SecretStr(secret), items=[f"amqp://u:{secret}@h"])
    logging.getLogger("some.library").warning("opening %s", f"postgresql://user:{secret}@host/db")
    written = capsys.readouterr().out
    assert secret not in written
    assert written.count("***") >= 6


@pytest.mark.usefixtures("logs_as_before")
def test_a_collector_is_used_when_it_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def note(processor: SpanProcessor, service: str, replica: int) -> None:
        made.append(service)
        processor.shutdown()

    monkeypatch.setattr(telemetry, "record_spans", note)
    configure(CommonSettings(otlp_endpoint="http://127.0.0.1:1"), "sample")
    assert made == ["sample"]
