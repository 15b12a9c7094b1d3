"""Clients' tensors against what the model takes: every way in which a call can be wrong has its sentence here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.serving.domain.calls import InferCall, WantedOutput
from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.ports import Regions
from services.serving.domain.routes import Version
from services.serving.domain.tensors import DTYPES, Array, TensorData, decoded
from services.serving.domain.work import PLAIN, Asked, SequenceMark
from services.serving.errors import BadRequest, Unsupported

RESERVED: Final = "triton_"
KNOWN: Final = frozenset({"triton_enable_empty_final_response"})
BATCH_HINT: Final = (
    "NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be prepended to each "
    "input shape. If you want to specify the full shape including the batch dim in your input dims config, try setting "
    "max_batch_size to zero. See the model configuration docs for more info on max_batch_size."
)
LONGEST_ID: Final = 128
ID_RANGE: Final = 2**64


def asked_of(call: InferCall, config: ModelConfig) -> Asked:
    """What the parameters ask of the scheduler. Raises `BadRequest`."""
    parameters = call.parameters
    if not parameters and config.sequence_batching is None:
        return PLAIN
    for name in parameters:
        if name.startswith(RESERVED) and name not in KNOWN:
            raise BadRequest(
                "parameter keys starting with 'triton_' are reserved for Triton usage. Only the following keys "
                f"starting with 'triton_' are allowed: {', '.join(sorted(KNOWN))}",
                field="parameters",
            )
    return Asked(
        priority=_priority(parameters),
        timeout_us=max(0, _whole(parameters, "timeout", "int64_param")),
        sequence=_sequence(parameters),
        parameters=parameters,
    )


def feed_of(version: Version, call: InferCall, regions: Regions) -> tuple[dict[str, Array], int]:
    """The arrays by input, and the number of images. Raises `BadRequest` (field names the input)."""
    config = version.config
    feed: dict[str, Array] = {}
    rows = 1
    for tensor in call.inputs:
        wanted = config.input(tensor.name)
        if wanted is None:
            raise BadRequest(
                f"unexpected inference input {tensor.name[:128]!r} for model {config.name!r}", field="inputs"
            )
        if tensor.name in feed:
            raise BadRequest(f"input {tensor.name!r} already exists in request", field="inputs")
        check_tensor(wanted, tensor, config)
        if config.max_batch_size:
            rows = _rows(tensor, config, rows if feed else 0)
        feed[tensor.name] = _array(from_region(tensor, regions), config)
    _check_complete(config, feed)
    return feed, rows


def _array(tensor: TensorData, config: ModelConfig) -> Array:
    try:
        return decoded(tensor)
    except BadRequest as error:
        raise BadRequest(f"{error} (model {config.name!r})", field=error.field) from error


def from_region(tensor: TensorData, regions: Regions) -> TensorData:
    """The tensor with its bytes, wherever they lie; those in shared memory are seen, not copied."""
    if tensor.region is None:
        return tensor
    return TensorData(tensor.name, tensor.datatype, tensor.shape, raw=regions.read(tensor.region))


def check_tensor(wanted: TensorConfig, tensor: TensorData, config: ModelConfig) -> None:
    """Raises `BadRequest` unless datatype and shape are what the model takes."""
    if _is_as_declared(wanted, tensor, config):
        return
    shape, lead = tensor.shape, 1 if config.max_batch_size else 0
    field = f"inputs.{tensor.name[:128]}"
    if tensor.datatype not in DTYPES:
        raise BadRequest(
            f"input {tensor.name[:128]!r} has the datatype {tensor.datatype[:32]!r}, which the protocol does not know",
            field=field,
        )
    if tensor.datatype != wanted.datatype:
        raise BadRequest(
            f"inference input {tensor.name!r} data-type is {tensor.datatype!r}, but model {config.name!r} expects "
            f"{wanted.datatype!r}",
            field=field,
        )
    fits = len(shape) == lead + len(wanted.dims) and all(
        dim in (-1, size) for dim, size in zip(wanted.dims, shape[lead:], strict=True)
    )
    if fits and min(shape, default=0) >= 0:
        return
    if lead and not shape:
        raise BadRequest(
            f"input {tensor.name!r} has no shape but model requires batch dimension for {config.name!r}", field=field
        )
    expected = ",".join(map(str, ((-1,) if lead else ()) + wanted.dims))
    raise BadRequest(
        f"unexpected shape for input {tensor.name!r} for model {config.name!r}. Expected [{expected}], got "
        f"[{','.join(map(str, shape[:16]))}]. {BATCH_HINT if lead else ''}".rstrip(),
        field=field,
    )


def _is_as_declared(wanted: TensorConfig, tensor: TensorData, config: ModelConfig) -> bool:
    """Nearly every call's tensor is; an open dimension takes the long way."""
    shape = tensor.shape
    if config.max_batch_size:
        if not shape or shape[0] < 0:
            return False
        shape = shape[1:]
    return shape == wanted.dims and tensor.datatype == wanted.datatype and min(shape, default=0) >= 0


