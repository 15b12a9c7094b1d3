"""A long measurement is kept piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.bench.monitor import null, runs
from tests.bench.monitor.streams import QUIET

calls: list[int] = []


def square(number: int) -> int:
    calls.append(number)
    if number < 0:
        raise ValueError("broken off")
    return number * number


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(runs, "FOLDER", tmp_path)
    calls.clear()
    return tmp_path / "runs"


def pieces(*numbers: int) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    return {str(n): (square, (n,)) for n in numbers}


def test_a_run_that_is_broken_off_goes_on_and_a_longer_one_adds_to_it(folder: Path) -> None:
    with pytest.raises(ValueError, match="broken off"):
        runs.gather("part", "code", pieces(2, -1, 3), 1)
    assert calls == [2, -1]
    assert runs.gather("part", "code", pieces(2, 3), 1) == {"2": 4, "3": 9}
    assert calls == [2, -1, 3]
    assert runs.gather("part", "code", pieces(2, 3, 4), 1) == {"2": 4, "3": 9, "4": 16}
    assert calls == [2, -1, 3, 4]
    assert set(json.loads((folder / "part-code.json").read_text())) == {"pieces", "commit"}


def test_pieces_of_other_code_do_not_count() -> None:
    runs.gather("part", "code", pieces(2), 1)
    runs.gather("part", "other", pieces(2), 1)
    assert calls == [2, 2]
    assert len(runs.judge()) == 12
    assert runs.judge() == runs.judge()


def test_two_processes_find_what_one_does() -> None:
    assert runs.gather("part", "two", pieces(5, 6, 7), 2) == runs.gather("part", "one", pieces(5, 6, 7), 1)


def test_scenes_add_up_to_the_frames_that_were_wanted_and_more_frames_keep_the_first() -> None:
    few, more = (null.pieces(QUIET[0], frames, 0) for frames in (250_000, 1_000_000))
    assert len(few) == 2
    assert len(more) == 10
    assert few.keys() <= more.keys()
    (short,) = null.pieces(QUIET[0], 2_000, 7)
    found = runs.gather("null", "test", null.pieces(QUIET[0], 2_000, 7), 1)[short]
    assert found["frames"] == 2_000
    assert null.together("i.i.d.", [found, found])["frames"] == 4_000
