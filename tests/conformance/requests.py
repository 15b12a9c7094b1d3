"""Every request of the conformance suite, in the order in which they are sent."""

from __future__ import annotations

from typing import Final

from tests.conformance.cases import Case
from tests.conformance.table.control import CONTROL
from tests.conformance.table.good import GOOD
from tests.conformance.table.memory import MEMORY
from tests.conformance.table.metadata import METADATA
from tests.conformance.table.nonfinite import NONFINITE
from tests.conformance.table.refused_grpc import REFUSED_GRPC
from tests.conformance.table.refused_http import REFUSED_HTTP
from tests.conformance.table.streams import STREAMS

REQUESTS: Final[tuple[Case, ...]] = (
    *(*METADATA, *GOOD, *NONFINITE),
    *(*REFUSED_GRPC, *REFUSED_HTTP),
    *(*STREAMS, *MEMORY, *CONTROL),
)


def by_name() -> dict[str, Case]:
    """Raises `ValueError` when two have one name."""
    found = {one.name: one for one in REQUESTS}
    if len(found) != len(REQUESTS):
        names = [one.name for one in REQUESTS]
        raise ValueError(f"more than one request is called {sorted({name for name in names if names.count(name) > 1})}")
    return found
