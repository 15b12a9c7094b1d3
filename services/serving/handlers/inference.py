"""Clients' calls: validated against the version they resolve to, queued, answered, noted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from services.serving.domain.ports import Arrays
from services.serving.domain.routes import RouteTable, Version
from services.serving.domain.tensors import Array, TensorData, check, decoded
from services.serving.errors import BadRequest

RESERVED: str = "triton_"
KNOWN: frozenset[str] = frozenset({"triton_enable_empty_final_response"})


class Notes(Protocol):
    """Takes note of a client's call without slowing it."""

    def note(self, version: Version, outputs: Arrays, arrived_at: datetime, latency_ms: float) -> None:
        """Never blocks and never raises for being full."""


@dataclass(frozen=True, slots=True)
class InferCall:
    """A call in any transport's words."""

    model: str
    version: str
    inputs: Sequence[TensorData]
    outputs: Sequence[str] = ()
    """Those wanted; all when empty."""
    parameters: Sequence[str] = ()
    """Names of the request's parameters."""


@dataclass(frozen=True, slots=True)
class InferAnswer:
    """The answer: the version that gave it, and the wanted outputs in the order asked for."""

    version: Version
    outputs: Sequence[tuple[str, Array]]


class Inference:
    """The one road of all inference calls."""

    def __init__(self, table: Callable[[], RouteTable], notes: Notes, clock: Callable[[], datetime]) -> None:
        self._table = table
        self._notes = notes
        self._clock = clock

    async def infer(self, call: InferCall) -> InferAnswer:
        """Raises `UnknownModel`, `UnknownVersion`, `BadRequest`, `Overloaded`, `InferenceFailed`."""
        started, arrived_at = time.perf_counter(), self._clock()
        version = self._table().resolve(call.model, call.version)
        feed = _feed(version, call)
        wanted = _wanted(version, call.outputs)
        # No await between resolving and queueing: a swap cannot come between.
        outputs = await version.engine.infer(feed)
        self._notes.note(version, outputs, arrived_at, (time.perf_counter() - started) * 1000)
        return InferAnswer(version, [(name, outputs[name]) for name in wanted])


def _feed(version: Version, call: InferCall) -> dict[str, Array]:
    for name in call.parameters:
        if name.startswith(RESERVED) and name not in KNOWN:
            raise BadRequest(
                f"parameter keys starting with 'triton_' are reserved; {name[:64]!r} is unknown", field="parameters"
            )
    specs = {spec.name: spec for spec in version.engine.inputs}
    feed: dict[str, Array] = {}
    for tensor in call.inputs:
        spec = specs.get(tensor.name)
        if spec is None:
            raise BadRequest(
                f"unexpected inference input {tensor.name[:128]!r} for model {call.model!r}", field="inputs"
            )
        if tensor.name in feed:
            raise BadRequest(f"input {tensor.name!r} is given twice", field="inputs")
        check(spec, tensor, version.engine.max_batch > 0)
        if version.engine.max_batch and tensor.shape[0] > version.engine.max_batch:
            raise BadRequest(
                f"inference request batch-size must be <= {version.engine.max_batch} for {call.model!r}", field="inputs"
            )
        feed[tensor.name] = decoded(tensor)
    missing = [name for name in specs if name not in feed]
    if missing:
        raise BadRequest(
            f"expected {len(specs)} inputs but got {len(feed)} inputs for model {call.model!r}: missing {missing}",
            field="inputs",
        )
    return feed


def _wanted(version: Version, asked: Sequence[str]) -> Sequence[str]:
    names = [spec.name for spec in version.engine.outputs]
    for name in asked:
        if name not in names:
            raise BadRequest(f"unexpected inference output {name[:128]!r} for model {version.model!r}", field="outputs")
    return list(dict.fromkeys(asked)) or names
