"""Which cameras a binding selects, and which bindings are refused."""

from __future__ import annotations

import pytest

from services.serving.domain.bindings import Binding, BindingTable, checked
from services.serving.errors import BadBinding


@pytest.mark.parametrize(
    ("patterns", "camera", "matches"),
    [
        (("gate-1",), "gate-1", True),
        (("gate-1",), "gate-10", False),
        (("gate-?",), "gate-1", True),
        (("gate-?",), "gate-10", False),
        (("*",), "site/hall/gate-1", True),
        (("north/*", "south/*"), "south/gate", True),
        (("a.b",), "aXb", False),
    ],
)
def test_any_pattern_selects(patterns: tuple[str, ...], camera: str, matches: bool) -> None:
    assert Binding("clothes", "champion", patterns).matches(camera, {}) is matches


def test_tags_select_when_a_camera_has_all_of_them() -> None:
    binding = Binding("clothes", "champion", (), {"line": "a", "side": "left"})
    assert binding.matches("any", {"line": "a", "side": "left", "more": "x"})
    assert not binding.matches("any", {"line": "a"})
    assert not binding.matches("any", {})


def test_patterns_or_tags_are_enough() -> None:
    binding = Binding("clothes", "champion", ("gate-1",), {"line": "a"})
    assert binding.matches("gate-1", {})
    assert binding.matches("other", {"line": "a"})
    assert not binding.matches("other", {"line": "b"})


def test_a_table_gives_every_binding_of_a_camera() -> None:
    table = BindingTable(1, (Binding("a", "champion", ("*",)), Binding("b", "champion", ("x",))))
    assert [binding.model for binding in table.bound("gate-1", {})] == ["a"]


@pytest.mark.parametrize(
    "binding",
    [
        Binding("", "champion", ("*",)),
        Binding("clothes", "", ("*",)),
        Binding("clothes", "direct", ("*",)),
        Binding("clothes", "champion"),
        Binding("clothes", "champion", ("gate[1]",)),
        Binding("clothes", "champion", ("",)),
        Binding("clothes", "champion", ("*",) * 257),
        Binding("clothes", "champion", (), {"": "x"}),
    ],
)
def test_a_binding_that_could_never_apply_is_refused(binding: Binding) -> None:
    with pytest.raises(BadBinding):
        checked(binding)
