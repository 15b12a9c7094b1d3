"""Completes a model's configuration: from the names of its files, then from what its graph declares.

What is filled in, and when, is what Triton's server and its ONNX backend do (core: AutoCompleteBackendFields,
NormalizeModelConfig; onnxruntime_backend: AutoCompleteConfig): ModelConfig answers the same for the same folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from inference.model_config_pb2 import ModelConfig, ModelInstanceGroup

from services.serving.domain.config import ModelConfig as Served
from services.serving.domain.config import VersionPolicy
from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.datatypes import config_type
from services.serving.outbound.folder import Folder, ModelFiles
from services.serving.outbound.mlserver import read_settings
from services.serving.outbound.pbtxt import parse_json, parse_text
from services.serving.outbound.signature import check_signature
from services.serving.outbound.support import Review, review
from services.serving.outbound.translation import Assets, translated, version_policy
from services.serving.outbound.validity import check_config, check_tensors

DEFAULT_MAX_BATCH: Final = 4
"""Triton's --backend-config=default-max-batch-size."""
SEQUENCE_IDLE_US: Final = 1_000_000
NO_ASSETS: Final = Assets()
GRAPH_BACKENDS: Final = ("onnxruntime", "remote")
"""Whose tensors can be asked."""
KNOWN_FILES: Final = (
    ("model.savedmodel", "tensorflow", "tensorflow_savedmodel"),
    ("model.graphdef", "tensorflow", "tensorflow_graphdef"),
    ("model.plan", "tensorrt", "tensorrt_plan"),
    ("model.onnx", "onnxruntime", "onnxruntime_onnx"),
    ("model.xml", "openvino", ""),
    ("model.pt", "pytorch", "pytorch_libtorch"),
    ("model.py", "python", ""),
)
PLATFORMS: Final = {platform: backend for _, backend, platform in KNOWN_FILES if platform}


@dataclass(frozen=True, slots=True)
class PartialConfig:
    """A configuration before the graph is known: parsed, normalised and checked by itself."""

    message: ModelConfig
    """Not to be changed."""
    review: Review

    @property
    def name(self) -> str:
        """The model's."""
        return self.message.name

    @property
    def backend(self) -> str:
        """onnxruntime, python, remote or ensemble; another one when `review` refuses it."""
        return "ensemble" if self.message.platform == "ensemble" else self.message.backend

    @property
    def filename(self) -> str:
        """The model's file in its version folder; "" where there is none, as in an ensemble."""
        return self.message.default_model_filename

    @property
    def version_policy(self) -> VersionPolicy:
        """Which versions are served."""
        return version_policy(self.message)

    def versions(self, files: ModelFiles) -> list[int]:
        """The versions to serve, ascending. Raises `BadPackage` when there is none."""
        chosen = self.version_policy.chosen(list(files.versions))
        if not chosen:
            raise BadPackage(
                f"at least one version must be available under the version policy of model '{self.name}'",
                field="version_policy",
            )
        return chosen

    @property
    def label_files(self) -> list[str]:
        """Files that `complete` wants to be read, relative to the model's folder."""
        return sorted({tensor.label_filename for tensor in self.message.output if tensor.label_filename})

    @property
    def warmup_files(self) -> list[str]:
        """Files that `complete` wants to be read, relative to the model's folder."""
        inputs = (one for warmup in self.message.model_warmup for one in warmup.inputs.values())
        return sorted({f"warmup/{one.input_data_file}" for one in inputs if one.input_data_file})

    def require(self) -> None:
        """Raises `BadPackage` with every field that is not served."""
        if self.review.refusals:
            raise BadPackage("; ".join(self.review.refusals), field="config")


