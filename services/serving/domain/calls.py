"""A call for inference and its answer, in the words of no transport.

Nobody changes what is here once it is made. It is not frozen: each call makes eight of them, and frozen ones take four
times as long to make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from services.serving.domain.routes import Version
from services.serving.domain.tensors import Array, Region, TensorData


@dataclass(slots=True)
class WantedOutput:
    """An output that the caller names."""

    name: str
    class_count: int = 0
    """The best so many classes as text instead of the numbers; 0: the numbers."""
    region: Region | None = None
    """Where the bytes are to be put; None: into the answer."""
    binary: bool = False
    """Of HTTP: raw bytes behind the JSON."""


@dataclass(slots=True)
class InferCall:
    """One request. `parameters` hold what the protocol reserves (priority, timeout, sequence_*) and anything else."""

    model: str
    version: str
    """ "" for the model's default."""
    inputs: Sequence[TensorData]
    outputs: Sequence[WantedOutput] = ()
    """All when empty."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""
    key: str = ""
    """What keeps a caller on one arm of a canary: a camera, the header `irisloop-key`, else the request's id."""
    traceparent: str = ""
    binary: bool = False
    """Of HTTP: outputs that are not named come as raw bytes."""
    taken_ns: int = 0
    """When it was taken off the wire, by `time.perf_counter_ns`: it has been queued since then; 0: from now on."""


@dataclass(slots=True)
class AnsweredOutput:
    """One output of an answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Array
    region: Region | None = None
    """Where its bytes were put; then they are not in the answer."""
    binary: bool = False


@dataclass(slots=True)
class InferAnswer:
    """The answer, and the version that gave it."""

    version: Version
    id: str
    outputs: Sequence[AnsweredOutput]
    parameters: Mapping[str, Any] = field(default_factory=dict)


Reply: TypeAlias = Callable[[InferAnswer | Exception | None, bool], None]
"""Called with each answer, an error, or None where a decoupled request just ends; and whether it is the last.

From any thread; it must not block.
"""
