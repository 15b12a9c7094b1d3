"""Whether two cameras changed alike: the directions in which their channels moved, channel by channel name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import TypeAlias

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.events import State

Direction: TypeAlias = dict[str, float]

_RECENT = 6  # blocks


def direction(camera: CameraWatch) -> Direction:
    """The recent mean shift of each channel that is half way to its alarm, in the block's deviations, length 1."""
    if camera.reference is None or camera.bank is None or not camera.trace.means:
        return {}
    shift = camera.trace.matrix()[-_RECENT:].mean(axis=0)
    moved = camera.bank.statistic() >= camera.bank.threshold() / 2.0
    names = camera.reference.names
    return _unit({names[i]: float(shift[i]) for i in range(len(names)) if moved[i]})


def together(directions: Iterable[Direction]) -> Direction:
    """The mean direction, length 1."""
    total: Direction = {}
    for one in directions:
        for name, value in one.items():
            total[name] = total.get(name, 0.0) + value
    return _unit(total)


def cosine(one: Direction, other: Direction) -> float:
    """Of the angle between two directions, -1..1; 0 when either is unknown."""
    return sum(value * other.get(name, 0.0) for name, value in one.items())


def movers(watched: Sequence[CameraWatch], changed: Sequence[CameraWatch], least: float) -> list[CameraWatch]:
    """Those of `watched` that move as the `changed` cameras did: in WARN or beyond, at a cosine of `least` or more.
    What stirs in a way of its own, by chance or for another reason, is no part of the change.
    """
    way = together(direction(camera) for camera in changed)
    return [c for c in watched if c.state >= State.WARN and cosine(direction(c), way) >= least]


def _unit(values: Direction) -> Direction:
    length = sqrt(sum(v * v for v in values.values()))
    return {name: v / length for name, v in values.items()} if length > 0.0 else {}
