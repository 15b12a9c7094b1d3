"""No table of the benchmarks can be won by a policy that never looks."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.monitor import concepts
from tests.bench.monitor.unlooking import OURS, POLICIES, Line, fleet_lines, lines, report

TABLES = ("cameras", "labels", "concepts", "fleet")


def rows() -> list[dict[str, Any]]:
    """River's slowest fastest in the docs: 547 labels; ours a little sooner."""
    return [
        {"stream": name, "delays": {concepts.OURS: [200, 210, 190] * 7, "ADWIN": [547, 560, 540] * 7}}
        for name in concepts.STREAMS
    ]


@pytest.fixture(scope="module")
def found() -> list[Line]:
    return lines({}, {"concepts": rows(), "harmless": {"seeds": 22, "asked": 1}}, {})


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("who", [one.name for one in POLICIES])
def test_each_fails_a_line_of_each_table(found: list[Line], table: str, who: str) -> None:
    of_table = [line for line in found if line.table == table]
    assert of_table
    assert not all(line.reached(who) for line in of_table)


@pytest.mark.parametrize("who", ["never", "always"])
def test_each_of_two_passes_a_line_too_so_that_it_takes_both_kinds_of_line(found: list[Line], who: str) -> None:
    for table in ("cameras", "labels", "concepts"):
        assert any(line.reached(who) for line in found if line.table == table)


def test_what_was_measured_of_ours_stands_beside_them(found: list[Line]) -> None:
    said = {line.what: line for line in found if line.table == "concepts"}
    assert [line.reached(OURS) for line in said.values()] == [True, True]
    assert [line.values[OURS] for line in said.values()] == [7, pytest.approx(21 / 22)]
    assert "not measured" in report(fleet_lines({}))
    assert "| concepts | of 7 as fast as the fastest of River's | >= 5 | 7 |" in report(found)


def test_a_change_that_is_not_found_reaches_no_aim() -> None:
    line = Line("t", "delay", 40.0, {"never": None, "ours": 39.0, "late": 41.0})
    assert [line.reached(who) for who in ("never", "ours", "late", "nobody")] == [False, True, False, False]
