"""Each target for half a minute; `make fuzz` gives them longer."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fuzz.__main__ import TARGETS

SECONDS = 30
LEAST = 100
"""Inputs: fewer try nothing."""


@pytest.mark.parametrize("name", list(TARGETS))
def test_nothing_but_clean_refusals_comes_out(name: str) -> None:
    """In a process of its own, as `make fuzz` has it: what other tests left behind is none of its memory."""
    command = [sys.executable, "-m", "tests.fuzz", name, str(SECONDS)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split(f"{name}: ")[-1].split()[0]) > LEAST
