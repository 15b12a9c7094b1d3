"""What the monitor does with what it hears: one judge, whose state is snapshots and whose words are findings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Finding, Input
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.domain.quality.truth import Truth

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said, and the pieces of state that belong to it: they are written in one transaction."""

    findings: Sequence[Finding]
    pieces: Sequence[tuple[str, bytes]]


class Judge:
    """Holds the engine; methods may be called from worker threads, one at a time."""

    def __init__(self, policy: Policy) -> None:
        """Knowing nothing yet."""
        self._policy = policy
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._engine = Engine.new(self._policy)
        self._snapshots = Snapshots()

    def restore(self, pieces: Mapping[str, bytes]) -> None:
        """Take up the state of these pieces, the newest of each key."""
        with self._lock:
            self._begin()
            rebuild(self._engine, pieces)

    def take(self, items: Iterable[tuple[str, bool, Input]], truths: Iterable[Truth] = ()) -> Judgement:
        """Judge more inputs: (partition, whether it holds others back, input); count the labels among them."""
        with self._lock:
            self._engine.learn(truths)
            return Judgement(self._engine.feed(items), self._snapshots.changed(self._engine))

    def rest(self) -> Judgement:
        """Nothing has arrived for a while: judge what waits for slower partitions. Without pieces there was nothing."""
        with self._lock:
            if not self._engine.merger.waiting:
                return Judgement((), ())
            return Judgement(self._engine.drain(), self._snapshots.changed(self._engine))

    def look(self, view: Callable[[Engine], T]) -> T:
        """Read the state; `view` must not keep or change it."""
        with self._lock:
            return view(self._engine)
