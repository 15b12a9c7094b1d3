"""What is filled into a configuration, from names and from the graph, is what Triton and its ONNX backend fill in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from google.protobuf import text_format
from inference.model_config_pb2 import ModelConfig as Message

from services.serving.domain.config import ControlKind, ModelConfig, QueuePolicy, VersionPolicy, WarmupInput
from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.completion import begin, complete
from services.serving.outbound.folder import ModelFiles
from services.serving.outbound.translation import Assets

IN = (TensorSpec("INPUT", "FP32", (-1, 3, -1)),)
OUT = (TensorSpec("OUTPUT", "FP32", (-1, 10)),)
FIXED = (TensorSpec("INPUT", "FP32", (1, 3)),)
WHOLE = """
    max_batch_size: 8
    input { name: "INPUT" data_type: TYPE_FP32 dims: [ 3, -1 ] }
    output { name: "OUTPUT" data_type: TYPE_FP32 dims: 10 }
"""


def files(config: str | None = None, name: str = "m", contents: Sequence[str] = ("model.onnx",)) -> ModelFiles:
    data = None if config is None else config.encode()
    return ModelFiles(name, data, None, versions={1: "a"}, fingerprint="f", contents=tuple(contents))


def served(
    config: str | None = None,
    inputs: Sequence[TensorSpec] = IN,
    outputs: Sequence[TensorSpec] = OUT,
    **options: Any,
) -> ModelConfig:
    return complete(begin(files(config)), inputs, outputs, **options)


def message(config: ModelConfig) -> Message:
    return Message.FromString(config.serialized)


# ---- from the files ----


def test_a_graph_alone_is_a_whole_model() -> None:
    config = served()
    expected = """
        name: "m" platform: "onnxruntime_onnx" backend: "onnxruntime" default_model_filename: "model.onnx"
        version_policy { latest { num_versions: 1 } }
        max_batch_size: 4
        input { name: "INPUT" data_type: TYPE_FP32 dims: [ 3, -1 ] }
        output { name: "OUTPUT" data_type: TYPE_FP32 dims: 10 }
        dynamic_batching { preferred_batch_size: 4 }
        instance_group { name: "m" kind: KIND_CPU count: 1 }
        optimization { input_pinned_memory { enable: true } output_pinned_memory { enable: true } }
    """
    assert message(config) == text_format.Parse(expected, Message())
    assert (config.backend, config.filename, config.max_batch_size) == ("onnxruntime", "model.onnx", 4)
    assert config.warnings[0].startswith("max_batch_size: 4 was filled in")


@pytest.mark.parametrize(
    ("text", "contents", "backend", "filename"),
    [
        ('platform: "onnxruntime_onnx"', [], "onnxruntime", "model.onnx"),
        ('backend: "onnxruntime"', [], "onnxruntime", "model.onnx"),
        ('default_model_filename: "model.onnx"', [], "onnxruntime", "model.onnx"),
        ('backend: "onnxruntime" default_model_filename: "net.onnx"', [], "onnxruntime", "net.onnx"),
        ("", ["model.onnx"], "onnxruntime", "model.onnx"),
        ("", ["model.py"], "python", "model.py"),
        ("", ["model.plan"], "tensorrt", "model.plan"),
        ("", ["model.savedmodel"], "tensorflow", "model.savedmodel"),
        ("", ["model.pt"], "pytorch", "model.pt"),
        ('platform: "pytorch_libtorch"', [], "pytorch", "model.pt"),
        ('backend: "remote"', [], "remote", ""),
        ('backend: "dali"', ["model.onnx"], "dali", ""),
    ],
)
def test_backend_and_file_are_known_from_each_other_or_from_the_first_version(
    text: str, contents: list[str], backend: str, filename: str
) -> None:
    partial = begin(files(text, contents=contents))
    assert (partial.backend, partial.filename) == (backend, filename)


def test_a_model_of_which_nothing_is_known_says_what_was_looked_for() -> None:
    with pytest.raises(BadPackage, match=r"names no backend, and its first version folder holds none of .*model.onnx"):
        begin(files(contents=["weights.bin"]))


def test_a_name_must_be_that_of_the_folder() -> None:
    with pytest.raises(BadPackage, match="unexpected directory name 'm' for model 'other'"):
        begin(files('name: "other"'))


def test_what_is_not_served_stops_the_model_with_every_reason() -> None:
    partial = begin(files('backend: "onnxruntime" model_operations { op_library_filename: "x" } batch_output {}'))
    with pytest.raises(BadPackage, match=r"batch_output is not served.*; model_operations.op_library_filename"):
        complete(partial, IN, OUT)


def test_a_refusal_that_quotes_a_name_of_any_length_ends() -> None:
    ensemble = """
        platform: "ensemble"
        input [{{ name: "a" data_type: TYPE_FP32 dims: 1 }}, {{ name: "{0}" data_type: TYPE_FP32 dims: 1 }}]
        output {{ name: "c" data_type: TYPE_FP32 dims: 1 }}
        ensemble_scheduling {{
            step {{
                model_name: "x" model_version: -1
                input_map {{ key: "i" value: "a" }} output_map {{ key: "o" value: "c" }}
            }}
        }}
    """
    with pytest.raises(BadPackage, match=r"ensemble input 'x+\.\.\.$") as refusal:
        begin(files(ensemble.format("x" * 20_000)))
    assert len(str(refusal.value)) < 10_000


@pytest.mark.parametrize("text", ['backend: "{}"', 'parameters {{ key: "{}" }}'])
def test_names_of_any_length_make_no_endless_sentence(text: str) -> None:
    review = begin(files(text.format("x" * 20_000))).review
    sentences = (*review.refusals, *review.warnings)
    assert sentences
    assert all(len(sentence) < 500 for sentence in sentences)


def test_an_override_replaces_the_file() -> None:
    partial = begin(files("max_batch_size: 8"), b'{"max_batch_size": 2, "backend": "onnxruntime"}')
    assert complete(partial, IN, OUT).max_batch_size == 2
    with pytest.raises(BadPackage, match="config: 'bogus'"):
        begin(files(), b'{"bogus": 2}')


def test_strictness_wants_a_whole_configuration() -> None:
    with pytest.raises(BadPackage, match=r"has no config.pbtxt, and it is not completed"):
        begin(files(), strict=True)
    with pytest.raises(BadPackage, match="must name every output"):
        begin(files('backend: "onnxruntime" input { name: "INPUT" data_type: TYPE_FP32 dims: 3 }'), strict=True)
    partial = begin(files(WHOLE), strict=True)
    assert complete(partial, IN, OUT, strict=True).max_batch_size == 8


# ---- from the graph ----


def test_nothing_is_filled_in_when_inputs_and_outputs_are_named() -> None:
    text = """
        input { name: "INPUT" data_type: TYPE_FP32 dims: [ -1, 3, -1 ] }
        output { name: "OUTPUT" data_type: TYPE_FP32 dims: [ -1, 10 ] }
    """
    config = served(text)
    assert config.max_batch_size == 0
    assert config.dynamic_batching is None
    assert config.warnings == ()


def test_only_the_missing_half_is_filled_in() -> None:
    text = 'max_batch_size: 2 output { name: "OUTPUT" data_type: TYPE_FP32 dims: 10 label_filename: "l.txt" }'
    config = served(text, assets=Assets({"l.txt": b"a\r\nb\n"}))
    assert [tensor.dims for tensor in config.inputs] == [(3, -1)]
    assert config.outputs[0].labels == ("a", "b")
    assert config.dynamic_batching is not None


def test_a_batch_size_that_is_given_is_kept_and_batching_turned_on() -> None:
    config = served("max_batch_size: 16")
    assert config.max_batch_size == 16
    assert config.dynamic_batching is not None
    assert config.dynamic_batching.preferred_batch_sizes == (16,)
    assert config.warnings == ()


def test_a_batch_of_one_needs_no_batching() -> None:
    assert served("max_batch_size: 1").dynamic_batching is None


@pytest.mark.parametrize("default", [0, 1, 32])
def test_the_default_batch_size_is_an_option(default: int) -> None:
    config = served(default_max_batch=default)
    assert config.max_batch_size == default
    assert (config.dynamic_batching is not None) == (default > 1)
    assert config.inputs[0].dims == ((3, -1) if default else (-1, 3, -1))


def test_a_graph_with_a_fixed_first_dimension_does_not_batch() -> None:
    config = served(None, FIXED, OUT)
    assert (config.max_batch_size, config.inputs[0].dims, config.outputs[0].dims) == (0, (1, 3), (-1, 10))
    with pytest.raises(BadPackage, match="model does not support batching while non-zero max_batch_size is specified"):
        served("max_batch_size: 8", FIXED, OUT)


def test_a_sequence_batcher_is_not_joined_by_a_dynamic_one() -> None:
    text = 'max_batch_size: 4 sequence_batching { direct {} } output { name: "OUTPUT" data_type: TYPE_FP32 dims: 10 }'
    config = served(text)
    assert config.dynamic_batching is None
    assert config.sequence_batching is not None
    assert config.sequence_batching.max_sequence_idle_us == 1_000_000


def test_a_tensor_without_dimensions_beyond_the_batch_is_a_row_of_one() -> None:
    config = served(None, IN, (TensorSpec("OUTPUT", "INT64", (-1,)),))
    assert (config.outputs[0].dims, config.outputs[0].reshape) == ((1,), ())
    scalar = served(None, FIXED, (TensorSpec("OUTPUT", "FP32", ()),))
    assert (scalar.outputs[0].dims, scalar.outputs[0].reshape) == ((1,), None)


@pytest.mark.parametrize(
    ("datatype", "name"),
    [
        ("BYTES", "TYPE_STRING"),
        ("BF16", "TYPE_BF16"),
        ("BOOL", "TYPE_BOOL"),
        ("FP64", "TYPE_FP64"),
        ("UINT8", "TYPE_UINT8"),
    ],
)
def test_datatypes_have_two_names(datatype: str, name: str) -> None:
    config = served(None, (TensorSpec("INPUT", datatype, (-1, 2)),), OUT)
    assert config.inputs[0].datatype == datatype
    assert text_format.MessageToString(message(config).input[0]).count(name) == 1


# ---- the graph against the configuration ----


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            ("TYPE_FP32 dims: [ 3", "TYPE_INT8 dims: [ 3"),
            "expects datatype TYPE_INT8 for input 'INPUT', model provides TYPE_FP32",
        ),
        (
            ("dims: 10", "dims: 9"),
            r"'OUTPUT': the model expects 2 dimensions \(shape \[-1,10\]\) but .* shape \[-1,9\]",
        ),
        (("dims: 10", "dims: -1"), r"complete shape \[-1,-1\]"),
        (("dims: [ 3, -1 ]", "dims: [ 4, -1 ]"), r"\[-1,3,-1\]\) but the model configuration specifies 3 dimensions"),
        (("dims: [ 3, -1 ]", "dims: [ 3 ]"), "specifies 2 dimensions"),
        (('"OUTPUT"', '"SCORES"'), "unexpected inference output 'SCORES', allowed outputs are: OUTPUT"),
        (('"INPUT"', '"IMAGE"'), "unexpected inference input 'IMAGE', allowed inputs are: INPUT"),
    ],
)
def test_a_graph_of_other_tensors_is_refused_in_tritons_words(change: tuple[str, str], sentence: str) -> None:
    assert served(WHOLE).max_batch_size == 8
    with pytest.raises(BadPackage, match=sentence):
        served(WHOLE.replace(*change))


def test_an_input_that_the_graph_leaves_open_may_be_fixed() -> None:
    assert served(WHOLE.replace("[ 3, -1 ]", "[ 3, 7 ]")).inputs[0].dims == (3, 7)


def test_a_graph_without_a_batch_cannot_be_said_to_batch() -> None:
    with pytest.raises(BadPackage, match=r"the first dimension must be -1; but shape expected by the model is \[1,3\]"):
        served(WHOLE, FIXED, OUT)


def test_every_input_of_the_graph_must_be_named() -> None:
    with pytest.raises(BadPackage, match="configuration expects 1 inputs, model provides 2"):
        served(WHOLE, (*IN, TensorSpec("MASK", "BOOL", (-1, 3))), OUT)


def test_an_optional_input_is_a_constant_that_may_be_replaced() -> None:
    text = WHOLE + 'input { name: "BIAS" data_type: TYPE_FP32 dims: 3 optional: true }'
    bias = TensorSpec("BIAS", "FP32", (-1, 3))
    config = served(text, overridable=(bias,))
    assert [tensor.optional for tensor in config.inputs] == [False, True]
    with pytest.raises(BadPackage, match="expects 1 inputs, model provides 2"):
        served(text, (*IN, bias), OUT)


def test_a_reshaped_tensor_is_compared_as_the_graph_sees_it() -> None:
    text = WHOLE.replace("dims: 10", "dims: [ 2, 5 ] reshape { shape: 10 }")
    assert (served(text).outputs[0].dims, served(text).outputs[0].reshape) == ((2, 5), (10,))


CONTROLS = """
    sequence_batching {
        max_sequence_idle_microseconds: 500
        control_input { name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ -1, 2 ] } }
        control_input { name: "ID" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_STRING } }
        oldest { max_candidate_sequences: 7 }
    }
