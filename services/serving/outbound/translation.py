"""A complete `inference.ModelConfig` in serving's own words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

import numpy as np
from inference.model_config_pb2 import (
    ModelConfig,
    ModelInput,
    ModelQueuePolicy,
    ModelSequenceBatching,
)

from services.serving.domain import config as served
from services.serving.domain.tensors import DTYPES
from services.serving.errors import BadPackage
from services.serving.outbound.datatypes import control_type, protocol_type

CONTROLS: Final = {
    ModelSequenceBatching.Control.CONTROL_SEQUENCE_START: served.ControlKind.START,
    ModelSequenceBatching.Control.CONTROL_SEQUENCE_END: served.ControlKind.END,
    ModelSequenceBatching.Control.CONTROL_SEQUENCE_READY: served.ControlKind.READY,
    ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID: served.ControlKind.CORRID,
}
FORMATS: Final = {ModelInput.FORMAT_NHWC: "NHWC", ModelInput.FORMAT_NCHW: "NCHW"}
WARMUP_BYTES: Final = 256 << 20
"""Largest input of a warm-up."""


@dataclass(frozen=True, slots=True)
class Assets:
    """Files of a model beside its versions, by their path relative to its folder."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    def labels(self, path: str) -> tuple[str, ...]:
        """One a line."""
        if not path:
            return ()
        try:
            lines = self.files[path].decode("utf-8").split("\n")
        except KeyError as error:
            raise BadPackage(f"label_filename names {path!r}, which was not read.", field="label_filename") from error
        except UnicodeDecodeError as error:
            raise BadPackage(f"label_filename {path!r} is not UTF-8 text.", field="label_filename") from error
        return tuple(line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines))


def translated(message: ModelConfig, assets: Assets, warnings: tuple[str, ...]) -> served.ModelConfig:
    """The message must have passed every check. Raises `BadPackage` for labels and warm-ups that do not fit."""
    ensemble = message.HasField("ensemble_scheduling")
    return served.ModelConfig(
        name=message.name,
        backend=cast("served.Backend", "ensemble" if ensemble else message.backend),
        max_batch_size=message.max_batch_size,
        inputs=tuple(_input(tensor) for tensor in message.input),
        outputs=tuple(_output(tensor, assets) for tensor in message.output),
        platform=message.platform,
        filename=message.default_model_filename,
        version_policy=version_policy(message),
        dynamic_batching=_dynamic(message.dynamic_batching) if message.HasField("dynamic_batching") else None,
        sequence_batching=_sequence(message.sequence_batching) if message.HasField("sequence_batching") else None,
        ensemble=tuple(_step(step) for step in message.ensemble_scheduling.step),
        decoupled=message.model_transaction_policy.decoupled,
        instances=sum(group.count for group in message.instance_group if not group.passive) or 1,
        graph_level=message.optimization.graph.level if message.optimization.HasField("graph") else None,
        parameters={name: value.string_value for name, value in sorted(message.parameters.items())},
        warmups=tuple(_warmup(setting, message, assets) for setting in message.model_warmup),
        serialized=message.SerializeToString(deterministic=True),
        warnings=warnings,
    )


def version_policy(message: ModelConfig) -> served.VersionPolicy:
    """Which versions are served; the newest where the configuration says nothing."""
    policy = message.version_policy
    if policy.HasField("all"):
        return served.VersionPolicy("all")
    if policy.HasField("specific"):
        return served.VersionPolicy("specific", specific=tuple(policy.specific.versions))
    return served.VersionPolicy("latest", latest=policy.latest.num_versions or 1)


def _shape(tensor: Any) -> tuple[int, ...] | None:
    return tuple(tensor.reshape.shape) if tensor.HasField("reshape") else None


def _input(tensor: ModelInput) -> served.TensorConfig:
    return served.TensorConfig(
        name=tensor.name,
        datatype=protocol_type(tensor.data_type),
        dims=tuple(tensor.dims),
        reshape=_shape(tensor),
        optional=tensor.optional,
        format=cast("Literal['', 'NCHW', 'NHWC']", FORMATS.get(tensor.format, "")),
    )


def _output(tensor: Any, assets: Assets) -> served.TensorConfig:
    return served.TensorConfig(
        name=tensor.name,
        datatype=protocol_type(tensor.data_type),
        dims=tuple(tensor.dims),
        reshape=_shape(tensor),
        labels=assets.labels(tensor.label_filename),
    )


