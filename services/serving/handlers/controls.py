"""Trace and log settings as Triton's clients read and change them.

Our traces follow the caller's `traceparent` and go where OpenTelemetry is told to; of Triton's trace settings none
changes that: they are checked and kept, so that a client's tooling works. Log settings change what this process logs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Final

from services.serving.domain.routes import RouteTable
from services.serving.errors import BadRequest, Unsupported

TRACE_DEFAULTS: Final[Mapping[str, list[str]]] = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "log_frequency": ["0"],
    "trace_file": [""],
    "trace_mode": ["opentelemetry"],
}
TRACE_LEVELS: Final = frozenset({"OFF", "TIMESTAMPS", "TENSORS"})
TRACE_NUMBERS: Final = {"trace_rate": 0, "trace_count": -1, "log_frequency": 0}
"""Setting to its least value."""
LOG_FORMATS: Final = frozenset({"default", "ISO8601"})
LOG_FLAGS: Final = ("log_info", "log_warning", "log_error")
LARGEST: Final = 2**31 - 1

LogValue = bool | int | str


class Controls:
    """Settings of this process; a model has its own trace settings once they were set."""

    def __init__(self, table: Callable[[], RouteTable], set_level: Callable[[int], None] | None = None) -> None:
        """`set_level` makes the process log from this level of `logging` on."""
        self._table = table
        self._set_level = set_level or logging.getLogger().setLevel
        self._trace = dict(TRACE_DEFAULTS)
        self._by_model: dict[str, dict[str, list[str]]] = {}
        self._log: dict[str, LogValue] = {
            "log_file": "",
            "log_info": True,
            "log_warning": True,
            "log_error": True,
            "log_verbose_level": 0,
            "log_format": "default",
        }

    def trace(self, model: str, changes: Mapping[str, list[str] | None]) -> dict[str, list[str]]:
        """All trace settings, of a model or of the server (""), after the changes; None sets one back.

        Raises `BadRequest` for an unknown model or a value that cannot be, `Unsupported` for the file's place.
        """
        if model and model not in self._table().routes:
            raise BadRequest(f"Request for unknown model : {model[:128]}", field="model_name")
        checked = {name: _checked_trace(name, value) for name, value in changes.items() if name in TRACE_DEFAULTS}
        target = self._by_model.setdefault(model, {}) if model and checked else self._trace
        for name, value in checked.items():
            if value is not None:
                target[name] = value
            elif model:
                target.pop(name, None)
            else:
                target[name] = TRACE_DEFAULTS[name]
        return {**self._trace, **self._by_model.get(model, {})}

    def log(self, changes: Mapping[str, LogValue]) -> dict[str, LogValue]:
        """All log settings after the changes. Raises `BadRequest`, `Unsupported` for the file's place."""
        checked = {name: _checked_log(name, value) for name, value in changes.items() if name in self._log}
        if checked:
            self._log |= checked
            self._set_level(self._level())
        return dict(self._log)

    def _level(self) -> int:
        if self._log["log_verbose_level"]:
            return logging.DEBUG
        if self._log["log_info"]:
            return logging.INFO
        if self._log["log_warning"]:
            return logging.WARNING
        return logging.ERROR if self._log["log_error"] else logging.CRITICAL


def _checked_trace(name: str, values: list[str] | None) -> list[str] | None:
    if name == "trace_file":
        raise Unsupported("trace file location can not be updated through network protocol")
    if name == "trace_mode" or values is None:
        return None
    if name == "trace_level":
        wrong = [value for value in values if value not in TRACE_LEVELS]
        if wrong:
            raise BadRequest(f"unknown trace_level {wrong[0][:32]!r}; there are {', '.join(sorted(TRACE_LEVELS))}")
        return list(values)
    if len(values) != 1:
        raise BadRequest(f"expect only 1 value for '{name}'", field=name)
    try:
        number = int(values[0])
    except ValueError as error:
        raise BadRequest(f"Unable to parse '{name}', got: {values[0][:32]}", field=name) from error
    if not TRACE_NUMBERS[name] <= number <= LARGEST:
        raise BadRequest(f"'{name}' must be from {TRACE_NUMBERS[name]} to {LARGEST}, got: {number}", field=name)
    return [str(number)]


def _checked_log(name: str, value: LogValue) -> LogValue:
    if name == "log_file":
        raise Unsupported("log file location can not be updated through network protocol")
    if name in LOG_FLAGS:
        if not isinstance(value, bool):
            raise BadRequest(f"expect boolean for '{name}'", field=name)
    elif name == "log_verbose_level":
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= LARGEST:
            raise BadRequest(f"expect int32 for '{name}'", field=name)
    elif value not in LOG_FORMATS:
        raise BadRequest(f"invalid argument for log_format, got: {str(value)[:32]}", field=name)
    return value
