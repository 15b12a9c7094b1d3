"""Each target for half a minute; `make fuzz` gives them longer."""

from __future__ import annotations

import pytest

from tests.fuzz.__main__ import TARGETS

SECONDS = 30.0
LEAST = 100
"""Inputs: fewer try nothing."""


# protobuf's text parser leaves odd escapes to Python, which warns of them and reads on.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", list(TARGETS))
def test_nothing_but_clean_refusals_comes_out(name: str) -> None:
    assert TARGETS[name](SECONDS) > LEAST
