"""Model configurations that are damaged, spliced or made at random: each is served or refused in a sentence.

`run(seconds)` is the target. For every input it checks that nothing but `BadPackage` comes out, that its sentence can
be sent (UTF-8, bounded), that what is accepted keeps its promises, that none takes long, and that memory stays flat.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from google.protobuf import json_format, text_format
from google.protobuf.descriptor import FieldDescriptor
from inference.model_config_pb2 import ModelConfig

from services.serving.domain.config import ModelConfig as Served
from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.completion import begin, complete
from services.serving.outbound.folder import ModelFiles
from services.serving.outbound.mlserver import identity, server_notes
from services.serving.outbound.pbtxt import parse_json
from services.serving.outbound.translation import Assets
from tests.fuzz.harness import Memory

SLOWEST_S: Final = 10.0
"""Of one input, on a machine that does other things too; a quadratic road would take far longer."""
WARM: Final = 10_000
"""Inputs until memory is expected to have settled."""
LONGEST: Final = 10_000
"""Characters of a refusal."""

TEXTS: Final = (
    'name: "m" platform: "onnxruntime_onnx" max_batch_size: 8\n'
    'input [ { name: "INPUT" data_type: TYPE_FP32 dims: [ 3, -1 ] format: FORMAT_NONE } ]\n'
    'output [ { name: "OUTPUT" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "labels.txt" } ]\n'
    "dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 priority_levels: 2\n"
    "  default_priority_level: 1 default_queue_policy { max_queue_size: 4 timeout_action: DELAY }\n"
    "  priority_queue_policy { key: 1 value { default_timeout_microseconds: 5 } } }\n"
    "instance_group [ { count: 2 kind: KIND_CPU } ] version_policy { specific { versions: [ 1, 3 ] } }\n",
    'backend: "onnxruntime" max_batch_size: 4 sequence_batching { max_sequence_idle_microseconds: 5\n'
    '  control_input [ { name: "S" control [ { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } ] } ]\n'
    '  control_input [ { name: "C" control [ { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } ] } ]\n'
    "  oldest { max_candidate_sequences: 4 preferred_batch_size: [ 2 ] } }\n"
    'model_warmup [ { name: "w" batch_size: 1 inputs { key: "INPUT" value { data_type: TYPE_FP32 dims: [ 3, 1 ]\n'
    '  input_data_file: "raw" } } } ] optimization { graph { level: -1 } }\n'
    'parameters { key: "intra_op_thread_count" value { string_value: "2" } }\n',
    'platform: "ensemble" input { name: "a" data_type: TYPE_FP32 dims: 1 } output { name: "c" data_type: TYPE_FP32\n'
    '  dims: 1 } ensemble_scheduling { step [ { model_name: "x" model_version: -1 input_map { key: "i" value: "a" }\n'
    '  output_map { key: "o" value: "b" } }, { model_name: "y" input_map { key: "i" value: "b" }\n'
    '  output_map { key: "o" value: "c" } } ] }\n',
    'backend: "python" input { name: "x" data_type: TYPE_STRING dims: -1 reshape { shape: [ -1, 1 ] } optional: true }'
    ' output { name: "y" data_type: TYPE_BF16 dims: [ 2, 2 ] } model_transaction_policy { decoupled: true }\n',
)
SETTINGS: Final = (
    '{"name": "m", "implementation": "models.Onnx", "parameters": {"uri": "./model.onnx", "version": "v1"}, '
    '"max_batch_size": 8, "max_batch_time": 0.1, '
    '"inputs": [{"name": "INPUT", "datatype": "FP32", "shape": [-1, 3, -1]}], '
    '"outputs": [{"name": "OUTPUT", "datatype": "FP32", "shape": [-1, 10]}]}',
)
WORDS: Final = (
    *(
        "{",
        "}",
        "[",
        "]",
        "<",
        ">",
        ":",
        '"',
        "'",
        ",",
        ";",
        "#",
        "\\",
        "\x00",
        "\ud7ff",
        "\U0010ffff",
        "\n",
        "{" * 500,
    ),
    *("-1", "0", "1e999", "nan", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "9" * 5000),
    *("true", "null", "TYPE_FP32", "TYPE_INVALID", "KIND_GPU", "[a.b/c.d]", "name", "input {", "dims: 0", '"\\377"'),
    *('"../../x"', '"\\x00"', "input [ {} ]", "reshape {}", '"' + "x" * 3000 + '"', "[" * 500, '{"a":' * 200),
)
GRAPHS: Final = (
    ((TensorSpec("INPUT", "FP32", (-1, 3, -1)),), (TensorSpec("OUTPUT", "FP32", (-1, 10)),)),
    ((TensorSpec("INPUT", "BYTES", (1,)),), (TensorSpec("OUTPUT", "BF16", ()),)),
    (
        (
            TensorSpec("INPUT", "FP32", (-1, 3, -1)),
            TensorSpec("S", "INT32", (-1, 1)),
            TensorSpec("C", "UINT64", (-1, 1)),
        ),
        (TensorSpec("OUTPUT", "FP32", (-1,)),),
    ),
    ((), ()),
)
ASSETS: Final = Assets({"labels.txt": b"a\nb\n", "warmup/raw": b"x" * 12})


def run(seconds: float, seed: int | None = None) -> int:
    """How many inputs it tried in so long. Raises `AssertionError` with the input and the seed that gave it."""
    seed = random.SystemRandom().getrandbits(32) if seed is None else seed
    rng, memory = random.Random(seed), Memory(seed, WARM)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        make = rng.choice(ROADS)
        data, check = make(rng)
        _try(data, check, rng, seed)
        memory.count()
    return memory.end()


Check = Callable[[bytes, random.Random], None]


def _try(data: bytes, check: Check, rng: random.Random, seed: int) -> None:
    began = time.process_time()
    try:
        check(data, rng)
    except BadPackage as error:
        sentence = str(error)
        assert 0 < len(sentence) <= LONGEST, f"a refusal of {len(sentence)} characters for {data!r}, seed {seed}"
        sentence.encode()
        error.field.encode()
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error} for {data!r}, seed {seed}") from error
    took = time.process_time() - began
    assert took < SLOWEST_S, f"{took:.1f} s for {data[:200]!r} of {len(data)} bytes, seed {seed}"


# ---- what is done with an input ----


def _check_text(data: bytes, rng: random.Random) -> None:
    _serve(ModelFiles("m", data, None, {1: "a", 3: "b"}, "f", ("model.onnx",)), None, rng)


def _check_json(data: bytes, rng: random.Random) -> None:
    _serve(ModelFiles("m", None, None, {1: "a"}, "f", ("model.onnx",)), data, rng)


def _check_settings(data: bytes, rng: random.Random) -> None:
    name = identity(data, "folder/m").name
    assert isinstance(name, str)
    if rng.random() < 0.1:
        server_notes(data)
    _serve(ModelFiles("m", None, data, {1: "a"}, "f", ("model.onnx", "other.onnx")), None, rng)


def _serve(files: ModelFiles, override: bytes | None, rng: random.Random) -> None:
    strict = rng.random() < 0.2
    partial = begin(files, override, strict=strict)
    for sentence in (*partial.review.refusals, *partial.review.warnings):
        sentence.encode()
    inputs, outputs = rng.choice(GRAPHS)
    _promises(complete(partial, inputs, outputs, assets=ASSETS, strict=strict), files)


def _promises(config: Served, files: ModelFiles) -> None:
    """What the rest of serving takes for granted of a configuration that was accepted."""
    message = ModelConfig.FromString(config.serialized)
    assert message.SerializeToString(deterministic=True) == config.serialized
    assert parse_json(json_format.MessageToJson(message, preserving_proto_field_name=True).encode()) == message
    assert config.name == files.name == message.name
    assert config.inputs
    assert config.outputs
    for tensor in (*config.inputs, *config.outputs):
        assert tensor.name
        assert tensor.datatype != "INVALID"
        assert tensor.dims
        assert all(size == -1 or size > 0 for size in tensor.dims)
    assert len({tensor.name for tensor in config.inputs}) == len(config.inputs)
    assert config.max_batch_size >= 0
    assert config.instances >= 1
    assert set(config.version_policy.chosen([1, 2, 3])) <= {1, 2, 3}
    assert bool(config.ensemble) == (config.backend == "ensemble")
    for warmup in config.warmups:
        assert warmup.count >= 1
        assert all(size > 0 for one in warmup.inputs.values() for size in one.dims)


# ---- where inputs come from ----


def _damaged_text(rng: random.Random) -> tuple[bytes, Check]:
    return _damaged(rng, TEXTS), _check_text


def _damaged_json(rng: random.Random) -> tuple[bytes, Check]:
    return _damaged(rng, JSONS), _check_json


def _damaged_settings(rng: random.Random) -> tuple[bytes, Check]:
    return _damaged(rng, SETTINGS), _check_settings


def _random_text(rng: random.Random) -> tuple[bytes, Check]:
    return text_format.MessageToString(_random_message(rng)).encode(), _check_text


def _random_json(rng: random.Random) -> tuple[bytes, Check]:
    text = json_format.MessageToJson(_random_message(rng), preserving_proto_field_name=rng.random() < 0.5)
    return text.encode(), _check_json


def _random_settings(rng: random.Random) -> tuple[bytes, Check]:
    document = json.loads(SETTINGS[0])
    for place in rng.sample((document["inputs"][0], document["parameters"], document), rng.randint(1, 3)):
        place[rng.choice((*place, "content_type", "cache_enabled"))] = copy.deepcopy(rng.choice(VALUES))
    return json.dumps(document).encode(), _check_settings


VALUES: Final[tuple[Any, ...]] = (None, True, -1, 0, 1 << 70, 1.5, "", "x", "v2", [], [[]], {}, {"a": {}}, ["x"], [{}])


def _damaged(rng: random.Random, seeds: tuple[str, ...]) -> bytes:
    data = bytearray(rng.choice(seeds).encode())
    for _ in range(rng.randint(1, 6)):
        rng.choice(DAMAGES)(rng, data, seeds)
    return bytes(data)


def _flip(rng: random.Random, data: bytearray, seeds: tuple[str, ...]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _cut(rng: random.Random, data: bytearray, seeds: tuple[str, ...]) -> None:
    start = rng.randint(0, len(data))
    del data[start : start + rng.randint(1, 40)]


def _repeat(rng: random.Random, data: bytearray, seeds: tuple[str, ...]) -> None:
    start = rng.randint(0, len(data))
    part = bytes(data[start : start + rng.randint(1, 200)])
    data[start:start] = part * rng.choice((1, 1, 2, 50))


def _insert(rng: random.Random, data: bytearray, seeds: tuple[str, ...]) -> None:
    place = rng.randint(0, len(data))
    data[place:place] = rng.choice(WORDS).encode()


def _splice(rng: random.Random, data: bytearray, seeds: tuple[str, ...]) -> None:
    other = rng.choice(seeds).encode()
    start = rng.randrange(len(other))
    place = rng.randint(0, len(data))
    data[place:place] = other[start : start + rng.randint(1, 300)]


def _replace_word(rng: random.Random, data: bytearray, seeds: tuple[str, ...]) -> None:
    words = bytes(data).split(b" ")
    words[rng.randrange(len(words))] = rng.choice(WORDS).encode()
    data[:] = b" ".join(words)


DAMAGES: Final = (_flip, _cut, _repeat, _insert, _splice, _replace_word)
ROADS: Final[tuple[Callable[[random.Random], tuple[bytes, Check]], ...]] = (
    *(_damaged_text, _damaged_text, _damaged_json, _damaged_settings, _random_text, _random_json, _random_settings),
)


def _random_message(rng: random.Random) -> ModelConfig:
    """A seed with fields of any kind set to anything."""
    message = ModelConfig()
    text_format.Parse(rng.choice(TEXTS), message)
    for _ in range(rng.randint(1, 4)):
        _set_something(rng, message)
    return message


def _set_something(rng: random.Random, message: Any) -> None:
    if not message.DESCRIPTOR.fields:
        return
    field = rng.choice(message.DESCRIPTOR.fields)
    if field.message_type is None:
        values = [_value(rng, field) for _ in range(rng.randint(0, 3))]
        if field.is_repeated:
            getattr(message, field.name).extend(values)
        elif values:
            setattr(message, field.name, values[0])
    elif field.message_type.GetOptions().map_entry:
        _set_entry(rng, getattr(message, field.name), field.message_type.fields_by_name)
    elif field.is_repeated:
        items = getattr(message, field.name)
        _set_something(rng, rng.choice(items) if items and rng.random() < 0.7 else items.add())
    else:
        inner = getattr(message, field.name)
        inner.SetInParent()
        if rng.random() < 0.9:
            _set_something(rng, inner)


def _set_entry(rng: random.Random, entries: Any, fields: Mapping[str, FieldDescriptor]) -> None:
    key = _value(rng, fields["key"])
    if fields["value"].message_type is None:
        entries[key] = _value(rng, fields["value"])
    else:
        _set_something(rng, entries[key])


def _value(rng: random.Random, field: FieldDescriptor) -> Any:
    kind = field.cpp_type
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return rng.choice(
            ("", "m", "INPUT", "OUTPUT", "a", "b", "../x", "labels.txt", "raw", "x" * 2000, "\x00", "é\n")
        )
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return rng.random() < 0.5
    if field.enum_type is not None:
        return rng.choice((*(value.number for value in field.enum_type.values), 99))
    if kind in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return rng.choice((0.0, 0.5, 2.0, -1.0, float("inf"), float("nan")))
    return rng.choice(WHOLE[kind])


WHOLE: Final[Mapping[int, tuple[int, ...]]] = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, 4, -1, 2**31 - 1, -(2**31)),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 4, 2**32 - 1),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, 3, -1, 2**63 - 1, -(2**63), 2**40),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 3, 2**64 - 1),
}
JSONS: Final = tuple(
    json_format.MessageToJson(text_format.Parse(text, ModelConfig()), preserving_proto_field_name=True)
    for text in TEXTS
)
