"""Whether configuration and graph are about the same tensors: rules and words are those of Triton's ONNX backend.

One rule is left out: there, a model that batches has no optional inputs; here, requests with the same inputs batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference.model_config_pb2 import DataType, ModelConfig, ModelSequenceBatching

from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.datatypes import config_type, control_type

Control = ModelSequenceBatching.Control


def check_signature(
    message: ModelConfig,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    overridable: Sequence[TensorSpec] = (),
) -> None:
    """`overridable`: constants of the graph that a request may replace. Raises `BadPackage`."""
    controls = _check_controls(message, inputs)
    expected = sum(not tensor.optional for tensor in message.input) + controls
    if len(inputs) != expected:
        raise _bad(
            "input",
            f"unable to load model '{message.name}', configuration expects {expected} inputs, model provides "
            f"{len(inputs)}",
        )
    known = {spec.name: spec for spec in (*inputs, *overridable)}
    for tensor in message.input:
        _check_tensor(message, tensor, known, "input")
    made = {spec.name: spec for spec in outputs}
    for output in message.output:
        _check_tensor(message, output, made, "output")


def _bad(field: str, sentence: str) -> BadPackage:
    return BadPackage(sentence, field=field)


def _check_controls(message: ModelConfig, inputs: Sequence[TensorSpec]) -> int:
    known = {spec.name: spec for spec in inputs}
    count = 0
    for tensor in message.sequence_batching.control_input:
        for control in tensor.control:
            _check_control(message, tensor.name, control, known.get(tensor.name))
            count += 1
    return count


def _check_control(message: ModelConfig, name: str, control: Any, spec: TensorSpec | None) -> None:
    if spec is None:
        raise _bad(
            "control_input", f"configuration specified sequence control '{name}', but model does not provide that input"
        )
    dims = spec.shape[1 if message.max_batch_size else 0 :]
    if dims != (1,):
        raise _bad(
            "control_input",
            f"unable to load model '{message.name}', sequence control '{name}' in model has dims {shown(dims)} but "
            "dims [1] is expected",
        )
    said = control_type(control)
    if config_type(spec.datatype) != said:
        raise _bad(
            "control_input",
            f"unable to load model '{message.name}', sequence control '{name}', the model expects data-type "
            f"{spec.datatype} but the model configuration specifies data-type {said}",
        )


def _check_tensor(message: ModelConfig, tensor: Any, known: dict[str, TensorSpec], kind: str) -> None:
    spec = known.get(tensor.name)
    if spec is None:
        raise _bad(
            kind,
            f"unexpected inference {kind} '{tensor.name}', allowed {kind}s are: {', '.join(sorted(known))}",
        )
    said = DataType.Name(tensor.data_type)
    if said != config_type(spec.datatype):
        raise _bad(
            kind,
            f"unable to load model '{message.name}', configuration expects datatype {said} for {kind} "
            f"'{tensor.name}', model provides TYPE_{spec.datatype}",
        )
    dims = tuple(tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims)
    if spec.shape:
        _check_dims(message, tensor.name, spec.shape, dims, exact=kind == "output")
    elif any(size != 1 for size in dims):
        raise _bad(
            kind,
            f"unable to load model '{message.name}', scalar tensor '{tensor.name}', should only provide 1 in the model "
            f"configuration when the model doesn't support batching. Model configuration provided: {shown(dims)}.",
        )


def _check_dims(message: ModelConfig, name: str, shape: tuple[int, ...], dims: tuple[int, ...], *, exact: bool) -> None:
    """`exact`: a size that the graph leaves open must be left open by the configuration too."""
    batched = message.max_batch_size > 0
    if batched and shape[0] != -1:
        raise _bad(
            "dims",
            f"model '{message.name}', tensor '{name}': for the model to support batching the shape should have at "
            "least 1 dimension and the first dimension must be -1; but shape expected by the model is "
            f"{shown(shape)}",
        )
    full = (-1, *dims) if batched else dims
    fits = len(shape) == len(full) and all(
        there == said or (there == -1 and not exact) for there, said in zip(shape, full, strict=True)
    )
    if fits:
        return
    how = (
        "an initial batch dimension because max_batch_size > 0 followed by the explicit tensor shape, making complete "
        f"shape {shown(full)}"
        if batched
        else f"shape {shown(full)}"
    )
    raise _bad(
        "dims",
        f"model '{message.name}', tensor '{name}': the model expects {len(shape)} dimensions (shape {shown(shape)}) "
        f"but the model configuration specifies {len(full)} dimensions ({how})",
    )


def shown(shape: Sequence[int]) -> str:
    """A shape as Triton prints it."""
    return f"[{','.join(map(str, shape))}]"
