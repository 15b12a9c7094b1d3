"""Strangers' queries on the engine in process: each in a connection of its own that is read-only and bounded.

What bounds it is set before `readonly`, after which no query can set anything, and goes with the connection.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from services.monitor.domain.sql import HOST_FUNCTIONS, SAFE_TABLE_FUNCTIONS, Answer, Limits, Question, check
from services.monitor.errors import QueryFailed

T = TypeVar("T")

THREADS: Final = 2
WAITING: Final = 32
_RANGE: Final = 10_000_000
"""Longest array of the function `range`: of a constant it is made before the bound of memory holds."""
_MARK: Final = "irisloop-readonly"
"""Queries that carry it are ours to kill."""
_OBJECTS: Final = frozenset({"dataframe", "arrowtable", "debug"})
"""Formats of chdb that are no bytes."""
_ERROR: Final = re.compile(
    r"(?:Code: (\d+)\. DB::Exception: )+(.*?)(?:\.? \((?:version [^)]*|[A-Z][A-Z0-9_]+)\))*\.?\s*$", re.DOTALL
)
_NAME: Final = re.compile(r"\(([A-Z][A-Z0-9_]+)\)(?: \(version [^)]*\))*\.?\s*$")
_REFUSED: Final = """
SELECT name FROM system.table_functions
UNION ALL SELECT name FROM system.functions
WHERE has(splitByChar(',', toString(categories)), 'AI') OR match(name, '^(ai|AI)[A-Z]')
"""


class EmbeddedReader:
    """Answers from the engine under `path`, which someone else of this process has opened and keeps."""

    def __init__(self, path: Path, limits: Limits) -> None:
        """Threads are made when they are needed."""
        self.limits = limits
        self._path = str(path.resolve())
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="sql")
        self._refused: frozenset[str] = frozenset()
        self._about = ("", "")
        self._pending: set[Future[Any]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Queries under way are killed."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._pending:
            await asyncio.to_thread(self._kill)
        await asyncio.to_thread(self._threads.shutdown)

    async def about(self) -> tuple[str, str]:
        """(version, time zone)."""
        if not self._about[0]:
            await self._call(self._learn)
        return self._about

    async def ask(self, question: Question) -> Answer:
        """Raises `QueryFailed`."""
        if len(self._pending) >= WAITING:
            raise QueryFailed(
                202, "TOO_MANY_SIMULTANEOUS_QUERIES", f"Too many simultaneous queries. Maximum: {WAITING}"
            )
        return await self._call(lambda: self._ask(question))

    async def _call(self, work: Callable[[], T]) -> T:
        """It is pending until its thread is done, also where nobody waits for it any more."""
        future = self._threads.submit(work)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)

    def _connect(self) -> Any:
        import chdb

        return chdb.connect(self._path)

    def _kill(self) -> None:
        connection = self._connect()
        try:
            connection.query(f"KILL QUERY WHERE Settings['log_comment'] = '{_MARK}' ASYNC")
        finally:
            connection.close()

    def _learn(self) -> None:
        connection = self._connect()
        try:
            names = {name.lower() for name in _text(connection, _REFUSED).split()}
            self._refused = frozenset(names - SAFE_TABLE_FUNCTIONS) | HOST_FUNCTIONS
            version, zone = _text(connection, "SELECT version(), timezone()").split("\t")
            self._about = (version, zone)
        finally:
            connection.close()

    def _ask(self, question: Question) -> Answer:
        if not self._about[0]:
            self._learn()
        connection = self._connect()
        try:
            return self._answer(connection, question)
        except QueryFailed:
            raise
        except Exception as error:
            raise _failed(error) from error
        finally:
            connection.close()

    def _answer(self, connection: Any, question: Question) -> Answer:
        if question.database:
            name = question.database.replace("\\", "\\\\").replace("`", "\\`")
            connection.query(f"USE `{name}`")
        connection.query("SET " + ", ".join(f"{name} = {_quoted(value)}" for name, value in self._settings(question)))
        connection.query("SET readonly = 1")
        canonical = _canonical(connection, question.text)
        form = check(canonical, self._refused) or question.format
        if not re.fullmatch(r"\w+", form) or form.lower() in _OBJECTS:
            raise QueryFailed(73, "UNKNOWN_FORMAT", f"Unknown format {form[:40]}")
        result = connection.query(canonical, form, params=dict(question.parameters))
        data = bytes(result.bytes())
        if form == "Native" and not data:
            data = _heads(connection, canonical, question.parameters)
        return Answer(
            data=data,
            format=form,
            rows=int(result.rows_read()),
            read_rows=int(result.storage_rows_read()),
            read_bytes=int(result.storage_bytes_read()),
            seconds=float(result.elapsed()),
        )

    def _settings(self, question: Question) -> list[tuple[str, str]]:
        """Our bounds last, each no wider than what the client asked for."""
        given = dict(question.settings)
        bounds: Mapping[str, float] = {
            "max_execution_time": self.limits.seconds,
            "max_result_rows": self.limits.rows,
            "max_memory_usage": self.limits.memory_mb << 20,
            "max_result_bytes": self.limits.memory_mb << 19,
            "max_threads": 2,
            "function_range_max_elements_in_block": _RANGE,
        }
        for name, bound in bounds.items():
            given[name] = _narrower(name, given.get(name, "0"), bound)
        given.setdefault("result_overflow_mode", "throw")
        given |= {"timeout_before_checking_execution_speed": "0", "log_comment": _MARK}
        return list(given.items())


def _narrower(name: str, given: str, bound: float) -> str:
    """0 means without a bound. Raises `QueryFailed`."""
    try:
        wanted = float(given)
    except ValueError as error:
        raise QueryFailed(72, "CANNOT_PARSE_NUMBER", f"Cannot parse setting {name}: {given[:40]!r}") from error
    chosen = min(wanted, bound) if wanted > 0 else bound
    return f"{chosen:.3f}" if name == "max_execution_time" else str(int(chosen))


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _text(connection: Any, query: str, parameters: Mapping[str, str] | None = None) -> str:
    result = connection.query(query, "TSVRaw", params=dict(parameters or {}))
    return bytes(result.bytes()).decode().removesuffix("\n")


def _canonical(connection: Any, text: str) -> str:
    """As the engine's parser understands it. Raises the engine's error for what is not one statement."""
    escaped = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
    try:
        return _text(connection, "SELECT formatQuerySingleLine({q:String})", {"q": escaped.replace("\0", "\\0")})
    except Exception as error:
        failed = _failed(error)
        message = str(failed).partition(": In scope SELECT formatQuerySingleLine")[0]
        raise QueryFailed(failed.code, failed.reason, message) from error


def _heads(connection: Any, canonical: str, parameters: Mapping[str, str]) -> bytes:
    """A block without rows, which the engine in process leaves out of Native; b"" where there are no columns."""
    if not canonical.startswith(("SELECT ", "WITH ")):
        return b""
    query = "".join(canonical.rsplit(" FORMAT Native", 1))
    result = connection.query(f"DESCRIBE TABLE ({query})", "JSONCompact", params=dict(parameters))
    columns = [(name.encode(), kind.encode()) for name, kind, *_ in json.loads(result.bytes())["data"]]
    parts = [_sized(name) + _sized(kind) for name, kind in columns]
    return bytes([*_varint(len(columns)), 0]) + b"".join(parts)


def _sized(text: bytes) -> bytes:
    return _varint(len(text)) + text


def _varint(value: int) -> bytes:
    """LEB128."""
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _failed(error: Exception) -> QueryFailed:
    text = str(error)
    code, name = _ERROR.search(text), _NAME.search(text)
    if code is None:
        return QueryFailed(1001, "STD_EXCEPTION", text)
    return QueryFailed(int(code[1]), name[1] if name else "UNKNOWN_EXCEPTION", code[2])
