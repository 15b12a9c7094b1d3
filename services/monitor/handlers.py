"""What the monitor does with what it hears: one judge, whose state is snapshots and whose words are findings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Finding
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.domain.ticks import Arrival, Tick

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be said, the pieces of state that belong to it, and where to go on reading: one transaction.

    Without pieces nothing was judged, and nothing has to be written. `unread` has the next offset of each source;
    `tick`, the offset of the first tick that has not taken effect, None where none waits.
    """

    findings: Sequence[Finding]
    pieces: Sequence[tuple[str, bytes]]
    proposed: Tick | None = None
    unread: Mapping[str, int] = field(default_factory=dict)
    tick: int | None = None


class Judge:
    """Holds the engine; methods may be called from worker threads, one at a time."""

    def __init__(self, policy: Policy, ticks: bool = True) -> None:
        """Knowing nothing yet; with `ticks` it says itself when it is time to judge."""
        self._policy = policy
        self._ticks = ticks
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

    def take(self, arrivals: Sequence[Arrival], ticks: Sequence[tuple[int, Tick]] = ()) -> Judgement:
        """Take more records, and ticks with their offsets; judge what may be judged by now."""
        with self._lock:
            self._engine.hear(arrivals, ticks)
            return self._judged(everything=False)

    def rest(self) -> Judgement:
        """Nothing has arrived for a while: judge what waits for slower partitions, if ticks are ours to say."""
        with self._lock:
            return self._judged(everything=True)

    def _judged(self, everything: bool) -> Judgement:
        engine = self._engine
        held = engine.drain() if engine.merger.waiting else None  # a state of codec 1 had them
        findings = engine.advance()
        proposed = engine.propose(everything) if self._ticks else None
        if proposed is not None:
            engine.gate.tick(-1, proposed)
            findings = [*(findings or ()), *(engine.advance() or ())]
        if held is None and findings is None:
            return Judgement((), ())
        pieces = self._snapshots.changed(engine)
        pending = engine.gate.pending
        first = pending[0][0] if pending else None
        return Judgement([*(held or ()), *(findings or ())], pieces, proposed, engine.gate.unread(), first)

    def look(self, view: Callable[[Engine], T]) -> T:
        """Read the state; `view` must not keep or change it."""
        with self._lock:
            return view(self._engine)
