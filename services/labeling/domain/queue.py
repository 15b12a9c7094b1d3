"""In which order open tasks are handed to people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from services.labeling.domain.model import Origin, Task

RANKS: Final = {Origin.REQUEST: 4.0, Origin.DRIFT: 3.0, Origin.UNIFORM: 2.0, Origin.UNCERTAINTY: 1.0}
"""Priority: higher comes first."""
UNIFORM_EVERY: Final = 5
"""One task in so many is a random one even while a request or an incident waits: risk must stay estimated."""
PROBE_EVERY: Final = 3
"""While others wait, one task in so many is an old one that is asked about again: in a row they would show."""


def by_priority(tasks: Mapping[Origin, Sequence[Task]], limit: int, handed: int) -> list[Task]:
    """At most `limit` tasks, from lists that are newest first; `handed` is how many went out before."""
    urgent = [*tasks.get(Origin.REQUEST, ()), *tasks.get(Origin.DRIFT, ())][::-1]
    uniform = list(tasks.get(Origin.UNIFORM, ()))[::-1]
    uncertain = list(tasks.get(Origin.UNCERTAINTY, ()))[::-1]
    again = list(tasks.get(Origin.PROBE, ()))[::-1]
    chosen: list[Task] = []
    while len(chosen) < limit:
        place = handed + len(chosen)
        order = [urgent, uniform, again, uncertain]
        if place % PROBE_EVERY == 0:
            order = [again, *order]
        if place % UNIFORM_EVERY == UNIFORM_EVERY - 1:
            order = [uniform, *order]
        source = next((tasks_left for tasks_left in order if tasks_left), None)
        if source is None:
            break
        chosen.append(source.pop())
    return chosen
