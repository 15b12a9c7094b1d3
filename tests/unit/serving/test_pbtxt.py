"""config.pbtxt and its JSON form: what is read, what is named when it is not; no field is passed over in silence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from inference.model_config_pb2 import ModelConfig

from services.serving.errors import BadPackage
from services.serving.outbound.completion import normalise
from services.serving.outbound.pbtxt import CONFIG_BYTES, parse_json, parse_text
from services.serving.outbound.support import review
from services.serving.outbound.validity import check_config, check_tensors


@pytest.mark.parametrize(
    ("text", "field", "sentence"),
    [
        ('name: "m"\nfoo: 1', "foo", "config.pbtxt line 2: 'foo' is not a field of a model configuration."),
        ("input {\n\n shape: 3 }", "shape", "line 3: 'shape' is not a field of a model configuration in Input"),
        ("instance_group [ { kind: KIND_TPU } ]", "config.pbtxt", "line 1: .*has no value named KIND_TPU"),
        ('name: "a"\nname: "b"', "config.pbtxt", "line 2: .*should not have multiple"),
        ("dynamic_batching {}\nsequence_batching {}", "config.pbtxt", "line 2: .*scheduling_choice"),
        ("max_batch_size: 99999999999", "config.pbtxt", "out of range"),
        ("max_batch_size: " + "9" * 5000, "config.pbtxt", "config.pbtxt"),
        ('name: "\\377"', "config.pbtxt", "Couldn't parse string"),
        ("input [", "config.pbtxt", "line 1"),
        ("name: \x00", "config.pbtxt", "line 1"),
    ],
)
def test_what_is_no_configuration_is_answered_with_the_place_and_the_field(
    text: str, field: str, sentence: str
) -> None:
    with pytest.raises(BadPackage, match=sentence) as caught:
        parse_text(text.encode())
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"foo": 1}', "config: 'foo' is not a field of a model configuration"),
        ('{"input": [{"nonsense": 1}]}', "'nonsense' is not a field of a model configuration in Input"),
        ("[" * 100_000, "is not a model configuration"),
        ('{"parameters": 3}', "is not a model configuration"),
        ('{"max_batch_size": 1.5}', "is not a model configuration"),
        ('{"input": [{"data_type": "TYPE_X"}]}', "is not a model configuration"),
        ('{"name": "\\ud800"}', "config"),
        ("null", "is not a model configuration"),
        ("{", "is not a model configuration"),
    ],
)
def test_json_that_is_no_configuration_is_answered(text: str, sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        parse_json(text.encode())


def test_json_is_read_with_numbers_as_text_or_as_numbers() -> None:
    data = (
        b'{"name": "m", "max_batch_size": "8", "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["-1", 3]}]}'
    )
    message = parse_json(data)
    assert (message.max_batch_size, list(message.input[0].dims)) == (8, [-1, 3])


@pytest.mark.parametrize("parse", [parse_text, parse_json])
def test_a_configuration_is_bounded_in_size_and_is_utf8(parse: Any) -> None:
    with pytest.raises(BadPackage, match="at most 262144 are read"):
        parse(b" " * (CONFIG_BYTES + 1))
    with pytest.raises(BadPackage, match="is not UTF-8 text: byte 1"):
        parse(b"a\xff")


def test_no_message_holds_itself_so_the_text_bounds_the_depth() -> None:
    def depth(descriptor: Descriptor, above: tuple[str, ...]) -> int:
        assert descriptor.full_name not in above
        below = [field.message_type for field in descriptor.fields if field.message_type]
        return 1 + max((depth(one, (*above, descriptor.full_name)) for one in below), default=0)

    assert depth(ModelConfig.DESCRIPTOR, ()) <= 8


WARNED = (
    ("instance_group { kind: KIND_GPU }", "instance_group.kind KIND_GPU runs on the CPU"),
    ("instance_group { rate_limiter { priority: 1 } }", "instance_group.rate_limiter has no effect"),
    ("dynamic_batching { max_queue_delay_microseconds: 100 }", "batching is greedy"),
    ("sequence_batching { oldest { max_queue_delay_microseconds: 9 } }", "batching is greedy"),
    ("response_cache { enable: true }", "response_cache has no effect"),
    ('parameters { key: "gpu_mem_limit" value { string_value: "1" } }', "'gpu_mem_limit' has no effect without a GPU"),
    ('parameters { key: "magic" value { string_value: "1" } }', "'magic' is not known and has no effect"),
    ('optimization { execution_accelerators { gpu_execution_accelerator { name: "tensorrt" } } }', "'tensorrt'"),
)
REFUSED = (
    ("input { name: 'x' allow_ragged_batch: true }", "input 'x' allow_ragged_batch is not served"),
    ("sequence_batching { state { input_name: 'past' } }", r"sequence_batching.state \('past'\) is not served"),
    ("sequence_batching { iterative_sequence: true }", "iterative_sequence is not served"),
    ("model_operations { op_library_filename: 'ops.so' }", "op_library_filename is not served"),
    ("model_repository_agents { agents { name: 'checksum' } }", r"model_repository_agents \('checksum'\)"),
    ("batch_input { kind: BATCH_ELEMENT_COUNT }", "batch_input is not served"),
)


@pytest.mark.parametrize(("text", "sentence"), WARNED)
def test_a_field_without_effect_is_warned_of_by_name(text: str, sentence: str) -> None:
    found = review(parse_text(f'backend: "onnxruntime" {text}'.encode()))
    assert not found.refusals
    assert len(found.warnings) == 1
    assert sentence in found.warnings[0]


@pytest.mark.parametrize(("text", "sentence"), REFUSED)
def test_a_field_that_would_change_answers_is_refused_by_name(text: str, sentence: str) -> None:
    found = review(parse_text(f'backend: "onnxruntime" {text}'.encode()))
    assert len(found.refusals) == 1
    with pytest.raises(AssertionError, match=sentence):
        raise AssertionError(found.refusals[0])


@pytest.mark.parametrize("backend", ["tensorrt", "pytorch", "tensorflow", "openvino", "dali", "vllm"])
def test_another_backend_is_refused_with_what_to_do(backend: str) -> None:
    (sentence,) = review(ModelConfig(backend=backend)).refusals
    assert sentence.startswith(f"backend '{backend}' is not served here: ")
    assert any(word in sentence for word in ("onnxruntime", "remote", "bytes"))


@pytest.mark.parametrize("backend", ["onnxruntime", "python", "remote"])
def test_our_backends_and_ensembles_are_served(backend: str) -> None:
    assert review(ModelConfig(backend=backend)) == review(ModelConfig(platform="ensemble"))


def test_warnings_are_as_many_as_a_person_reads() -> None:
    message = ModelConfig(backend="onnxruntime")
    for number in range(60):
        message.parameters[f"p{number}"].string_value = "x"
    warnings = review(message).warnings
    assert len(warnings) == 51
    assert warnings[-1] == "and 10 more"


# ---- no field is passed over in silence ----

SERVED = (
    *("name", "platform", "backend", "version_policy", "max_batch_size", "default_model_filename"),
    *("input.name", "input.data_type", "input.format", "input.dims", "input.reshape", "input.optional"),
    *("output.name", "output.data_type", "output.dims", "output.reshape", "output.label_filename"),
    *("optimization.graph", "optimization.input_pinned_memory", "optimization.output_pinned_memory"),
    *("dynamic_batching.preferred_batch_size", "dynamic_batching.preserve_ordering"),
    *("dynamic_batching.priority_levels", "dynamic_batching.default_priority_level"),
    *("dynamic_batching.default_queue_policy", "dynamic_batching.priority_queue_policy"),
    *("sequence_batching.max_sequence_idle_microseconds", "sequence_batching.control_input"),
    *("sequence_batching.oldest.max_candidate_sequences", "sequence_batching.oldest.preferred_batch_size"),
    *("ensemble_scheduling.step.model_name", "ensemble_scheduling.step.model_version"),
    *("ensemble_scheduling.step.input_map", "ensemble_scheduling.step.output_map"),
    *("instance_group.name", "instance_group.count", "instance_group.kind"),
    *("model_warmup", "model_transaction_policy"),
)
"""Fields that have the effect they have in Triton; the tests of completion hold it."""


def leaves(descriptor: Descriptor, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for field in descriptor.fields:
        inner = field.message_type
        if inner is None or inner.GetOptions().map_entry:
            yield (*path, field.name)
        else:
            yield from leaves(inner, (*path, field.name))


def with_leaf(path: tuple[str, ...]) -> ModelConfig:
    """A configuration with this field alone set to something."""
    message = ModelConfig(backend="onnxruntime")
    place: Any = message
    for name in path[:-1]:
        field = place.DESCRIPTOR.fields_by_name[name]
        place = getattr(place, name).add() if field.is_repeated else getattr(place, name)
        if not field.is_repeated:
            place.SetInParent()
    field = place.DESCRIPTOR.fields_by_name[path[-1]]
    if field.message_type is not None:
        entry = field.message_type.fields_by_name
        value = entry["value"]
        key = 1 if entry["key"].cpp_type == FieldDescriptor.CPPTYPE_UINT64 else "key"
        target = getattr(place, path[-1])
        if value.message_type is None:
            target[key] = "value"
        else:
            target[key].SetInParent()
    else:
        numeric = field.cpp_type != FieldDescriptor.CPPTYPE_STRING
        given = 1 if numeric else "text"
        setting = [given] if field.is_repeated else given
        if field.is_repeated:
            getattr(place, path[-1]).extend(setting)
        else:
            setattr(place, path[-1], setting)
    return message


def is_said(message: ModelConfig) -> bool:
    """Whether serving it warns, refuses, or gives Triton's sentence."""
    found = review(message)
    if found.refusals or found.warnings:
        return True
    try:
        message.name, message.platform = message.name or "m", message.platform or "onnxruntime_onnx"
        check_config(message)
        tensors: list[Any] = [*message.input, *message.output]
        for tensor in tensors:
            tensor.name, tensor.data_type = "x", 11
            tensor.dims.extend([1, 1, 1])
        check_tensors(message)
    except BadPackage:
        return True
    return False