def _policy(policy: ModelQueuePolicy) -> served.QueuePolicy:
    return served.QueuePolicy(
        max_queue_size=policy.max_queue_size,
        default_timeout_us=policy.default_timeout_microseconds,
        allow_timeout_override=policy.allow_timeout_override,
        delay=policy.timeout_action == ModelQueuePolicy.DELAY,
    )


def _dynamic(batching: Any) -> served.DynamicBatching:
    return served.DynamicBatching(
        preferred_batch_sizes=tuple(batching.preferred_batch_size),
        max_queue_delay_us=batching.max_queue_delay_microseconds,
        preserve_ordering=batching.preserve_ordering,
        priority_levels=batching.priority_levels,
        default_priority_level=batching.default_priority_level,
        default_policy=_policy(batching.default_queue_policy),
        priority_policies={level: _policy(policy) for level, policy in sorted(batching.priority_queue_policy.items())},
    )


def _sequence(batching: ModelSequenceBatching) -> served.SequenceBatching:
    oldest = batching.HasField("oldest")
    return served.SequenceBatching(
        strategy="oldest" if oldest else "direct",
        max_sequence_idle_us=batching.max_sequence_idle_microseconds,
        controls=tuple(
            _control(tensor.name, control) for tensor in batching.control_input for control in tensor.control
        ),
        max_candidate_sequences=batching.oldest.max_candidate_sequences,
        preferred_batch_sizes=tuple(batching.oldest.preferred_batch_size),
    )


def _control(name: str, control: Any) -> served.Control:
    values = [*control.int32_false_true, *control.fp32_false_true, *control.bool_false_true] or [0, 1]
    return served.Control(
        name=name,
        kind=CONTROLS[control.kind],
        datatype=control_type(control).removeprefix("TYPE_").replace("STRING", "BYTES"),
        false_true=(float(values[0]), float(values[1])),
    )


def _step(step: Any) -> served.EnsembleStep:
    return served.EnsembleStep(
        model=step.model_name,
        version="" if step.model_version < 1 else str(step.model_version),
        inputs=dict(sorted(step.input_map.items())),
        outputs=dict(sorted(step.output_map.items())),
    )


def _warmup(setting: Any, message: ModelConfig, assets: Assets) -> served.Warmup:
    if setting.batch_size > max(message.max_batch_size, 1):
        raise _warm(setting, f"batch_size {setting.batch_size} is above max_batch_size {message.max_batch_size}")
    known = {tensor.name: tensor for tensor in message.input}
    controls = {tensor.name for tensor in message.sequence_batching.control_input}
    inputs: dict[str, served.WarmupInput] = {}
    for name, given in sorted(setting.inputs.items()):
        if name not in known and name not in controls:
            raise _warm(setting, f"input {name!r} is not an input of the model")
        inputs[name] = _warmup_input(setting, name, given, assets)
    missing = [name for name, tensor in known.items() if name not in inputs and not tensor.optional]
    if missing:
        raise _warm(setting, f"input {missing[0]!r} is missing")
    return served.Warmup(setting.name, setting.batch_size, max(setting.count, 1), inputs)


def _warmup_input(setting: Any, name: str, given: Any, assets: Assets) -> served.WarmupInput:
    datatype, dims = protocol_type(given.data_type), tuple(given.dims)
    source = given.WhichOneof("input_data_type")
    if datatype == "INVALID" or not dims or any(size < 1 for size in dims):
        raise _warm(setting, f"input {name!r} needs data_type and dims without -1")
    if source is None:
        raise _warm(setting, f"input {name!r} needs zero_data, random_data or input_data_file")
    size = _item_bytes(datatype) * math.prod(dims)
    if size > WARMUP_BYTES:
        raise _warm(setting, f"input {name!r} has {size} bytes; at most {WARMUP_BYTES} are served")
    data = b""
    if source == "input_data_file":
        data = assets.files.get(f"warmup/{given.input_data_file}", b"")
        if datatype != "BYTES" and len(data) != size:
            raise _warm(setting, f"input {name!r}: its file has {len(data)} bytes; its dims need {size}")
    kind = {"zero_data": "zero", "random_data": "random", "input_data_file": "file"}[source]
    return served.WarmupInput(datatype, dims, cast("Literal['zero', 'random', 'file']", kind), data)


def _item_bytes(datatype: str) -> int:
    return {"BYTES": 4, "BF16": 2}.get(datatype) or np.dtype(DTYPES[datatype]).itemsize


def _warm(setting: Any, problem: str) -> BadPackage:
    return BadPackage(f"model_warmup {setting.name[:80]!r}: {problem}.", field="model_warmup")
