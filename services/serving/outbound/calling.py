"""Calls from a model's own code to other models: through the routes in force, and checked as clients' calls are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from queue import Empty, SimpleQueue
from typing import Any, Final

import numpy as np

from services.common.errors import NotFound
from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.routes import RouteTable, Version
from services.serving.domain.tensors import DTYPES, Array
from services.serving.domain.work import PLAIN, Arrays, Asked, Result, Work
from services.serving.errors import BadRequest, InferenceFailed, Overloaded

PATIENCE_S: Final = 300.0
"""How long an answer is waited for, so that models that call each other in a circle do not wait for ever."""


class Calls:
    """Runs other models for code in this process; it blocks, so it is for threads of blocking backends alone."""

    def __init__(self, table: Callable[[], RouteTable], caller: tuple[str, str] = ("", "")) -> None:
        """`caller`: the model and version that calls."""
        self._table = table
        self._caller = caller

    def made_by(self, model: str, version: int) -> Calls:
        """The same for a model's code: what would wait for itself is refused."""
        return Calls(self._table, (model, str(version)))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        version: str = "",
        outputs: Sequence[str] = (),
        asked: Asked = PLAIN,
        timeout_s: float = PATIENCE_S,
    ) -> dict[str, Array]:
        """The outputs by name, all when none are named.

        Raises `UnknownModel`, `UnknownVersion`, `NotReady`, `BadRequest`, `Overloaded`, `InferenceFailed`.
        """
        with self._resolved(model, version) as found:
            if found.config.decoupled:
                raise BadRequest(f"model {model!r} is decoupled: it may give any number of answers; call stream()")
            for answer in self._answers(found, inputs, outputs, asked, timeout_s):
                return answer
        raise InferenceFailed(f"Model {model!r} gave no answer.")

    def stream(
        self,
        model: str,
        inputs: Mapping[str, Any],
        version: str = "",
        outputs: Sequence[str] = (),
        asked: Asked = PLAIN,
        timeout_s: float = PATIENCE_S,
    ) -> Iterator[dict[str, Array]]:
        """Each answer as it comes, of decoupled models too; closing the iterator cancels. Raises as `infer` does."""
        with self._resolved(model, version) as found:
            yield from self._answers(found, inputs, outputs, asked, timeout_s)

    def ready(self, model: str, version: str = "") -> bool:
        """Whether it would be found now."""
        try:
            self._table().resolve(model, version)
        except (NotFound, BadRequest):
            return False
        return True

    @contextmanager
    def _resolved(self, model: str, version: str) -> Iterator[Version]:
        with ExitStack() as stack:
            found = held(self._table, model, version, stack)
            if (found.model, found.name) == self._caller and found.config.instances == 1:
                raise InferenceFailed(f"Model {model!r} calls itself, and its only instance would wait for itself.")
            yield found

    def _answers(
        self, version: Version, inputs: Mapping[str, Any], outputs: Sequence[str], asked: Asked, timeout_s: float
    ) -> Iterator[dict[str, Array]]:
        wanted = _wanted(version.config, outputs)
        feed = {name: _array(value) for name, value in inputs.items()}
        heard: SimpleQueue[tuple[Result, bool]] = SimpleQueue()
        work = Work(feed, rows_of(version.config, feed), lambda result, last: heard.put((result, last)), asked)
        version.runner.submit(work)
        try:
            yield from _heard(version.model, heard, wanted, timeout_s)
        finally:
            work.cancelled = True  # where it has ended, nobody looks


def held(table: Callable[[], RouteTable], model: str, version: str, stack: ExitStack) -> Version:
    """The version, kept open until the stack ends; one that closes between look-up and hold is looked up again.

    Raises `UnknownModel`, `UnknownVersion`, `NotReady`, `BadRequest`.
    """
    found = table().resolve(model, version)
    try:
        stack.enter_context(found.runner.hold())
    except Overloaded:
        found = table().resolve(model, version)
        stack.enter_context(found.runner.hold())
    return found


def _heard(
    model: str, heard: SimpleQueue[tuple[Result, bool]], wanted: Sequence[str], timeout_s: float
) -> Iterator[dict[str, Array]]:
    last = False
    while not last:
        try:
            result, last = heard.get(timeout=timeout_s)
        except Empty:
            raise InferenceFailed(f"Model {model!r} gave no answer within {timeout_s:g} s.") from None
        if isinstance(result, Exception):
            raise result
        if result is not None:
            yield {name: result[name] for name in wanted}


def _array(value: Any) -> Array:
    """Text as objects, as it comes from clients."""
    array = np.asarray(value)
    return array.astype(np.object_) if array.dtype.kind in "SU" else array


def _wanted(config: ModelConfig, outputs: Sequence[str]) -> list[str]:
    for name in outputs:
        if config.output(name) is None:
            raise BadRequest(f"unexpected inference output {name[:128]!r} for model {config.name!r}", field="outputs")
    return list(outputs) or [tensor.name for tensor in config.outputs]


def rows_of(config: ModelConfig, feed: Arrays) -> int:
    """How many items the tensors hold, after a look at whether the model takes them. Raises `BadRequest`."""
    for name, array in feed.items():
        tensor = config.input(name)
        if tensor is None:
            raise BadRequest(f"unexpected inference input {name[:128]!r} for model {config.name!r}", field="inputs")
        _check(config, tensor, array)
    missing = [tensor.name for tensor in config.inputs if not tensor.optional and tensor.name not in feed]
    if missing:
        raise BadRequest(f"input {missing[0]!r} of model {config.name!r} is missing", field="inputs")
    if not config.max_batch_size:
        return 1
    rows = {int(array.shape[0]) for array in feed.values()}
    if len(rows) != 1:
        raise BadRequest(f"the inputs of model {config.name!r} have batches of {sorted(rows)}", field="inputs")
    (count,) = rows
    if not 1 <= count <= config.max_batch_size:
        raise BadRequest(
            f"inference request batch-size must be <= {config.max_batch_size} for {config.name!r}, got {count}",
            field="inputs",
        )
    return count


def _check(config: ModelConfig, tensor: TensorConfig, array: Array) -> None:
    field = f"inputs.{tensor.name}"
    wanted = np.dtype(DTYPES[tensor.datatype])
    if array.dtype.kind not in "OSU" if tensor.datatype == "BYTES" else array.dtype != wanted:
        raise BadRequest(
            f"input {tensor.name!r} of model {config.name!r} is {array.dtype}; {tensor.datatype} is expected",
            field=field,
        )
    dims = ((-1,) if config.max_batch_size else ()) + tensor.dims
    if len(array.shape) != len(dims) or any(dim not in (-1, size) for dim, size in zip(dims, array.shape, strict=True)):
        raise BadRequest(
            f"unexpected shape for input {tensor.name!r} for model {config.name!r}. Expected "
            f"[{','.join(map(str, dims))}], got [{','.join(map(str, array.shape))}]",
            field=field,
        )
