"""What a module's tests leave to the garbage collector is collected before the next module's run."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def leftovers() -> Iterator[None]:
    """aiokafka may make a connection while its client is being closed, and nobody closes that one: it is collected
    here, before a test of another module is blamed for it.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
