"""What holds for every test: settings come from the test and not from the shell, and generated examples repeat."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

OF_THE_MACHINE = ("IRISLOOP_LOCAL__", "IRISLOOP_DATA")
"""Where this machine keeps or gets its downloads; everything else that starts with IRISLOOP_ is forgotten."""


def pytest_configure(config: pytest.Config) -> None:
    """Forget the developer's own deployment before the first module is imported."""
    for name in [name for name in os.environ if name.startswith("IRISLOOP_") and not name.startswith(OF_THE_MACHINE)]:
        del os.environ[name]
    settings.register_profile("irisloop", derandomize=True, deadline=None, database=None)
    settings.load_profile("irisloop")
