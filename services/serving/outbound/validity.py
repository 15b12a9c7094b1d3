"""Triton's checks of a configuration by itself: what it refuses is refused here, in the same words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from inference.model_config_pb2 import (
    DataType,
    ModelConfig,
    ModelInput,
    ModelInstanceGroup,
    ModelQueuePolicy,
    ModelSequenceBatching,
)

from services.serving.domain.tensors import MOST_DIMENSIONS
from services.serving.errors import BadPackage
from services.serving.outbound.ensembles import check_ensemble

CORRID_TYPES: Final = ("TYPE_UINT64", "TYPE_INT64", "TYPE_UINT32", "TYPE_INT32", "TYPE_STRING")
PLATFORM_OF: Final = {"onnxruntime": "onnxruntime_onnx"}
LARGEST: Final = 1 << 62
MOST_BATCH: Final = 1 << 20
MOST_PRIORITIES: Final = 1 << 16
Control = ModelSequenceBatching.Control


def check_config(message: ModelConfig) -> None:
    """All but inputs and outputs, which may still be completed. Raises `BadPackage`."""
    _check_platform(message)
    if message.max_batch_size < 0:
        raise _bad("max_batch_size", f"'max_batch_size' must be non-negative value for {message.name}")
    if message.max_batch_size > MOST_BATCH:
        raise _bad("max_batch_size", f"'max_batch_size' must be at most {MOST_BATCH} for {message.name}")
    if message.HasField("dynamic_batching"):
        _check_dynamic(message)
    if message.HasField("sequence_batching"):
        _check_sequence(message)
    if message.HasField("ensemble_scheduling"):
        check_ensemble(message)
    elif message.platform == "ensemble":
        raise _bad(
            "platform",
            f"ensemble scheduling must be set for ensemble {message.name} whose platform is ensemble",
        )
    _check_instances(message)
    if message.backend == "onnxruntime":
        _check_parameters({name: value.string_value.strip() for name, value in message.parameters.items()})


def check_tensors(message: ModelConfig) -> None:
    """Inputs and outputs. Raises `BadPackage`."""
    for kind, tensors in (("input", message.input), ("output", message.output)):
        names: set[str] = set()
        for tensor in tensors:
            _check_tensor(tensor, kind, message)
            if tensor.name in names:
                raise _bad(kind, f"model {kind} '{tensor.name}' is specified twice for {message.name}")
            names.add(tensor.name)


def _bad(field: str, sentence: str) -> BadPackage:
    return BadPackage(sentence, field=field)


def _check_platform(message: ModelConfig) -> None:
    if not message.name:
        raise _bad("name", "model configuration must specify 'name'")
    if not message.backend and message.platform != "ensemble":
        raise _bad("backend", f"unexpected platform type '{message.platform}' for {message.name}")
    if message.backend and message.platform == "ensemble":
        raise _bad(
            "backend", f"Ensemble model '{message.name}' must have platform type 'ensemble' and empty backend type"
        )
    wanted = PLATFORM_OF.get(message.backend)
    if wanted is not None and message.platform != wanted:
        raise _bad("platform", f"unexpected 'platform' and 'backend' pair, got:{message.platform}, {message.backend}")


def _check_dynamic(message: ModelConfig) -> None:
    batching = message.dynamic_batching
    _check_preferred(batching.preferred_batch_size, "dynamic batching preferred size", message)
    levels = batching.priority_levels
    if levels > MOST_PRIORITIES:
        raise _bad("priority_levels", f"'priority_levels' must be at most {MOST_PRIORITIES} for {message.name}")
    if levels and not 1 <= batching.default_priority_level <= levels:
        raise _bad(
            "default_priority_level", f"default priority level must be in range [1, {levels}] for {message.name}"
        )
    if levels and not all(1 <= level <= levels for level in batching.priority_queue_policy):
        raise _bad(
            "priority_queue_policy",
            f"priority queue policy must have priority level in range [1, {levels}] for {message.name}",
        )
    if batching.preserve_ordering:
        _check_ordering(message)


def _check_ordering(message: ModelConfig) -> None:
    batching = message.dynamic_batching
    if batching.priority_levels > 1:
        raise _bad(
            "preserve_ordering",
            f"Only one priority level is allowed when 'preserve_ordering' is true for {message.name}",
        )
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    if any(
        policy.default_timeout_microseconds and policy.timeout_action == ModelQueuePolicy.DELAY for policy in policies
    ):
        raise _bad(
            "preserve_ordering",
            f"Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {message.name}",
        )


def _check_preferred(sizes: Iterable[int], what: str, message: ModelConfig) -> None:
    for size in sizes:
        if size <= 0:
            raise _bad("preferred_batch_size", f"{what} must be positive for {message.name}")
        if size > message.max_batch_size:
            raise _bad("preferred_batch_size", f"{what} must be <= max batch size for {message.name}")


def _check_sequence(message: ModelConfig) -> None:
    batching = message.sequence_batching
    names = [control.name for control in batching.control_input]
    if not all(names):
        raise _bad("control_input", f"sequence batching control tensor must have a name for {message.name}")
    for name, count in Counter(names).items():
        if count > 1:
            raise _bad(
                "control_input",
                f"sequence batching control tensor '{name}' is specified for multiple control kinds for {message.name}",
            )
    for kind in (
        Control.CONTROL_SEQUENCE_START,
        Control.CONTROL_SEQUENCE_END,
        Control.CONTROL_SEQUENCE_READY,
        Control.CONTROL_SEQUENCE_CORRID,
    ):
        found = [one for tensor in batching.control_input for one in tensor.control if one.kind == kind]
        _check_controls(found, Control.Kind.Name(kind), message)
    _check_preferred(batching.oldest.preferred_batch_size, "sequence batching preferred batch size", message)
    if not 0.0 <= batching.direct.minimum_slot_utilization <= 1.0:
        raise _bad(
            "minimum_slot_utilization",
            f"sequence batching minimum slot utilization must be in range (0.0, 1.0] for {message.name}",
        )


def _check_controls(found: Sequence[Any], kind: str, message: ModelConfig) -> None:
    if len(found) > 1:
        raise _bad("control_input", f"sequence batching specifies multiple {kind} tensors for {message.name}")
    for control in found:
        given = [name for name in ("int32_false_true", "fp32_false_true", "bool_false_true") if getattr(control, name)]
        if kind == "CONTROL_SEQUENCE_CORRID":
            _check_corrid(control, given, message)
        else:
            _check_boolean(control, given, kind, message)


def _check_boolean(control: Any, given: Sequence[str], kind: str, message: ModelConfig) -> None:
    if not given:
        raise _bad(
            "control_input",
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' for "
            f"{kind} for {message.name}",
        )
    if len(given) > 1:
        raise _bad(
            "control_input",
            "sequence batching specifies more than one from 'int32_false_true', 'fp32_false_true' and "
            f"'bool_false_true' for {kind} for {message.name}",
        )
    if len(getattr(control, given[0])) != 2:
        raise _bad(
            "control_input",
            f"sequence batching control '{given[0]}' must have exactly 2 entries for {kind} for {message.name}",
        )


def _check_corrid(control: Any, given: Sequence[str], message: ModelConfig) -> None:
    if given:
        raise _bad(
            "control_input",
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or 'bool_false_true' "
            f"for CONTROL_SEQUENCE_CORRID for {message.name}",
        )
    if DataType.Name(control.data_type) not in CORRID_TYPES:
        raise _bad(
            "control_input",
            f"unexpected data type for control CONTROL_SEQUENCE_CORRID for {message.name}. Allowed data types are "
            "TYPE_UINT64, TYPE_INT64, TYPE_UINT32, TYPE_INT32 and TYPE_STRING",
        )


def _check_instances(message: ModelConfig) -> None:
    for place, group in enumerate(message.instance_group):
        name = group.name or f"{message.name}_{place}"
        kind = ModelInstanceGroup.Kind.Name(group.kind)
        if group.gpus and kind in ("KIND_CPU", "KIND_MODEL"):
            raise _bad(
                "instance_group",
                f"instance group {name} of model {message.name} has kind {kind} but specifies one or more GPUs",
            )
        if group.count < 0 or group.count > 1024:
            raise _bad(
                "instance_group", f"instance group {name} of model {message.name} must have a count from 1 to 1024"
            )


def _check_parameters(parameters: Mapping[str, str]) -> None:
    """Those that onnxruntime is opened with are what it takes."""
    for name in ("intra_op_thread_count", "inter_op_thread_count", "execution_mode"):
        value = parameters.get(name, "0")
        if not (value.isascii() and value.isdigit() and len(value) <= 4):
            raise _parameter(name, value, "a whole number from 0 to 9999")
    if int(parameters.get("execution_mode", "0")) > 1:
        raise _parameter("execution_mode", parameters["execution_mode"], "0 or 1")
    for name in ("enable_mem_arena", "enable_mem_pattern"):
        if parameters.get(name, "1").lower() not in ("0", "1", "true", "false"):
            raise _parameter(name, parameters[name], "0, 1, true or false")


def _parameter(name: str, value: str, wanted: str) -> BadPackage:
    return _bad(f"parameters.{name}", f"parameters '{name}' is {value[:32]!r}; {wanted} is needed.")


def _check_tensor(tensor: Any, kind: str, message: ModelConfig) -> None:
    prefix = f"model {kind} "
    if not tensor.name:
        raise _bad(kind, f"{prefix}must specify 'name' for {message.name}")
    prefix = f"{prefix}'{tensor.name}' "
    problem = _tensor_problem(tensor, message.max_batch_size)
    if problem:
        raise _bad(kind, f"{prefix}{problem} for {message.name}")
    if isinstance(tensor, ModelInput) and tensor.format and len(tensor.dims) != 3:
        raise _bad(kind, f"model input NHWC/NCHW require 3 dims for {message.name}")
    if tensor.is_shape_tensor:
        raise _bad(kind, f"shape tensors are only supported for TensorRT platform for {message.name}")
    if tensor.is_non_linear_format_io:
        raise _bad(kind, f"Non-linear IO format is only supported for the TensorRT platform for {message.name}")


def _tensor_problem(tensor: Any, max_batch_size: int) -> str:
    dims, reshape = list(tensor.dims), list(tensor.reshape.shape)
    if not tensor.data_type:
        return "must specify 'data_type'"
    if not dims:
        return "must specify 'dims'"
    if tensor.HasField("reshape") and not reshape and not max_batch_size:
        return "cannot have empty reshape for non-batching model as scalar tensors are not supported"
    if max(len(dims), len(reshape)) > MOST_DIMENSIONS:
        return f"has more than {MOST_DIMENSIONS} dimensions"
    if not all(_is_size(size) for size in dims):
        return "dimension must be integer >= 1, or -1 to indicate a variable-size dimension"
    if not all(_is_size(size) for size in reshape):
        return "reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension"
    if math.prod(abs(size) for size in dims) > LARGEST:
        return "has more elements than can be counted"
    return _reshape_problem(dims, reshape) if tensor.HasField("reshape") else ""


def _is_size(size: int) -> bool:
    return size == -1 or size >= 1


def _reshape_problem(dims: Sequence[int], reshape: Sequence[int]) -> str:
    """Between the dimensions of any size, which are the same number, the counts of elements must agree."""
    if not reshape:
        return "" if all(size == 1 for size in dims) else "has different size for dims and reshape"
    if (-1 in dims) != (-1 in reshape):
        return "has different size for dims and reshape"
    runs, shaped = _runs(dims), _runs(reshape)
    if len(runs) != len(shaped):
        return "has different number of variable-size dimensions for dims and reshape"
    return "" if runs == shaped else "has different size for dims and reshape"


def _runs(sizes: Sequence[int]) -> list[int]:
    counts = [1]
    for size in sizes:
        if size == -1:
            counts.append(1)
        else:
            counts[-1] *= size
    return counts
