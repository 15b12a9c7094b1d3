"""A request of ClickHouse's HTTP interface as a question: parameters of the URL, headers and body.

What clients send that changes nothing here is ignored; a setting that would change an answer is applied or refused.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from services.monitor.domain.sql import READONLY, Question
from services.monitor.errors import QueryFailed

MAX_BODY_BYTES: Final = 1 << 20
_APPLIED: Final = frozenset(
    {
        "asterisk_include_alias_columns", "cast_keep_nullable", "date_time_output_format",
        "empty_result_for_aggregation_by_empty_set", "extremes", "final", "format_csv_delimiter",
        "group_by_use_nulls", "join_use_nulls", "limit", "max_block_size",
        "max_bytes_to_read", "max_execution_time", "max_memory_usage", "max_result_bytes", "max_result_rows",
        "max_rows_to_read", "max_threads", "offset", "prefer_column_name_to_alias", "read_overflow_mode",
        "result_overflow_mode", "session_timezone", "totals_mode", "transform_null_in", "union_default_mode",
        "use_client_time_zone",
    }
)  # fmt: skip
_IGNORED: Final = frozenset(
    {
        "add_http_cors_header", "async_insert", "buffer_size", "cancel_http_readonly_queries_on_client_close",
        "client_protocol_version", "compress", "connect_timeout", "custom_http_params", "database", "decompress",
        "default_format", "enable_http_compression", "http_headers_progress_interval_ms", "http_max_field_name_size",
        "http_max_field_value_size", "http_max_uri_size", "http_receive_timeout", "http_response_buffer_size",
        "http_send_timeout", "http_write_exception_in_output_format", "http_zlib_compression_level",
        "insert_deduplicate", "insert_quorum", "log_comment", "log_queries", "max_query_size",
        "network_compression_method", "password", "query", "query_id", "quota_key", "readonly",
        "receive_timeout", "role", "send_progress_in_http_headers", "send_timeout",
        "session_check", "session_id", "session_timeout", "stacktrace", "user", "wait_end_of_query",
    }
)  # fmt: skip
_FORMATTING: Final = "output_format_"


@dataclass(frozen=True, slots=True)
class Request:
    """What the answer depends on."""

    question: Question
    query_id: str
    protocol: int
    """Revision of the Native format that the client reads; 0 for the oldest."""
    gzip: bool
    """Whether the client takes it."""


def read(method: str, query: bytes, headers: Mapping[str, str], body: bytes) -> Request:
    """Raises `QueryFailed` for what is not understood or not allowed."""
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True)
    given = dict(pairs)
    if given.get("decompress", "0") not in ("0", ""):
        raise QueryFailed(48, "NOT_IMPLEMENTED", "decompress=1 is not supported here: use HTTP compression (gzip)")
    if headers.get("content-type", "").startswith("multipart/"):
        raise QueryFailed(48, "NOT_IMPLEMENTED", "External tables are not supported here")
    texts = [given.get("query", ""), _text(headers, body) if method == "POST" else ""]
    return Request(
        question=Question(
            text="\n".join(text for text in texts if text),
            database=given.get("database") or headers.get("x-clickhouse-database", ""),
            format=given.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
            parameters={name.removeprefix("param_"): value for name, value in pairs if name.startswith("param_")},
            settings=_settings(given),
        ),
        query_id=_query_id(given.get("query_id", "")),
        protocol=_number("client_protocol_version", given.get("client_protocol_version", "0")),
        gzip=bool(re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", headers.get("accept-encoding", ""))),
    )


def wants_frames(query: bytes) -> bool:
    """Whether everything that is answered, errors too, is to be in ClickHouse's compressed frames."""
    return dict(parse_qsl(query.decode("latin-1"))).get("compress", "0") != "0"


def password_of(query: bytes, headers: Mapping[str, str]) -> str:
    """From where clients put it: Basic, X-ClickHouse-Key or the URL; "" for none."""
    kind, _, token = headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            return base64.b64decode(token, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    given = dict(parse_qsl(query.decode("latin-1")))
    return headers.get("x-clickhouse-key") or given.get("password", "")


def _settings(given: Mapping[str, str]) -> dict[str, str]:
    applied: dict[str, str] = {}
    for name, value in given.items():
        if name in _APPLIED or (name.startswith(_FORMATTING) and re.fullmatch(r"\w+", name)):
            applied[name] = value
        elif name not in _IGNORED and not name.startswith("param_"):
            raise QueryFailed(READONLY, "READONLY", f"Cannot modify '{name[:80]}' setting in readonly mode")
    return applied


def _text(headers: Mapping[str, str], body: bytes) -> str:
    """The body as text. Raises `QueryFailed` when it cannot be unpacked or is too long."""
    encoding = headers.get("content-encoding", "")
    try:
        if encoding == "gzip":
            body = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, MAX_BODY_BYTES + 1)
        elif encoding == "deflate":
            body = zlib.decompressobj().decompress(body, MAX_BODY_BYTES + 1)
        elif encoding not in ("", "identity"):
            raise QueryFailed(48, "NOT_IMPLEMENTED", f"Content-Encoding {encoding[:20]} is not supported here")
        if len(body) > MAX_BODY_BYTES:
            raise QueryFailed(229, "QUERY_IS_TOO_LARGE", f"The query is larger than {MAX_BODY_BYTES} bytes")
        return body.decode()
    except zlib.error as error:
        raise QueryFailed(117, "INCORRECT_DATA", f"The body cannot be unpacked: {error}") from error
    except UnicodeDecodeError as error:
        raise QueryFailed(62, "SYNTAX_ERROR", "The query is not UTF-8") from error


def _query_id(given: str) -> str:
    if not given:
        return str(uuid.uuid4())
    if len(given) > 200 or not given.isascii() or not given.isprintable():
        raise QueryFailed(36, "BAD_ARGUMENTS", "query_id may be 200 printable ASCII characters")
    return given


def _number(name: str, given: str) -> int:
    if not re.fullmatch(r"\d{1,9}", given or "0"):
        raise QueryFailed(72, "CANNOT_PARSE_NUMBER", f"{name} has to be a number")
    return int(given or 0)
