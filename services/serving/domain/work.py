"""One request on its way through a model: what it brings, what it asks of the scheduler, and who hears the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from numpy.typing import NDArray

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Result: TypeAlias = Arrays | Exception | None
"""Outputs by name; an error; or None where a decoupled request ends without one more answer."""
Sink: TypeAlias = Callable[[Result, bool], None]
"""Called with each result and whether it is the last; from any thread; it must not block."""


@dataclass(frozen=True, slots=True)
class SequenceMark:
    """Where a request stands in its sequence."""

    id: int | str
    """Correlation id; 0 and "" stand for none."""
    start: bool = False
    end: bool = False


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks of the scheduler."""

    priority: int = 0
    """1 is first; 0 the model's default."""
    timeout_us: int = 0
    """0: the model's default."""
    sequence: SequenceMark | None = None
    parameters: Mapping[str, Any] | None = None
    """All parameters of the request, for backends that look at them."""


PLAIN: Final = Asked()


class Work:
    """A request that waits or runs; `cancelled` may be set at any time, and is looked at before it runs."""

    __slots__ = ("asked", "background", "cancelled", "expires_ns", "inputs", "queued_ns", "rows", "sink", "started_ns")

    def __init__(
        self,
        inputs: Arrays,
        rows: int,
        sink: Sink,
        asked: Asked = PLAIN,
        *,
        background: bool = False,
        queued_ns: int = 0,
    ) -> None:
        """`rows`: images in it, 1 when there is no batch dimension. `background`: after all calls of clients.
        `queued_ns`: since when it has waited, by the queue's clock; 0: since it is pushed.
        """
        self.inputs = inputs
        self.rows = rows
        self.sink = sink
        self.asked = asked
        self.background = background
        self.cancelled = False
        self.queued_ns = queued_ns
        self.started_ns = 0
        self.expires_ns = 0


def fits(work: Work, first: Work) -> bool:
    """Whether two requests may run as one: the same inputs, of the same shapes beyond the batch."""
    if len(work.inputs) != len(first.inputs):
        return False
    for name, array in work.inputs.items():
        other = first.inputs.get(name)
        if other is None or array.shape[1:] != other.shape[1:]:
            return False
    return True


def fail(works: Sequence[Work], error: Exception) -> None:
    """End all of them with one error."""
    for work in works:
        work.sink(error, True)
