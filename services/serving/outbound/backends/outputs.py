"""What both forms of Python models share: objects lent to threads, errors as sentences, outputs as declared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from services.common.errors import IrisloopError, Transient
from services.common.telemetry import log
from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.tensors import DTYPES, Array
from services.serving.errors import InferenceFailed
from services.serving.outbound.backends.modules import last_line, place_of


def objects_of(config: ModelConfig) -> int:
    """One object an instance; a single one where sequences, whose state it may keep, must find it again."""
    return 1 if config.sequence_batching else config.instances


@contextmanager
def lent(free: SimpleQueue[Any], objects: list[Any]) -> Iterator[Any]:
    """One of the objects, for this thread alone. Raises `InferenceFailed` when they are gone."""
    if not objects:
        raise InferenceFailed("This version of the model is closed.")
    one = free.get()
    try:
        yield one
    finally:
        free.put(one)


@contextmanager
def failures(model: str, folder: Path) -> Iterator[None]:
    """Turns whatever a model's code raises into one sentence, and logs the traceback.

    `Transient` goes on as it is: what a called model cannot take now may be tried again.
    """
    try:
        yield
    except (Transient, InferenceFailed):
        raise
    except IrisloopError as error:
        raise InferenceFailed(f"Model {model!r} failed in a call of its own: {error}") from error
    except (Exception, SystemExit) as error:
        log.error("python_model_failed", model=model, error=repr(error), exc_info=error)
        place = place_of(error, folder / "model.py")
        raise InferenceFailed(f"Model {model!r} failed: {last_line(error)}{place}") from error


def finalize(model: str, close: Callable[[], Any] | None) -> None:
    """Let a model's object end; its own trouble is logged and stops nobody."""
    if close is None:
        return
    try:
        close()
    except (Exception, SystemExit) as error:
        log.warning("python_model_not_finalized", model=model, error=repr(error))


def checked_outputs(config: ModelConfig, outputs: Mapping[str, Any]) -> dict[str, Array]:
    """Every declared output, of its datatype; lists become arrays. Raises `InferenceFailed`."""
    found: dict[str, Array] = {}
    for tensor in config.outputs:
        if tensor.name not in outputs:
            raise InferenceFailed(f"Model {config.name!r} gave no output {tensor.name!r}.")
        found[tensor.name] = _array(config, tensor, outputs[tensor.name])
    return found


def _array(config: ModelConfig, tensor: TensorConfig, value: Any) -> Array:
    wanted = np.dtype(DTYPES[tensor.datatype])
    try:
        array = value if isinstance(value, (np.ndarray, np.generic)) else np.asarray(value, dtype=wanted)
    except (TypeError, ValueError, OverflowError) as error:
        raise InferenceFailed(
            f"Model {config.name!r} gave output {tensor.name!r} as {type(value).__name__}, which is no "
            f"{tensor.datatype}."
        ) from error
    array = np.asarray(array)
    if tensor.datatype == "BYTES" and array.dtype.kind in "SU":
        return array.astype(np.object_)
    if array.dtype != wanted:
        raise InferenceFailed(
            f"Model {config.name!r} gave output {tensor.name!r} as {array.dtype}; {tensor.datatype} ({wanted}) is "
            "declared."
        )
    return array