@pytest.mark.parametrize("path", list(leaves(ModelConfig.DESCRIPTOR)), ids=".".join)
def test_every_field_is_served_or_spoken_of(path: tuple[str, ...]) -> None:
    name = ".".join(path)
    if any(name == served or name.startswith(f"{served}.") for served in SERVED):
        return
    message = with_leaf(path)
    assert is_said(message), f"{name} would be passed over in silence"


def test_a_configuration_as_triton_answers_it_has_nothing_to_be_warned_of() -> None:
    message = parse_text(b'name: "m" backend: "onnxruntime" platform: "onnxruntime_onnx" dynamic_batching {}')
    normalise(message)
    assert review(message) == review(ModelConfig(backend="onnxruntime"))


# ---- Triton's own checks ----

CONTROL = "sequence_batching {{ control_input {{ name: 'c' control {{ kind: {kind} {values} }} }} }}"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("max_batch_size: -1", "'max_batch_size' must be non-negative value for m"),
        ("dynamic_batching { preferred_batch_size: 0 }", "dynamic batching preferred size must be positive for m"),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }",
            "dynamic batching preferred size must be <= max batch size for m",
        ),
        ("dynamic_batching { priority_levels: 2 }", r"default priority level must be in range \[1, 2\] for m"),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 } }",
            r"priority queue policy must have priority level in range \[1, 2\] for m",
        ),
        (
            "dynamic_batching { preserve_ordering: true priority_levels: 2 default_priority_level: 1 }",
            "Only one priority level is allowed when 'preserve_ordering' is true for m",
        ),
        (
            "dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY "
            "default_timeout_microseconds: 1 } }",
            "Queue policy can not have DELAY as timeout action",
        ),
        (CONTROL.format(kind="CONTROL_SEQUENCE_START", values=""), "must specify either 'int32_false_true'"),
        (
            CONTROL.format(kind="CONTROL_SEQUENCE_END", values="int32_false_true: 1"),
            "'int32_false_true' must have exactly 2 entries for CONTROL_SEQUENCE_END for m",
        ),
        (
            CONTROL.format(
                kind="CONTROL_SEQUENCE_READY", values="int32_false_true: [0,1] bool_false_true: [false,true]"
            ),
            "specifies more than one from",
        ),
        (
            CONTROL.format(kind="CONTROL_SEQUENCE_CORRID", values="data_type: TYPE_FP32"),
            "unexpected data type for control CONTROL_SEQUENCE_CORRID for m",
        ),
        ("sequence_batching { control_input { } }", "sequence batching control tensor must have a name for m"),
        (
            "sequence_batching { direct { minimum_slot_utilization: 2 } }",
            "sequence batching minimum slot utilization must be in range",
        ),
        ("instance_group { kind: KIND_CPU gpus: 0 }", "instance group m_0 of model m has kind KIND_CPU but specifies"),
        ("platform: 'tensorrt_plan'", "unexpected 'platform' and 'backend' pair, got:tensorrt_plan, onnxruntime"),
    ],
)
def test_what_triton_refuses_is_refused_in_its_words(text: str, sentence: str) -> None:
    message = parse_text(f'name: "m" backend: "onnxruntime" {text}'.encode())
    message.platform = message.platform or "onnxruntime_onnx"
    with pytest.raises(BadPackage, match=sentence):
        check_config(message)


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        ("dims: 1 data_type: TYPE_FP32", "model input must specify 'name' for m"),
        ("name: 'x' dims: 1", "model input 'x' must specify 'data_type' for m"),
        ("name: 'x' data_type: TYPE_FP32", "model input 'x' must specify 'dims' for m"),
        (f"name: 'x' data_type: TYPE_FP32 dims: {[1] * 17}", "model input 'x' has more than 16 dimensions for m"),
        ("name: 'x' data_type: TYPE_FP32 dims: 0", "model input 'x' dimension must be integer >= 1, or -1"),
        (
            "name: 'x' data_type: TYPE_FP32 dims: 4 reshape { shape: [ 2, 3 ] }",
            "has different size for dims and reshape",
        ),
        ("name: 'x' data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 2, 6 ] }", "different size"),
        ("name: 'x' data_type: TYPE_FP32 dims: [ -1, -1 ] reshape { shape: [ -1 ] }", "different number of variable"),
        ("name: 'x' data_type: TYPE_FP32 dims: 1 reshape { }", "cannot have empty reshape for non-batching model"),
        ("name: 'x' data_type: TYPE_UINT8 dims: 3 format: FORMAT_NCHW", "model input NHWC/NCHW require 3 dims"),
        ("name: 'x' data_type: TYPE_FP32 dims: [ 4611686018427387904, 4 ]", "more elements than can be counted"),
    ],
)
def test_a_tensor_that_triton_refuses_is_refused_in_its_words(tensor: str, sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        check_tensors(parse_text(f'name: "m" input {{ {tensor} }}'.encode()))


def test_a_reshape_with_open_dimensions_keeps_the_counts_between_them() -> None:
    text = (
        b"name: 'm' input { name: 'x' data_type: TYPE_FP32 dims: [ 2, 4, -1, 6 ] reshape { shape: [ 8, -1, 1, 6 ] } }"
    )
    check_tensors(parse_text(text))