def begin(files: ModelFiles, override: bytes | None = None, *, strict: bool = False) -> PartialConfig:
    """From a model's files; `override` is RepositoryModelLoad's `config`, which replaces them.

    `strict`: a configuration that is missing or not whole is refused. Raises `BadPackage`.
    """
    message, refusals, warnings = _read(files, override, strict=strict)
    fill_backend(message, files.name, files.contents, has_versions=bool(files.versions))
    normalise(message)
    found = review(message)
    found = Review((*refusals, *found.refusals), (*files.notes, *warnings, *found.warnings))
    if not found.refusals:
        check_config(message)
    if message.name != files.name:
        raise BadPackage(
            f"unexpected directory name '{files.name}' for model '{message.name}', "
            "directory name must equal model name",
            field="name",
        )
    if strict and not found.refusals:
        _require_tensors(message)
        check_tensors(message)
    return PartialConfig(message, found)


def complete(
    partial: PartialConfig,
    inputs: Sequence[TensorSpec] = (),
    outputs: Sequence[TensorSpec] = (),
    *,
    overridable: Sequence[TensorSpec] = (),
    assets: Assets = NO_ASSETS,
    strict: bool = False,
    default_max_batch: int = DEFAULT_MAX_BATCH,
    default_instances: int = 1,
) -> Served:
    """The whole configuration. `inputs` and `outputs` are the graph's, batch dimension and all; none where they cannot
    be asked. `default_instances`: of a model whose instance_group gives no count (Triton's own default is 2 on a CPU).

    Raises `BadPackage` when configuration and graph do not fit each other.
    """
    partial.require()
    message = ModelConfig()
    message.CopyFrom(partial.message)
    warnings = list(partial.review.warnings)
    graph = partial.backend in GRAPH_BACKENDS and bool(inputs or outputs)
    if graph and not strict:
        warnings += fill_tensors(message, inputs, outputs, default_max_batch)
        normalise(message)
    _require_tensors(message)
    fill_instances(message, default_instances)
    if partial.backend == "ensemble":
        message.model_transaction_policy.SetInParent()
    check_tensors(message)
    check_config(message)
    if graph:
        check_signature(message, inputs, outputs, overridable)
    return translated(message, assets, tuple(warnings))


async def read_assets(folder: Folder, files: ModelFiles, partial: PartialConfig) -> Assets:
    """The label and warm-up files that the configuration names. Raises `BadPackage`, `Unavailable`."""
    found = {path: await folder.small(files, path, "label_filename") for path in partial.label_files}
    found |= {path: await folder.small(files, path, "model_warmup") for path in partial.warmup_files}
    return Assets(found)


def _read(
    files: ModelFiles, override: bytes | None, *, strict: bool
) -> tuple[ModelConfig, tuple[str, ...], tuple[str, ...]]:
    if override is not None:
        return parse_json(override), (), ()
    if files.config is not None:
        return parse_text(files.config), (), ()
    if files.settings is not None:
        settings = read_settings(files.settings, files.name, files.contents)
        return settings.message, settings.refusals, settings.warnings
    if strict:
        raise BadPackage(f"model '{files.name}' has no config.pbtxt, and it is not completed (strict-model-config)")
    return ModelConfig(), (), ()


def fill_backend(message: ModelConfig, name: str, contents: Sequence[str], *, has_versions: bool) -> None:
    """Name, backend, platform and file name, from each other and from the files of the first version."""
    message.name = message.name or name
    if message.platform == "ensemble":
        return
    if not message.backend:
        message.backend = _backend(message, contents)
    if not message.backend and not message.platform:
        where = "its first version folder holds none of" if has_versions else "it has no version folder with one of"
        raise BadPackage(
            f"model '{message.name}' names no backend, and {where} {', '.join(known for known, _, _ in KNOWN_FILES)}",
            field="backend",
        )
    for filename, backend, platform in KNOWN_FILES:
        agree = not platform or not message.platform or platform == message.platform
        if backend == message.backend and agree:
            message.platform = message.platform or platform
            message.default_model_filename = message.default_model_filename or filename
            break


def _backend(message: ModelConfig, contents: Sequence[str]) -> str:
    if message.platform:
        return PLATFORMS.get(message.platform, "")
    given = message.default_model_filename
    for filename, backend, _ in KNOWN_FILES:
        if filename == given or (not given and filename in contents):
            return backend
    return ""


