"""Whether the steps of an ensemble fit together: every tensor is made before it is used, and none is made for nothing.

The rules and sentences are Triton's; a step's models are looked at when they are loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from inference.model_config_pb2 import ModelConfig

from services.serving.domain.config import ModelConfig as Served
from services.serving.domain.config import TensorConfig
from services.serving.errors import BadPackage

MOST_STEPS: Final = 256


def check_ensemble(message: ModelConfig) -> None:
    """The ensemble by itself. Raises `BadPackage`."""
    name = message.name
    if message.platform != "ensemble":
        raise _bad(f"ensemble scheduling cannot be set for model '{name}' whose platform is not ensemble")
    if message.instance_group:
        raise _bad(f"instance group should not be specified for ensemble '{name}'")
    if message.HasField("optimization"):
        raise _bad(f"optimization should not be specified for ensemble '{name}'")
    if message.model_warmup:
        raise _bad(f"model_warmup can not be specified for ensemble '{name}'")
    if not message.ensemble_scheduling.step:
        raise _bad(f"must specify 'step' for ensemble '{name}'")
    if len(message.ensemble_scheduling.step) > MOST_STEPS:
        raise _bad(
            f"ensemble '{name}' has {len(message.ensemble_scheduling.step)} steps; at most {MOST_STEPS} are served"
        )
    makers = _makers(message)
    _check_flow(message, makers)


def _bad(sentence: str) -> BadPackage:
    return BadPackage(sentence, field="ensemble_scheduling")


def _makers(message: ModelConfig) -> dict[str, list[str]]:
    """{tensor: those of the ensemble that its step needs}."""
    makers: dict[str, list[str]] = {}
    for place, step in enumerate(message.ensemble_scheduling.step):
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                raise _bad(f"must specify '{field}' in step {place} of ensemble '{message.name}'")
        for tensor in step.output_map.values():
            if tensor in makers:
                raise _bad(
                    f"ensemble tensor '{tensor}' can appear in an output map only once for ensemble "
                    f"'{message.name}' step {place}"
                )
            makers[tensor] = sorted(set(step.input_map.values()))
    return makers


def _check_flow(message: ModelConfig, makers: Mapping[str, list[str]]) -> None:
    used = {tensor for needs in makers.values() for tensor in needs}
    inputs = [tensor.name for tensor in message.input]
    for tensor in inputs:
        if tensor not in used and tensor not in makers:
            raise _bad(f"ensemble input '{tensor}' for ensemble {message.name} is not used")
    ready = _reached(inputs, makers)
    outputs = [tensor.name for tensor in message.output]
    for tensor in outputs:
        if tensor not in makers and tensor not in used:
            raise _bad(f"ensemble output '{tensor}' for ensemble {message.name} is not used")
        if tensor not in ready:
            raise _bad(f"output '{tensor}' for ensemble '{message.name}' is not written{_cause(tensor, makers, ready)}")
    for tensor in sorted(used | set(makers)):
        if tensor not in outputs and (tensor not in ready or tensor not in used):
            raise _bad(f"ensemble tensor '{tensor}' is unused in ensemble '{message.name}'")


def _reached(inputs: list[str], makers: Mapping[str, list[str]]) -> set[str]:
    ready = set(inputs)
    grew = True
    while grew:
        new = {tensor for tensor, needs in makers.items() if tensor not in ready and ready.issuperset(needs)}
        ready |= new
        grew = bool(new)
    return ready


def _cause(tensor: str, makers: Mapping[str, list[str]], ready: set[str]) -> str:
    """The first tensor on the way back that nothing makes; rings are walked once."""
    seen, last = {tensor}, tensor
    while True:
        missing = [need for need in makers.get(last, ()) if need not in ready and need not in seen]
        if not missing:
            break
        last = missing[0]
        seen.add(last)
    return f": at least one of its depending tensors, '{last}', is not connected" if last != tensor else ""


def check_members(ensemble: Served, members: Mapping[str, Served]) -> None:
    """The ensemble against the models of its steps: names, datatypes, shapes and batches. Raises `BadPackage`.

    `members` holds those that are loaded; one that is missing is said, since the ensemble cannot answer without it.
    """
    known = {tensor.name: tensor for tensor in ensemble.inputs}
    for step in ensemble.ensemble:
        member = members.get(step.model)
        if member is None:
            raise _bad(f"ensemble '{ensemble.name}' depends on '{step.model}' which has no loaded version")
        _check_batches(ensemble, member)
        for name, tensor in step.inputs.items():
            found = member.input(name)
            if found is None:
                raise _bad(f"in ensemble '{ensemble.name}', step of model '{step.model}': it has no input '{name}'")
            _check_same(ensemble.name, tensor, known.setdefault(tensor, found), found)
        missing = [one.name for one in member.inputs if not one.optional and one.name not in step.inputs]
        if missing:
            raise _bad(f"in ensemble '{ensemble.name}', input '{missing[0]}' of model '{step.model}' is not mapped")
        for name, tensor in step.outputs.items():
            made = member.output(name)
            if made is None:
                raise _bad(f"in ensemble '{ensemble.name}', step of model '{step.model}': it has no output '{name}'")
            _check_same(ensemble.name, tensor, known.setdefault(tensor, made), made)
    for tensor_config in ensemble.outputs:
        _check_same(ensemble.name, tensor_config.name, known.get(tensor_config.name, tensor_config), tensor_config)


def with_members(ensemble: Served, members: Mapping[str, Served]) -> Served:
    """The ensemble as its models make it: decoupled when one of them is. Raises as `check_members` does."""
    check_members(ensemble, members)
    decoupled = any(members[step.model].decoupled for step in ensemble.ensemble)
    message = ModelConfig.FromString(ensemble.serialized)
    message.model_transaction_policy.decoupled = decoupled
    return replace(ensemble, decoupled=decoupled, serialized=message.SerializeToString(deterministic=True))


def _check_batches(ensemble: Served, member: Served) -> None:
    if ensemble.max_batch_size and member.max_batch_size < ensemble.max_batch_size:
        raise _bad(
            f"ensemble '{ensemble.name}' allows maximum batch size {ensemble.max_batch_size}, but it contains model "
            f"'{member.name}' which only allows maximum batch size to be {member.max_batch_size}"
        )


def _check_same(ensemble: str, tensor: str, first: TensorConfig, second: TensorConfig) -> None:
    if first.datatype != second.datatype:
        raise _bad(
            f"in ensemble '{ensemble}', tensor '{tensor}' is {first.datatype} in one place and {second.datatype} in "
            "another"
        )
