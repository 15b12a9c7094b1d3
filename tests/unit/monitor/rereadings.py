"""People who answer old assets again, at rates that are known: what a probe would hear of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import numpy as np

from services.monitor.domain.probe import Reading, Rules, read
from services.monitor.domain.probe_events import ProbeVerdict, Reread

SUSPECTED: Final = ("coat", "shirt")
OTHERS: Final = ("boot", "sock")
PEOPLE: Final = ("ann", "ben", "cid")

Rate: TypeAlias = Callable[[str, str], float]
"""How often somebody answers a class otherwise than it was answered before: (annotator, class)."""


def reread(place: int, name: str, who: str, changed: bool) -> Reread:
    """One answer, `place` seconds after the first."""
    now = f"{name}, otherwise" if changed else name
    return Reread(float(place), f"a{place}", "", "m", "p", f"asset-{place}", name, now, "dora", who, 0.1)


def answers(rng: np.random.Generator, rate: Rate, count: int = 30, people: Sequence[str] = PEOPLE) -> list[Reread]:
    """As labeling asks for them: three fifths suspected, in random order, by people at random."""
    about = count - count * 2 // 5
    names = [SUSPECTED[n % 2] if n < about else OTHERS[n % 2] for n in range(count)]
    given = []
    for place, n in enumerate(rng.permutation(count)):
        who = people[int(rng.integers(len(people)))]
        given.append(reread(place, names[n], who, bool(rng.random() < rate(who, names[n]))))
    return given


def watched(given: Sequence[Reread], usual: float, error_rate: float) -> tuple[Reading, int]:
    """The first verdict of somebody who looks after every answer, and after how many; without one, the last word."""
    for count in range(1, len(given) + 1):
        found = read(given[:count], Rules(SUSPECTED, usual, error_rate, complete=count == len(given)))
        if found.verdict is not ProbeVerdict.ASKED:
            break
    return found, count


def swapped(who: str, name: str) -> float:
    """Two classes changed places, and people differ once in twenty."""
    return 0.95 if name in SUSPECTED else 0.05
