"""A model that is Python code: `model.py` in its version folder, run in this process on threads of its own.

It defines `load(context)`, which returns a callable, or that callable itself under the name `infer`:

    def load(context):                       # once for each instance
        table = np.load(context.folder / "table.npy")
        def infer(inputs):                   # {name: array}; several requests joined along the batch
            scores = context.infer("embedder", {"image": inputs["image"]})["embedding"]
            return {"scores": scores @ table}
        return infer

`infer(inputs)` is given joined requests; `infer(inputs, parameters)` gets them one by one, each with its own
parameters. A decoupled model yields any number of answers. An object with a method `close` is closed with the version.
A `model.py` with Triton's class `TritonPythonModel` runs too: see `services.serving.outbound.backends.triton_model`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.ports import Ran
from services.serving.domain.tensors import Array
from services.serving.domain.work import PLAIN, Arrays, Asked
from services.serving.errors import BadPackage, InferenceFailed
from services.serving.outbound.backends.modules import ModelModule
from services.serving.outbound.backends.outputs import checked_outputs, failures, finalize, lent, objects_of
from services.serving.outbound.calling import PATIENCE_S, Calls

LOAD: Final = "load"
INFER: Final = "infer"


@dataclass(frozen=True, slots=True)
class Context:
    """What a model's `load` is given."""

    model: str
    version: int
    folder: Path
    """The version's folder, where model.py lies."""
    parameters: Mapping[str, str]
    """Those of config.pbtxt."""
    instance: int
    """From 0; with `instance_group { count: N }` there are N, each called by one thread at a time."""
    calls: Calls

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        version: str = "",
        outputs: Sequence[str] = (),
        timeout_s: float = PATIENCE_S,
    ) -> dict[str, Array]:
        """Another model's outputs by name; its version in force unless one is named.

        Raises `UnknownModel`, `NotReady`, `BadRequest`, `Overloaded`, `InferenceFailed`.
        """
        return self.calls.infer(model, inputs, version, outputs, PLAIN, timeout_s)

    def stream(
        self,
        model: str,
        inputs: Mapping[str, Any],
        version: str = "",
        outputs: Sequence[str] = (),
        timeout_s: float = PATIENCE_S,
    ) -> Iterator[dict[str, Array]]:
        """The answers of a decoupled model, each as it comes."""
        return self.calls.stream(model, inputs, version, outputs, PLAIN, timeout_s)


class PythonBackend:
    """Implements `Backend`. The file runs once for a version; `load` once for each instance, so that what it returns is
    called by one thread at a time and may keep state. What instances are to share belongs to the module.
    """

    blocking: Final = True
    placement: Final = "python"

    def __init__(self, config: ModelConfig, code: ModelModule, folder: Path, version: int, calls: Calls) -> None:
        """Raises `BadPackage` when `load` fails or returns nothing that can be called."""
        self._config = config
        self._code = code
        self._folder = folder
        made = [
            self._made(Context(config.name, version, folder, config.parameters, number, calls))
            for number in range(objects_of(config))
        ]
        self.joins: Final = not any(map(_wants_parameters, made))
        self._objects: list[Any] = made
        self._free: SimpleQueue[Any] = SimpleQueue()
        for one in made:
            self._free.put(one)

    def run(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        """Raises `InferenceFailed` with the last line of the code's traceback; the log has all of it."""
        with lent(self._free, self._objects) as one, failures(self._config.name, self._folder):
            found = one(dict(inputs)) if self.joins else one(dict(inputs), dict(asked.parameters or {}))
            if self._config.decoupled:
                yield from self._streamed(found)
            else:
                yield self._checked(found, _rows(self._config, inputs)), True

    def close(self) -> None:
        """Close every object, and forget the code."""
        for one in self._objects:
            finalize(self._config.name, getattr(one, "close", None))
        self._objects = []
        self._free = SimpleQueue()
        self._code.close()

    def _made(self, context: Context) -> Callable[..., Any]:
        load = getattr(self._code.module, LOAD, None)
        if load is None:
            return self._callable(getattr(self._code.module, INFER, None), INFER)
        with self._code.importing():
            return self._callable(load(context), f"{LOAD}(context)")

    def _callable(self, found: Any, origin: str) -> Callable[..., Any]:
        if not callable(found):
            raise BadPackage(f"{origin} of model {self._config.name!r} gives {type(found).__name__}, not a callable.")
        return found  # type: ignore[no-any-return]  # the model's own code

    def _streamed(self, found: Any) -> Iterator[Ran]:
        if isinstance(found, Mapping) or not hasattr(found, "__iter__"):
            raise InferenceFailed(f"Model {self._config.name!r} is decoupled: it must yield its answers.")
        with ExitStack() as stack:
            if hasattr(found, "close"):
                stack.enter_context(closing(found))
            for outputs in found:
                yield self._checked(outputs, None), False

    def _checked(self, outputs: Any, rows: int | None) -> Arrays:
        config = self._config
        if not isinstance(outputs, Mapping):
            hint = "; to yield several answers, it must be decoupled" if hasattr(outputs, "__next__") else ""
            raise InferenceFailed(
                f"Model {config.name!r} gave {type(outputs).__name__}; a mapping of output names to arrays is "
                f"expected{hint}."
            )
        unknown = [name for name in outputs if config.output(name) is None]
        if unknown:
            raise InferenceFailed(
                f"Model {config.name!r} gave output {str(unknown[0])[:128]!r}; "
                f"{', '.join(repr(tensor.name) for tensor in config.outputs)} are declared."
            )
        found = checked_outputs(config, outputs)
        for tensor in config.outputs:
            _check_shape(config, tensor, found[tensor.name].shape, rows)
        return found


def _check_shape(config: ModelConfig, tensor: TensorConfig, shape: tuple[int, ...], rows: int | None) -> None:
    """`rows`: of the request; None where an answer may have any number, as those of decoupled models."""
    lead = ((-1 if rows is None else rows),) if config.max_batch_size else ()
    expected = lead + (tensor.dims if tensor.reshape is None else tensor.reshape)
    if len(shape) != len(expected) or any(dim not in (-1, size) for dim, size in zip(expected, shape, strict=True)):
        raise InferenceFailed(
            f"Model {config.name!r} gave output {tensor.name!r} of the shape {list(shape)}; {list(expected)} is "
            f"declared{', the first being the batch' if lead else ''}."
        )


def _rows(config: ModelConfig, inputs: Arrays) -> int | None:
    if not config.max_batch_size:
        return None
    return next((array.shape[0] for array in inputs.values()), None)


def _wants_parameters(function: Callable[..., Any]) -> bool:
    """Whether it takes a second argument."""
    try:
        inspect.signature(function).bind({}, {})
    except (TypeError, ValueError):
        return False
    return True
