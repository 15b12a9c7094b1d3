"""Log files: followed, bounded, and readable."""

from __future__ import annotations

import os
from pathlib import Path

from services.local.logs import LogFile, is_severe, readable


def write(log: LogFile, text: str) -> None:
    descriptor = log.open()
    os.write(descriptor, text.encode())
    os.close(descriptor)


def test_lines_are_read_once_and_only_when_complete(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "logs" / "a.log", 1 << 20)
    write(log, "one\ntw")
    assert list(log.new_lines()) == ["one"]
    write(log, "o\nthree\n")
    assert list(log.new_lines()) == ["two", "three"]
    assert list(log.new_lines()) == []


def test_what_a_former_run_wrote_is_skipped(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", 1 << 20)
    write(log, "old\n")
    log.skip()
    write(log, "new\n")
    assert list(log.new_lines()) == ["new"]


def test_a_file_that_grew_too_big_is_moved_aside_while_its_process_goes_on(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", max_bytes=100)
    descriptor = log.open()
    os.write(descriptor, b"x" * 101 + b"\n")
    assert log.bound()
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert (tmp_path / "a.log").read_text() == "after\n"
    assert (tmp_path / "a.log.1").stat().st_size == 102
    assert list(log.new_lines()) == ["after"]
    assert not log.bound()


def test_json_lines_become_words_and_others_stay() -> None:
    line = (
        '{"timestamp": "2026-01-02T03:04:05.6Z", "level": "info", "event": "frame_stored", "camera": "gate 1", "n": 3}'
    )
    assert readable(line) == '03:04:05 info    frame_stored camera="gate 1" n=3'
    assert readable("plain [text]") == "plain [text]"
    assert readable('{"no": "event"}') == '{"no": "event"}'
    assert readable("{broken") == "{broken"


def test_warnings_and_worse_are_severe() -> None:
    assert is_severe('{"event": "x", "level": "error"}')
    assert not is_severe('{"event": "an error of speech", "level": "info"}')
    assert is_severe("2026-01-01 WARN something (kafka)")
    assert not is_severe("hello")


def test_the_last_line_of_a_log_is_found(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "a.log", 1 << 20)
    assert log.last_line() == ""
    write(log, "first\nValueError: no\n\n")
    assert log.last_line() == "ValueError: no"
