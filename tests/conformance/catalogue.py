"""The models of the conformance suite: SCRIPTS are the seven that tritonclient's example scripts ask for, REPEAT the
eighth, and MORE what the table of requests needs beside them.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from tests.conformance import computations, graphs
from tests.conformance.models import Model, Tensor, Version, program, single

DATATYPES: Final = tuple(datatype for datatype in graphs.TYPES if datatype not in ("FP16", "BF16"))
"""Those with typed contents in gRPC; FP16 and BF16 have a model each."""
LABELS: Final = ("zero", "one", "two", "three", "four")


def _pair(names: tuple[str, str], datatype: str, dims: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(Tensor(name, datatype, dims) for name in names)


def _two(datatype: str, size: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    return _pair(("INPUT0", "INPUT1"), datatype, (size,)), _pair(("OUTPUT0", "OUTPUT1"), datatype, (size,))


def _control(name: str, kind: str) -> str:
    return f'{{ name: "{name}" control [ {{ kind: CONTROL_SEQUENCE_{kind} int32_false_true: [ 0, 1 ] }} ] }}'


def _corrid(datatype: str) -> str:
    return f'{{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: {datatype} }} ] }}'


def _sequences(strategy: str, *controls: str, idle_us: int = 5_000_000) -> str:
    return f"""sequence_batching {{
  max_sequence_idle_microseconds: {idle_us}
  {strategy}
  control_input [ {", ".join(controls)} ]
}}"""


START, END, READY = _control("START", "START"), _control("END", "END"), _control("READY", "READY")
OLDEST = "oldest { max_candidate_sequences: 16 }"
VALUE = (Tensor("INPUT", "INT32", (1,)),), (Tensor("OUTPUT", "INT32", (1,)),)

SIMPLE: Final = Model(
    "simple",
    *_two("INT32", 16),
    versions=single(partial(graphs.sum_and_difference, "INT32", 16), computations.sum_and_difference),
)
SCRIPTS: Final = (
    SIMPLE,
    Model(
        "simple_int8",
        *_two("INT8", 16),
        versions=single(partial(graphs.sum_and_difference, "INT8", 16), computations.sum_and_difference),
    ),
    Model(
        "simple_string",
        *_two("BYTES", 16),
        versions=single(partial(graphs.string_sum_and_difference, 16), computations.string_sum_and_difference),
    ),
    Model(
        "simple_identity",
        (Tensor("INPUT0", "BYTES", (-1,)),),
        (Tensor("OUTPUT0", "BYTES", (-1,)),),
        versions=single(partial(graphs.identity, [("0", "BYTES")], "size"), computations.identity),
    ),
    Model(
        "simple_sequence",
        *VALUE,
        extra=_sequences("direct { }", START, READY),
        versions=single(graphs.marked_start, computations.marked_start),
    ),
    Model(
        "simple_dyna_sequence",
        *VALUE,
        extra=_sequences(OLDEST, START, END, READY, _corrid("TYPE_UINT64")),
        versions=single(graphs.marked_start_and_end, computations.marked_start_and_end),
    ),
    Model(
        "simple_string_dyna_sequence",
        *VALUE,
        extra=_sequences(OLDEST, START, END, READY, _corrid("TYPE_STRING")),
        # Triton pads a CORRID of strings in a way that its own Python backend refuses; the program asks the request.
        oracle_extra=_sequences(OLDEST, START, END, READY),
        versions=program("string_sequence.py"),
    ),
)

REPEAT: Final = Model(
    "repeat_int32",
    (Tensor("IN", "INT32", (-1,)), Tensor("DELAY", "UINT32", (-1,)), Tensor("WAIT", "UINT32", (1,))),
    (Tensor("OUT", "INT32", (1,)), Tensor("IDX", "UINT32", (1,))),
    max_batch_size=0,
    extra="model_transaction_policy { decoupled: true }",
    versions=program("repeat.py"),
)

MORE: Final = (
    Model(
        "square_int32",
        (Tensor("IN", "INT32", (1,)),),
        (Tensor("OUT", "INT32", (1,)),),
        max_batch_size=0,
        extra="model_transaction_policy { decoupled: true }",
        versions=program("square.py"),
    ),
    Model(
        "pictures",
        (Tensor("IMAGE", "FP32", (3, 8, 8), "format: FORMAT_NCHW"),),
        (Tensor("SCORES", "FP32", (5,), 'label_filename: "labels.txt"'),),
        extra="dynamic_batching { }",
        versions=single(graphs.class_scores, computations.class_scores),
        files={"labels.txt": "\n".join(LABELS).encode() + b"\n"},
    ),
    *(
        Model(
            f"identity_{datatype.lower()}",
            (Tensor("INPUT0", datatype, (-1,)),),
            (Tensor("OUTPUT0", datatype, (-1,)),),
            versions=single(partial(graphs.identity, [("0", datatype)], "size"), computations.identity),
        )
        for datatype in ("FP16", "BF16")
    ),
    Model(
        "every_datatype",
        tuple(Tensor(f"INPUT_{datatype}", datatype, (2,)) for datatype in DATATYPES),
        tuple(Tensor(f"OUTPUT_{datatype}", datatype, (2,)) for datatype in DATATYPES),
        versions=single(
            partial(graphs.identity, [(f"_{datatype}", datatype) for datatype in DATATYPES], 2), computations.identity
        ),
    ),
    Model(
        "chained",
        _pair(("FIRST", "SECOND"), "INT32", (16,)),
        _pair(("TOTAL", "REST"), "INT32", (16,)),
        ensemble=True,
        extra="""ensemble_scheduling { step [
  { model_name: "simple" model_version: -1
    input_map { key: "INPUT0" value: "FIRST" } input_map { key: "INPUT1" value: "SECOND" }
    output_map { key: "OUTPUT0" value: "sum" } output_map { key: "OUTPUT1" value: "REST" } },
  { model_name: "simple" model_version: -1
    input_map { key: "INPUT0" value: "sum" } input_map { key: "INPUT1" value: "SECOND" }
    output_map { key: "OUTPUT0" value: "TOTAL" } }
] }""",
        versions={1: Version()},
    ),
    Model(
        "with_default",
        (Tensor("INPUT", "FP32", (4,)), Tensor("BIAS", "FP32", (4,), "optional: true")),
        (Tensor("OUTPUT", "FP32", (4,)),),
        versions=single(partial(graphs.sum_with_default, 4, 10.0), computations.sum_with_default),
    ),
    Model(
        "reshaped",
        (
            Tensor("MATRIX", "FP32", (4,), "reshape { shape: [ 2, 2 ] }"),
            Tensor("SCALE", "FP32", (1,), "reshape { shape: [ ] }"),
        ),
        (Tensor("TURNED", "FP32", (4,), "reshape { shape: [ 2, 2 ] }"),),
        versions=single(graphs.transposed, computations.transposed),
    ),
    Model(
        "flexible",
        (Tensor("INPUT", "FP32", (-1, -1)),),
        (Tensor("OUTPUT", "FP32", (-1, -1)), Tensor("SHAPE", "INT64", (2,))),
        max_batch_size=0,
        versions=single(graphs.doubled, computations.doubled),
    ),
    Model(
        "unbatched",
        *_two("INT32", 4),
        max_batch_size=0,
        versions=single(partial(graphs.sum_and_difference, "INT32", 4, False), computations.sum_and_difference),
    ),
    Model(
        "picky",
        (Tensor("INDEX", "INT64", (1,)),),
        (Tensor("OUTPUT", "INT64", (1,)),),
        max_batch_size=0,
        versions=single(graphs.picked, computations.picked),
    ),
    Model(
        "versioned",
        (Tensor("INPUT", "INT32", (2,)),),
        (Tensor("OUTPUT", "INT32", (2,)),),
        extra="version_policy: { all { } }",
        versions={
            1: Version(partial(graphs.plus, 1), computations.plus_one),
            3: Version(partial(graphs.plus, 3), computations.plus_three),
        },
    ),
    Model(
        "prioritised",
        *_two("INT32", 16),
        extra="""dynamic_batching {
  priority_levels: 3
  default_priority_level: 2
  default_queue_policy { timeout_action: REJECT allow_timeout_override: true max_queue_size: 64 }
}""",
        versions=single(partial(graphs.sum_and_difference, "INT32", 16), computations.sum_and_difference),
    ),
    Model(
        "raw_body",
        (Tensor("INPUT", "INT32", (2,)),),
        (Tensor("OUTPUT", "INT32", (2,)),),
        versions=single(partial(graphs.plus, 1), computations.plus_one),
    ),
    # Nobody else may ask these, since their statistics are compared; the others are unloaded and loaded.
    *(
        Model(
            name,
            *_two("INT32", 16),
            versions=single(partial(graphs.sum_and_difference, "INT32", 16), computations.sum_and_difference),
        )
        for name in ("counted", "counted_http", "controlled")
    ),
    Model(
        "unconfigured",
        *_two("INT32", 16),
        configured=False,
        # Without a batch dimension, or onnxruntime's backend would complete max_batch_size and Python's would not.
        versions=single(partial(graphs.sum_and_difference, "INT32", 16, False), computations.sum_and_difference),
    ),
    Model("broken", *_two("INT32", 16), versions={1: Version(program="broken.py", garbage=True)}),
)
EVERY: Final = (*SCRIPTS, REPEAT, *MORE)
"""All of them; `broken` is the only one that must not become ready."""
