"""The log files of the processes: each writes its own, the supervisor follows, prints and bounds them.

A process writes straight into its file, so that it never waits for the supervisor and loses nothing with it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

READ_BYTES: Final = 1 << 20
HIDDEN: Final = frozenset({"timestamp", "level", "event", "service", "replica", "logger"})
SEVERE: Final = ("warning", "error", "critical", "WARN", "ERROR", "FATAL", "Traceback")


@dataclass(slots=True)
class LogFile:
    """A file that a process appends to; `max_bytes` bounds it by moving what is there to `<name>.1`."""

    path: Path
    max_bytes: int
    _offset: int = 0
    _rest: bytes = field(default=b"")

    def open(self) -> int:
        """A descriptor for the process's output."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def skip(self) -> None:
        """Do not read what is there already."""
        self._offset = self.path.stat().st_size if self.path.exists() else 0

    def new_lines(self) -> Iterator[str]:
        """The complete lines that came since the last call, at most a MiB of them."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._offset, self._rest = 0, b""
                file.seek(self._offset)
                chunk = file.read(READ_BYTES)
        except FileNotFoundError:
            return
        self._offset += len(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > READ_BYTES:
            lines, self._rest = [*lines, self._rest], b""
        for line in lines:
            yield line.decode(errors="replace")

    def bound(self) -> bool:
        """Move a file that has grown too big aside. The process goes on at the new beginning, since it appends."""
        try:
            if self.path.stat().st_size <= self.max_bytes:
                return False
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            os.truncate(self.path, 0)
        except OSError:
            return False  # a full disk: the next look may do
        self._offset, self._rest = 0, b""
        return True

    def last_line(self) -> str:
        """The last line that says something, readable; "" when there is none."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - 8192))
                lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        except FileNotFoundError:
            return ""
        return readable(lines[-1]) if lines else ""


def readable(line: str) -> str:
    """A line for people: a JSON line becomes `12:00:01 info  event field=value`, any other stays what it is."""
    record = _parse(line)
    if record is None:
        return line
    fields = " ".join(f"{name}={_value(value)}" for name, value in record.items() if name not in HIDDEN)
    clock = str(record.get("timestamp", ""))[11:19]
    return f"{clock} {record.get('level', ''):<7} {record.get('event', '')} {fields}".strip()


def is_severe(line: str) -> bool:
    """Whether the line is a warning or worse."""
    record = _parse(line)
    if record is not None:
        return record.get("level") in SEVERE
    return any(word in line for word in SEVERE)


def _parse(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and "event" in record else None


def _value(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text) if " " in text and not text.startswith(("[", "{")) else text
