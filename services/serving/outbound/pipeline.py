"""Ensembles: several models as one, tensors handed on in memory. No thread waits; each answer starts the next steps.

A step that is decoupled answers any number of times; what depends on it runs once for each answer, and so the ensemble
answers any number of times too, as in Triton.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from services.common.errors import IrisloopError
from services.common.telemetry import log
from services.serving.domain.config import EnsembleStep, ModelConfig
from services.serving.domain.ports import Inline
from services.serving.domain.queueing import cancelled
from services.serving.domain.routes import RouteTable, Version
from services.serving.domain.statistics import Execution, Failure, Statistics
from services.serving.domain.tensors import Array
from services.serving.domain.work import Arrays, Asked, Result, Work
from services.serving.errors import InferenceFailed, NotReady, Overloaded, UnknownModel, UnknownVersion, Unloaded
from services.serving.outbound.calling import held, rows_of
from services.serving.outbound.execution import tell

MOST_OPEN: Final = 1024
"""Requests in hand; more are refused."""
ONCE: Final = 0
"""The turn of whatever runs once for a request."""
POLL_S: Final = 0.002


class EnsembleRunner:
    """Implements `Runner`; safe from any thread. Its members are those in force when a request comes."""

    def __init__(self, config: ModelConfig, table: Callable[[], RouteTable], most_open: int = MOST_OPEN) -> None:
        self.statistics: Final = Statistics()
        self._config = config
        self._table = table
        self._most_open = most_open
        self._lock = threading.Lock()
        self._open = 0
        self._closed = False

    @property
    def pending(self) -> int:
        """Requests in hand."""
        return self._open

    def submit(self, work: Work, inline: Inline | None = None) -> None:
        """Begin every step whose inputs are there; never blocks.

        Raises `NotReady` for a member that is missing, `Overloaded`; then the sink is not called.
        """
        work.queued_ns = work.queued_ns or time.perf_counter_ns()
        with ExitStack() as stack:
            members = [self._member(step, stack) for step in self._config.ensemble]
            self._enter()
            flow = Flow(self._config, members, work, self._ended, stack.pop_all())
        flow.begin()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Nothing has to stay open: a request holds its members by itself. Raises `Overloaded` when it is closed."""
        self._require_open()
        yield

    def retire(self) -> None:
        """Nothing to give back."""

    async def close(self) -> None:
        """Take no more requests; return when the last one has ended."""
        self._closed = True
        while self._open:
            await asyncio.sleep(POLL_S)

    def _member(self, step: EnsembleStep, stack: ExitStack) -> Member:
        try:
            return Member(step, held(self._table, step.model, step.version, stack))
        except (UnknownModel, UnknownVersion, NotReady) as error:
            raise NotReady(f"ensemble {self._config.name!r} needs model {step.model!r}: {error}") from error

    def _enter(self) -> None:
        with self._lock:
            self._require_open()
            if self._open >= self._most_open:
                raise Overloaded(
                    f"Exceeds maximum queue size: {self._open} requests are in ensemble {self._config.name!r}; try "
                    "again in a moment."
                )
            self._open += 1

    def _require_open(self) -> None:
        if self._closed:
            raise Unloaded("This version was just unloaded; try again.")

    def _ended(self, outcome: Execution | Failure) -> None:
        with self._lock:
            self._open -= 1
            self.statistics.note([outcome], time.time_ns() // 1_000_000)


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """A step, and the version that runs it."""

    step: EnsembleStep
    version: Version


class StepWork(Work):
    """A step's request: cancelled when the whole is, whenever that happens."""

    __slots__ = ("_flow",)

    def __init__(self, flow: Flow, member: Member, turn: int, inputs: Arrays) -> None:
        """Raises `BadRequest` when the member does not take the inputs."""
        self._flow = flow
        rows = rows_of(member.version.config, inputs)
        super().__init__(inputs, rows, partial(flow.take, member, turn, self), flow.asked())
        self.background = flow.work.background

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the whole any more."""
        return self._flow.over or self._flow.work.cancelled

    @cancelled.setter
    def cancelled(self, value: bool) -> None:
        """Of the whole alone."""


class Flow:
    """One request on its way through the steps."""

    def __init__(
        self,
        config: ModelConfig,
        members: list[Member],
        work: Work,
        ended: Callable[[Execution | Failure], None],
        holds: ExitStack,
    ) -> None:
        """`holds` keeps the members open; it is closed with the flow."""
        self.work: Final = work
        self.over = False
        self._config = config
        self._ended = ended
        self._holds = holds
        self._lock = threading.Lock()
        self._repeated = _repeated(members)
        """Tensors of which there is one a turn."""
        self._tensors: dict[tuple[str, int], Array] = {(name, ONCE): array for name, array in work.inputs.items()}
        self._absent = {tensor.name for tensor in config.inputs} - set(work.inputs)
        """Optional inputs that did not come."""
        self._wanted = [tensor.name for tensor in config.outputs]
        self._members = members
        self._waiting = [(member, ONCE) for member in members if not self._repeats(member)]
        """Steps that did not begin, and in which turn they will."""
        self._running = 0
        self._turns: Counter[Member] = Counter()
        """Answers of decoupled steps so far."""
        self._seen = 0
        """Turns that have begun."""
        self._waited_ns = 0
        """In the queues of the steps."""

    def begin(self) -> None:
        """Start what can start."""
        self.work.started_ns = time.perf_counter_ns()
        self._go_on()

    def asked(self) -> Asked:
        """What a step is asked: what the whole is, less the time that has passed."""
        asked = self.work.asked
        if not asked.timeout_us:
            return asked
        passed_us = (time.perf_counter_ns() - self.work.queued_ns) // 1000
        return replace(asked, timeout_us=max(1, asked.timeout_us - passed_us))

    def _repeats(self, member: Member) -> bool:
        return bool(self._repeated) and not self._repeated.isdisjoint(member.step.inputs.values())

    def _key(self, tensor: str, turn: int) -> tuple[str, int]:
        """Tensors that are made once serve every turn."""
        return tensor, turn if tensor in self._repeated else ONCE

    def _ready(self, member: Member, turn: int) -> bool:
        needed = set(member.step.inputs.values()) - self._absent
        return all(self._key(tensor, turn) in self._tensors for tensor in needed)

    def _go_on(self, *, ended: bool = False) -> None:
        """Start the steps whose inputs have come; end when nothing runs and nothing can."""
        with self._lock:
            if ended:
                self._running -= 1
            ready = [one for one in self._waiting if self._ready(*one)]
            self._waiting = [one for one in self._waiting if one not in ready]
            self._running += len(ready)
            done = not self._running
        for member, turn in ready:
            self._start(member, turn)
        if done:
            self._finish()

    def _start(self, member: Member, turn: int) -> None:
        if self.over:
            return
        with self._lock:
            inputs = {
                name: self._tensors[self._key(tensor, turn)]
                for name, tensor in member.step.inputs.items()
                if tensor not in self._absent
            }
        try:
            if self.work.cancelled:
                raise cancelled()
            work = StepWork(self, member, turn, inputs)
            member.version.runner.submit(work)
        except Exception as error:
            self._end(_of_step(self._config.name, member, error))

    def take(self, member: Member, turn: int, work: StepWork, result: Result, last: bool) -> None:
        """An answer of a step, in the thread that ran it."""
        if last:
            work.sink = _nobody  # it knows the work, and would keep its tensors until the garbage is collected
            with self._lock:
                self._waited_ns += max(0, work.started_ns - work.queued_ns)
        if isinstance(result, Exception):
            self._end(_of_step(self._config.name, member, result))
            return
        answer = self._kept(member, turn, result) if result is not None else None
        if answer is not None and not self._config.decoupled:
            self._end(answer)
            return
        if answer is not None and not self.over:
            tell(self.work, answer, False)
        self._go_on(ended=last)

    def _kept(self, member: Member, turn: int, result: Arrays) -> Arrays | None:
        """Keep the tensors; the answer of the whole, where they complete it."""
        with self._lock:
            if member.version.config.decoupled:
                self._turns[member] += 1
                turn = self._turns[member]
            while self._seen < turn:
                self._seen += 1
                self._waiting += [(one, self._seen) for one in self._members if self._repeats(one)]
            made = {tensor for name, tensor in member.step.outputs.items() if name in result}
            for name, tensor in member.step.outputs.items():
                if name in result:
                    self._tensors[self._key(tensor, turn)] = result[name]
            keys = [self._key(tensor, turn) for tensor in self._wanted]
            if made.isdisjoint(self._wanted) or any(key not in self._tensors for key in keys):
                return None
            answer = dict(zip(self._wanted, (self._tensors[key] for key in keys), strict=True))
            self._forget(turn)
            return answer

    def _forget(self, turn: int) -> None:
        """An answered turn needs its tensors no more."""
        if turn != ONCE and all(waiting != turn for _, waiting in self._waiting):
            self._tensors = {key: array for key, array in self._tensors.items() if key[1] != turn}

    def _finish(self) -> None:
        if self._config.decoupled:
            self._end(None)
            return
        missing = [tensor for tensor in self._wanted if (tensor, ONCE) not in self._tensors]
        self._end(InferenceFailed(f"in ensemble {self._config.name!r}, no step gave tensor {missing[0]!r}"))

    def _end(self, result: Result) -> None:
        with self._lock:
            if self.over:
                return
            self.over = True
        self._holds.close()
        tell(self.work, result, True)
        now, queued = time.perf_counter_ns(), self.work.queued_ns
        if isinstance(result, Exception):
            self._ended(Failure(now - queued))
            return
        began = min(now, queued + self._waited_ns)
        self._ended(Execution(self.work.rows, [queued], began, began, now, now))


def _repeated(members: Sequence[Member]) -> frozenset[str]:
    """Tensors that are made any number of times: those of decoupled steps, and what is made of them."""
    found: set[str] = set()
    grew = any(member.version.config.decoupled for member in members)
    while grew:
        before = len(found)
        for member in members:
            if member.version.config.decoupled or not found.isdisjoint(member.step.inputs.values()):
                found.update(member.step.outputs.values())
        grew = len(found) > before
    return frozenset(found)


def _nobody(result: Result, last: bool) -> None:
    """A `Sink` of what has ended."""


def _of_step(ensemble: str, member: Member, error: Exception) -> Exception:
    """The error with the step's name before it; what may be tried again stays so."""
    where = f"in ensemble {ensemble!r}, model {member.step.model!r}: "
    if isinstance(error, IrisloopError):
        return type(error)(f"{where}{error}", field=error.field, reason=error.reason)
    log.error("ensemble_step_failed", ensemble=ensemble, model=member.step.model, error=repr(error), exc_info=error)
    return InferenceFailed(f"{where}{error}")