def wanted_of(config: ModelConfig, call: InferCall) -> list[WantedOutput]:
    """The outputs to answer with, in the order asked for. Raises `BadRequest`."""
    if not call.outputs:
        return [WantedOutput(tensor.name, binary=call.binary) for tensor in config.outputs]
    found: dict[str, WantedOutput] = {}
    for output in call.outputs:
        declared = config.output(output.name)
        if declared is None:
            raise BadRequest(
                f"unexpected inference output {output.name[:128]!r} for model {config.name!r}", field="outputs"
            )
        if output.class_count and declared.datatype in ("BYTES", "BOOL", "BF16"):
            raise BadRequest(
                f"class result not available for output {output.name!r} due to unsupported type {declared.datatype!r}",
                field="outputs",
            )
        found.setdefault(output.name, output)
    return list(found.values())


def _rows(tensor: TensorData, config: ModelConfig, others: int) -> int:
    rows = tensor.shape[0]
    if others and rows != others:
        raise BadRequest(
            f"input {tensor.name!r} batch size does not match other inputs for {config.name!r}", field="inputs"
        )
    if rows > config.max_batch_size:
        raise BadRequest(
            f"inference request batch-size must be <= {config.max_batch_size} for {config.name!r}", field="inputs"
        )
    if rows < 1:
        raise BadRequest(f"inference request batch-size must be >= 1 for {config.name!r}", field="inputs")
    return rows


def _check_complete(config: ModelConfig, feed: Mapping[str, Array]) -> None:
    if len(feed) == len(config.inputs):
        return
    missing = [tensor.name for tensor in config.inputs if not tensor.optional and tensor.name not in feed]
    if missing:
        raise BadRequest(
            f"expected {len(config.inputs)} inputs but got {len(feed)} inputs for model {config.name!r}. Got input(s) "
            f"{list(feed)}, but missing required input(s) {missing}. Please provide all required input(s).",
            field="inputs",
        )


def _whole(parameters: Mapping[str, Any], name: str, kinds: str) -> int:
    value = parameters.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadRequest(f"invalid value type for {name!r} parameter, expected {kinds}.", field=f"parameters.{name}")
    return value


def _priority(parameters: Mapping[str, Any]) -> int:
    value = _whole(parameters, "priority", "int64_param or uint64_param")
    if value < 0:
        raise BadRequest("invalid value for 'priority', expected value >= 0.", field="parameters.priority")
    return value


def _flag(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if not isinstance(value, bool):
        raise BadRequest(f"invalid value type for {name!r} parameter, expected bool_param.", field=f"parameters.{name}")
    return value


def _sequence(parameters: Mapping[str, Any]) -> SequenceMark | None:
    start, end = _flag(parameters, "sequence_start"), _flag(parameters, "sequence_end")
    if "sequence_id" not in parameters:
        return None
    identity = parameters["sequence_id"]
    if not isinstance(identity, str):
        # Triton keeps ids as unsigned 64 bits, and so takes a negative one for a large one.
        identity = _whole(parameters, "sequence_id", "int64_param or string_param") % ID_RANGE
    elif len(identity) > LONGEST_ID:
        raise Unsupported(f"string correlation ID cannot be longer than {LONGEST_ID} characters")
    return SequenceMark(identity, start, end)