"""
CONTROL_SPECS = (TensorSpec("START", "FP32", (-1, 1)), TensorSpec("ID", "BYTES", (-1, 1)))


def test_sequences_have_controls_that_no_client_sends() -> None:
    sequences = served(WHOLE + CONTROLS, (*IN, *CONTROL_SPECS), OUT).sequence_batching
    assert sequences is not None
    assert [(one.name, one.kind, one.datatype) for one in sequences.controls] == [
        ("START", ControlKind.START, "FP32"),
        ("ID", ControlKind.CORRID, "BYTES"),
    ]
    assert sequences.controls[0].false_true == (-1.0, 2.0)
    assert (sequences.strategy, sequences.max_candidate_sequences, sequences.max_sequence_idle_us) == ("oldest", 7, 500)
    assert sequences.preferred_batch_sizes == (8,)


@pytest.mark.parametrize(
    ("specs", "sentence"),
    [
        ((), "configuration specified sequence control 'START', but model does not provide that input"),
        ((TensorSpec("START", "FP32", (-1, 2)),), r"sequence control 'START' in model has dims \[2\] but dims \[1\]"),
        ((TensorSpec("START", "INT32", (-1, 1)),), "expects data-type INT32 but .* specifies data-type TYPE_FP32"),
    ],
)
def test_a_control_that_the_graph_has_not_is_refused(specs: tuple[TensorSpec, ...], sentence: str) -> None:
    with pytest.raises(BadPackage, match=sentence):
        served(WHOLE + CONTROLS, (*IN, *specs), OUT)


# ---- in serving's words ----


def test_priorities_and_queue_policies_are_carried_over() -> None:
    text = """
        dynamic_batching {
            preferred_batch_size: [ 4, 8 ] preserve_ordering: false max_queue_delay_microseconds: 100
            priority_levels: 3 default_priority_level: 2
            default_queue_policy { max_queue_size: 5 }
            priority_queue_policy {
                key: 1
                value { timeout_action: DELAY default_timeout_microseconds: 9 allow_timeout_override: true }
            }
        }
    """
    batching = served(WHOLE + text).dynamic_batching
    assert batching is not None
    assert (batching.preferred_batch_sizes, batching.max_queue_delay_us) == ((4, 8), 100)
    assert (batching.priority_levels, batching.default_priority_level) == (3, 2)
    assert batching.policy(1) == QueuePolicy(0, 9, True, True)
    assert batching.policy(2) == QueuePolicy(max_queue_size=5)


@pytest.mark.parametrize(
    ("text", "policy", "chosen"),
    [
        ("", VersionPolicy("latest", 1), [5]),
        ("version_policy { latest { num_versions: 2 } }", VersionPolicy("latest", 2), [3, 5]),
        ("version_policy { all {} }", VersionPolicy("all"), [1, 3, 5]),
        ("version_policy { specific { versions: [ 1, 4 ] } }", VersionPolicy("specific", specific=(1, 4)), [1]),
    ],
)
def test_the_version_policy_chooses_among_those_present(text: str, policy: VersionPolicy, chosen: list[int]) -> None:
    partial = begin(files(WHOLE + text))
    present = ModelFiles("m", b"", None, versions={5: "", 1: "", 3: ""}, fingerprint="")
    assert partial.version_policy == policy
    assert partial.versions(present) == chosen
    with pytest.raises(
        BadPackage, match="at least one version must be available under the version policy of model 'm'"
    ):
        partial.versions(ModelFiles("m", b"", None, versions={}, fingerprint=""))


def test_instances_are_counted_over_all_groups_that_take_requests() -> None:
    config = served(
        WHOLE + "instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_GPU gpus: 0 }, { passive: true } ]"
    )
    assert config.instances == 3
    groups = message(config).instance_group
    assert [(group.name, group.count, group.kind, list(group.gpus)) for group in groups[:2]] == [
        ("m_0", 2, 2, []),
        ("m_1", 1, 2, []),
    ]
    assert any("KIND_GPU" in warning for warning in config.warnings)
    assert served(WHOLE, default_instances=2).instances == 2


def test_the_rest_is_carried_over() -> None:
    text = """
        optimization { graph { level: -1 } } model_transaction_policy { decoupled: true }
        parameters { key: "intra_op_thread_count" value { string_value: "2" } }
        parameters { key: "session.use_env_allocators" value { string_value: "1" } }
    """
    config = served(WHOLE + text)
    assert (config.graph_level, config.decoupled) == (-1, True)
    assert config.parameters == {"intra_op_thread_count": "2", "session.use_env_allocators": "1"}
    assert config.warnings == ()
    assert served(WHOLE).graph_level is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("intra_op_thread_count", "many"),
        ("execution_mode", "2"),
        ("enable_mem_arena", "maybe"),
        ("inter_op_thread_count", "-1"),
    ],
)
def test_a_parameter_that_onnxruntime_would_not_take_is_named(key: str, value: str) -> None:
    text = f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
    with pytest.raises(BadPackage, match=f"parameters '{key}' is '{value}'"):
        served(WHOLE + text)


def test_labels_are_one_a_line() -> None:
    text = WHOLE.replace("dims: 10", 'dims: 10 label_filename: "labels/l.txt"')
    partial = begin(files(text))
    assert partial.label_files == ["labels/l.txt"]
    assert complete(partial, IN, OUT, assets=Assets({"labels/l.txt": b"cat\n\ndog"})).outputs[0].labels == (
        "cat",
        "",
        "dog",
    )
    with pytest.raises(BadPackage, match="is not UTF-8"):
        complete(partial, IN, OUT, assets=Assets({"labels/l.txt": b"\xff"}))


WARMUP = 'model_warmup {{ name: "w" batch_size: {rows} count: {count} inputs {{ key: "INPUT" value {{ {value} }} }} }}'


def warmed(value: str, rows: int = 2, count: int = 0, **data: bytes) -> ModelConfig:
    text = WHOLE + WARMUP.format(rows=rows, count=count, value=value)
    return served(text, assets=Assets({f"warmup/{name}": item for name, item in data.items()}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("zero_data: true", WarmupInput("FP32", (3, 2), "zero")),
        ("random_data: true", WarmupInput("FP32", (3, 2), "random")),
        ('input_data_file: "raw"', WarmupInput("FP32", (3, 2), "file", b"x" * 24)),
    ],
)
def test_a_warm_up_says_how_its_inputs_are_filled(value: str, expected: WarmupInput) -> None:
    config = warmed(f"data_type: TYPE_FP32 dims: [ 3, 2 ] {value}", count=3, raw=b"x" * 24)
    (warmup,) = config.warmups
    assert (warmup.name, warmup.batch_size, warmup.count) == ("w", 2, 3)
    assert warmup.inputs == {"INPUT": expected}
    assert begin(files(WHOLE + WARMUP.format(rows=1, count=1, value='input_data_file: "raw"'))).warmup_files == [
        "warmup/raw"
    ]


@pytest.mark.parametrize(
    ("value", "rows", "sentence"),
    [
        ("data_type: TYPE_FP32 dims: [ 3, -1 ] zero_data: true", 1, "needs data_type and dims without -1"),
        ("data_type: TYPE_FP32 dims: [ 3, 2 ]", 1, "needs zero_data, random_data or input_data_file"),
        ('data_type: TYPE_FP32 dims: [ 3, 2 ] input_data_file: "raw"', 1, "its file has 3 bytes; its dims need 24"),
        ("data_type: TYPE_FP32 dims: [ 3, 2 ] zero_data: true", 9, "batch_size 9 is above max_batch_size 8"),
        ("data_type: TYPE_FP32 dims: [ 30000, 30000 ] zero_data: true", 1, "at most"),
    ],
)
def test_a_warm_up_that_does_not_fit_is_refused(value: str, rows: int, sentence: str) -> None:
    with pytest.raises(BadPackage, match=f"model_warmup 'w': .*{sentence}"):
        warmed(value, rows, raw=b"abc")


# ---- models whose tensors are not in a file ----

TENSORS = 'input { name: "x" data_type: TYPE_FP32 dims: 1 } output { name: "y" data_type: TYPE_FP32 dims: 1 }'


@pytest.mark.parametrize("backend", ["python", "remote"])
def test_a_model_without_a_graph_is_what_its_configuration_says(backend: str) -> None:
    config = complete(begin(files(f'backend: "{backend}" {TENSORS}', contents=())))
    assert (config.backend, config.max_batch_size, config.inputs[0].dims) == (backend, 0, (1,))
    with pytest.raises(BadPackage, match="must name every input"):
        complete(begin(files(f'backend: "{backend}"', contents=())))


def test_a_remote_model_is_completed_from_what_the_remote_says() -> None:
    text = 'backend: "remote" parameters { key: "address" value { string_value: "other:8001" } }'
    config = complete(begin(files(text, contents=())), IN, OUT)
    assert config.parameters == {"address": "other:8001"}
    assert (config.max_batch_size, config.inputs[0].dims) == (4, (3, -1))
