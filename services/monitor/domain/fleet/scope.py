"""What the touched have in common: the segment in whose terms it is shortest to say who is touched and who is not.

A two-part code (Rissanen, Automatica 1978): to name a segment costs the logarithm of how many there are, and to say
which of n are touched costs log(n + 1) for how many and log C(n, k) for which ones. A segment that is full of touched
ones, with none outside, costs little; one that explains nothing costs more than no segment at all. Nothing is tuned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import lgamma, log
from typing import TypeAlias

from services.monitor.domain.events import Scope

Labels: TypeAlias = Mapping[str, str]

_TRUSTED = 2  # A segment of fewer is no segment: it says no more than the one's own name.


def explain(items: Sequence[tuple[Labels, bool]], least: float = 0.0) -> Scope | None:
    """The segment that explains best which of `items` (labels by name, whether touched) are touched; None when no
    segment says it shorter than a plain list, by `least` nats: chance gains x nats with a probability of exp(-x) at
    most. Of segments that say it equally well, the smallest.
    """
    counts: dict[tuple[str, str], list[int]] = {}
    for labels, touched in items:
        for pair in labels.items():
            count = counts.setdefault(pair, [0, 0])
            count[0] += 1
            count[1] += touched
    total, touched_all = len(items), sum(touched for _, touched in items)
    found = [
        (price, inside, kind, value)
        for (kind, value), (inside, hit) in counts.items()
        if _TRUSTED <= inside < total
        and hit * (total - inside) > (touched_all - hit) * inside  # denser inside than outside
        and (price := log(len(counts)) + _price(inside, hit) + _price(total - inside, touched_all - hit))
        < _price(total, touched_all) - least
    ]
    if not found:
        return None
    _, inside, kind, value = min(found, key=lambda f: (round(f[0], 9), *f[1:]))
    hit = counts[kind, value][1]
    return Scope(kind, value, inside, hit, total - inside, touched_all - hit)


def _price(n: int, k: int) -> float:
    """Nats to say how many of n are touched, and which."""
    return log(n + 1) + lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def of_cameras(touched: Sequence[str], watched: Mapping[str, Labels]) -> Scope:
    """The scope of an incident of these cameras (at least one) among all that are watched, by their labels."""
    names = sorted(touched)
    hit = set(names)
    inside = sum(1 for name in watched if name in hit)
    found = explain([(labels, name in hit) for name, labels in watched.items()]) if len(names) > 1 else None
    if found is not None:
        return found
    if len(names) > 1 and inside == len(watched):
        return Scope("model", "", inside, inside, 0, 0)
    kind = "camera" if len(names) == 1 else "cameras"
    return Scope(kind, ", ".join(names), inside, inside, len(watched) - inside, 0)


def quarter(at: float) -> str:
    """Which quarter of the day, in UTC, an event time lies in."""
    begin = int(at % 86_400.0 // 21_600.0) * 6
    return f"{begin:02d}-{begin + 6:02d} UTC"
