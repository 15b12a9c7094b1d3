"""A version's first runs, before a client's call can wait for them, and before a version that computes something else
than it should can answer one.
"""

from __future__ import annotations

import numpy as np

from services.common.errors import IrisloopError
from services.common.telemetry import log
from services.serving.domain.config import ModelConfig, TensorConfig, Warmup, WarmupInput
from services.serving.domain.golden import GOLDEN_FILE, Golden
from services.serving.domain.ports import Backend
from services.serving.domain.tensors import DTYPES, Array, TensorData, decoded
from services.serving.domain.work import PLAIN, Arrays, Asked, SequenceMark, Work
from services.serving.errors import BadPackage
from services.serving.outbound.execution import Execution

OPEN_DIMENSION = 1
"""Size of a dimension that the model leaves open."""


def warm_up(config: ModelConfig, backend: Backend) -> None:
    """Run what `model_warmup` says, else zeros at batch 1 and the largest. Raises `BadPackage` for a warm-up that the
    configuration asks for and that fails; a model may well refuse zeros that nobody asked for.
    """
    execution = Execution(config, backend)
    if config.warmups:
        for warmup in config.warmups:
            for _ in range(max(1, warmup.count)):
                _run(execution, config, _given(warmup), max(1, warmup.batch_size), f"model_warmup {warmup.name!r}")
        return
    if backend.blocking or config.decoupled or any(tensor.datatype == "BYTES" for tensor in config.inputs):
        return
    for rows in sorted({1, config.max_batch_size if config.sequence_batching is None else 1} - {0}):
        try:
            _run(execution, config, _zeros(config, rows), rows, f"a first run of {rows}")
        except IrisloopError as error:
            log.info("warm_up_refused", model=config.name, rows=rows, error=str(error))
            return


def check_golden(config: ModelConfig, backend: Backend, golden: Golden) -> None:
    """Raises `BadPackage` where the model gives something else here than it gave its maker."""
    if config.decoupled or config.sequence_batching is not None:
        raise BadPackage(f"{GOLDEN_FILE} is for models that give one answer without a sequence.", field=GOLDEN_FILE)
    (answer,) = _run(Execution(config, backend), config, golden.inputs, golden.rows, GOLDEN_FILE)
    golden.check(answer)


def _run(execution: Execution, config: ModelConfig, inputs: Arrays, rows: int, what: str) -> list[Arrays]:
    """The answers. Raises `BadPackage`."""
    errors: list[Exception] = []
    answers: list[Arrays] = []

    def take(result: Arrays | Exception | None, last: bool) -> None:
        if isinstance(result, Exception):
            errors.append(result)
        elif result is not None:
            answers.append(result)

    asked = Asked(sequence=SequenceMark(1, start=True, end=True)) if config.sequence_batching else PLAIN
    execution.run([Work(inputs, rows, take, asked)])
    if errors:
        field = GOLDEN_FILE if what == GOLDEN_FILE else "model_warmup"
        raise BadPackage(f"{what} failed: {errors[0]}", field=field) from errors[0]
    return answers


def _zeros(config: ModelConfig, rows: int) -> Arrays:
    return {tensor.name: _zero(tensor, config, rows) for tensor in config.inputs if not tensor.optional}


def _zero(tensor: TensorConfig, config: ModelConfig, rows: int) -> Array:
    dims = tuple(OPEN_DIMENSION if size < 0 else size for size in tensor.dims)
    return np.zeros(((rows,) if config.max_batch_size else ()) + dims, dtype=DTYPES[tensor.datatype])


def _given(warmup: Warmup) -> Arrays:
    lead = (warmup.batch_size,) if warmup.batch_size else ()
    return {name: _filled(name, given, lead) for name, given in warmup.inputs.items()}


def _filled(name: str, given: WarmupInput, lead: tuple[int, ...]) -> Array:
    """Files hold the tensor of one item, or of the whole batch; what is too long is cut."""
    dtype = np.dtype(DTYPES[given.datatype])
    shape = lead + given.dims
    if given.source == "random" and dtype.kind in "iufb":
        drawn = np.random.default_rng(0).random(given.dims)
        one = drawn.astype(dtype) if dtype.kind == "f" else (drawn * 100).astype(dtype)
    elif given.source == "file":
        one = decoded(TensorData(name, given.datatype, given.dims, raw=given.data))
    elif given.datatype == "BYTES":
        one = np.full(given.dims, b"", dtype=np.object_)
    else:
        one = np.zeros(given.dims, dtype=dtype)
    return np.broadcast_to(one, shape).copy()
