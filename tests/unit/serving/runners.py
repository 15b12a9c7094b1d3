"""Backends and sinks for tests of what runs models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.serving.domain.config import DynamicBatching, ModelConfig, TensorConfig
from services.serving.domain.ports import Ran
from services.serving.domain.work import PLAIN, Arrays, Asked, Result, Work
from tests.waiting import PATIENCE_S


def config_of(name: str = "m", max_batch: int = 8, **fields: Any) -> ModelConfig:
    """FP32 x [n, 2] to FP32 y [n, 2]."""
    fields.setdefault("dynamic_batching", DynamicBatching() if max_batch else None)
    tensors = (TensorConfig("x", "FP32", (2,)),), (TensorConfig("y", "FP32", (2,)),)
    return ModelConfig(
        name, "onnxruntime", max_batch, fields.pop("inputs", tensors[0]), fields.pop("outputs", tensors[1]), **fields
    )


def feed(*rows: float) -> Arrays:
    """x of so many rows."""
    return {"x": np.array([[value, value] for value in rows], np.float32)}


class Heard:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.last = threading.Event()
        self.threads: list[str] = []

    def take(self, result: Result, last: bool) -> None:
        assert not self.last.is_set(), "a request was answered after its last answer"
        self.threads.append(threading.current_thread().name)
        self.results.append(result)
        if last:
            self.last.set()

    def only(self) -> Any:
        """The one result, once it is there."""
        assert self.last.wait(PATIENCE_S)
        (result,) = self.results
        return result

    def values(self, name: str = "y") -> list[float]:
        """The first column of the one answer."""
        result = self.only()
        assert not isinstance(result, Exception), repr(result)
        return [float(row[0]) for row in result[name]]

    def work(self, inputs: Arrays, rows: int = 1, asked: Asked = PLAIN, *, background: bool = False) -> Work:
        """A request that answers here."""
        return Work(inputs, rows, self.take, asked, background=background)


@dataclass
class Doubling:
    """y = 2 x. Runs only while its gate is open; remembers what it ran and whether it was closed."""

    blocking: bool = False
    joins: bool = True
    placement: str = "test"
    gate: threading.Event = field(default_factory=threading.Event)
    batches: list[list[float]] = field(default_factory=list)
    closed: int = 0
    running: int = 0
    most_running: int = 0
    threads: set[str] = field(default_factory=set)
    failing: Callable[[Arrays], Exception | None] = lambda inputs: None
    answers: Sequence[float] | None = None
    """Of a decoupled model: an answer for each factor."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        assert not self.closed
        with self.lock:
            self.batches.append([float(row[0]) for row in inputs["x"]])
            self.threads.add(threading.current_thread().name)
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            assert self.gate.wait(PATIENCE_S)
            error = self.failing(inputs)
            if error is not None:
                raise error
            if self.answers is None:
                yield {"y": inputs["x"] * 2}, True
            for factor in self.answers or ():
                yield {"y": inputs["x"] * factor}, False
        finally:
            with self.lock:
                self.running -= 1

    def close(self) -> None:
        assert not self.running
        self.closed += 1


def opened(**fields: Any) -> Doubling:
    """One whose gate is open."""
    found = Doubling(**fields)
    found.gate.set()
    return found