def normalise(message: ModelConfig) -> None:
    """The defaults that do not depend on the graph."""
    if not message.HasField("version_policy"):
        message.version_policy.latest.num_versions = 1
    if message.HasField("dynamic_batching"):
        _prefer_largest(message.dynamic_batching.preferred_batch_size, message)
    if message.HasField("sequence_batching"):
        batching = message.sequence_batching
        batching.max_sequence_idle_microseconds = batching.max_sequence_idle_microseconds or SEQUENCE_IDLE_US
        if batching.HasField("oldest"):
            _prefer_largest(batching.oldest.preferred_batch_size, message)
    if not message.HasField("ensemble_scheduling"):
        for memory in ("input_pinned_memory", "output_pinned_memory"):
            if not message.optimization.HasField(memory):
                getattr(message.optimization, memory).enable = True


def _prefer_largest(sizes: Any, message: ModelConfig) -> None:
    if not sizes and message.max_batch_size > 0:
        sizes.append(message.max_batch_size)


def fill_tensors(
    message: ModelConfig, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], default_max_batch: int
) -> list[str]:
    """Batching and tensors from the graph; nothing is touched when inputs and outputs are named. Returns warnings."""
    if (message.input or message.batch_input) and message.output:
        return []
    warnings = _fill_batching(message, (*inputs, *outputs), default_max_batch)
    if not message.input and not message.batch_input:
        _fill(message.input, inputs, message.max_batch_size)
    if not message.output:
        _fill(message.output, outputs, message.max_batch_size)
    return warnings


def _fill_batching(message: ModelConfig, tensors: Sequence[TensorSpec], default_max_batch: int) -> list[str]:
    """A graph all of whose tensors have an open first dimension can batch."""
    if not all(spec.shape and spec.shape[0] == -1 for spec in tensors):
        if message.max_batch_size:
            raise BadPackage(
                f"autofill failed for model '{message.name}': model does not support batching while non-zero "
                "max_batch_size is specified",
                field="max_batch_size",
            )
        return []
    warnings = []
    if not message.max_batch_size:
        message.max_batch_size = max(default_max_batch, 0)
        warnings.append(
            f"max_batch_size: {message.max_batch_size} was filled in, since the graph can batch and the configuration "
            "names none; give it there for larger batches"
        )
    if message.max_batch_size > 1 and message.WhichOneof("scheduling_choice") not in _BATCHED:
        message.dynamic_batching.SetInParent()
    return warnings


_BATCHED: Final = ("dynamic_batching", "sequence_batching")


def _fill(tensors: Any, specs: Sequence[TensorSpec], max_batch_size: int) -> None:
    for spec in specs:
        dims = spec.shape[1 if max_batch_size else 0 :]
        added = tensors.add(name=spec.name, data_type=config_type(spec.datatype), dims=dims or (1,))
        if not dims and max_batch_size:
            added.reshape.SetInParent()


def fill_instances(message: ModelConfig, default_instances: int) -> None:
    """Every group gets a name, a kind and a count; all run on the CPU."""
    if message.HasField("ensemble_scheduling"):
        return
    if not message.instance_group:
        message.instance_group.add(name=message.name, kind=ModelInstanceGroup.KIND_CPU)
    for place, group in enumerate(message.instance_group):
        group.name = group.name or f"{message.name}_{place}"
        group.count = group.count or default_instances
        if group.kind in (ModelInstanceGroup.KIND_AUTO, ModelInstanceGroup.KIND_GPU):
            group.kind = ModelInstanceGroup.KIND_CPU
            del group.gpus[:]


def _require_tensors(message: ModelConfig) -> None:
    for kind, tensors in (("input", message.input), ("output", message.output)):
        if not tensors:
            raise BadPackage(
                f"model '{message.name}': its configuration must name every {kind}: they cannot be read from the model",
                field=kind,
            )
