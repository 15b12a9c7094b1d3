"""Requests that must be answered, each in every encoding."""

from __future__ import annotations

from typing import Final

from tests.conformance.cases import (
    Case,
    case,
    get,
    grpc_call,
    infer_path,
    infer_request,
    json_input,
    on_every_road,
    post,
)
from tests.conformance.table.inputs import NUMBERS, ONES, PAIR, every_datatype, pair, pictures, texts, value
from tests.conformance.tensors import Input

MATRIX: Final = (
    Input("MATRIX", "FP32", (2, 4), [float(x) for x in range(8)]),
    Input("SCALE", "FP32", (2, 1), [1.0, 10.0]),
)
PLAIN: Final = Input("INPUT", "FP32", (1, 4), [1.0, 2.0, 3.0, 4.0])
BIAS: Final = Input("BIAS", "FP32", (1, 4), [1.0] * 4)
WHOLE: Final = {"sequence_start": True, "sequence_end": True}

GOOD: Final[list[Case]] = [
    *on_every_road("simple", "simple", PAIR),
    *on_every_road("batch of two", "simple", pair(2)),
    *on_every_road("largest batch", "simple", pair(8)),
    *on_every_road("one output asked for", "simple", PAIR, outputs=["OUTPUT1"]),
    *on_every_road("outputs in another order", "simple", PAIR, outputs=["OUTPUT1", "OUTPUT0"]),
    *on_every_road("int8", "simple_int8", pair(1, "INT8")),
    *on_every_road(
        "numbers as strings",
        "simple_string",
        tuple(
            Input(f"INPUT{place}", "BYTES", (1, 16), [str(one).encode() for one in numbers])
            for place, numbers in enumerate((NUMBERS, ONES))
        ),
    ),
    *on_every_road("strings", "simple_identity", texts(b"ab", b"", "zwölf".encode())),
    *on_every_road("string with a NUL", "simple_identity", texts(b"a\0b", b"\0")),
    *on_every_road("no strings", "simple_identity", texts()),
    *on_every_road("every datatype", "every_datatype", every_datatype()),
    *on_every_road("fp16", "identity_fp16", (Input("INPUT0", "FP16", (2, 3), [0.5, -1.0, 2.0, 65504.0, 0.0, 3.0]),)),
    *on_every_road("bf16", "identity_bf16", (Input("INPUT0", "BF16", (2, 3), [0.5, -1.0, 2.0, 128.0, 0.0, 3.0]),)),
    *on_every_road("scores", "pictures", pictures(3.0, 4.0)),
    *on_every_road("reshape", "reshaped", MATRIX),
    *on_every_road("any two dimensions", "flexible", (Input("INPUT", "FP32", (2, 3), [float(x) for x in range(6)]),)),
    *on_every_road("a dimension of nothing", "flexible", (Input("INPUT", "FP32", (0, 3), []),)),
    *on_every_road(
        "no batch dimension",
        "unbatched",
        (
            Input("INPUT0", "INT32", (4,), [1, 2, 3, 4]),
            Input("INPUT1", "INT32", (4,), [1, 1, 1, 1]),
        ),
    ),
    *on_every_road("optional input left out", "with_default", (PLAIN,)),
    *on_every_road("optional input sent", "with_default", (PLAIN, BIAS)),
    *on_every_road(
        "completed configuration",
        "unconfigured",
        tuple(Input(one.name, one.datatype, (16,), one.values) for one in PAIR),
    ),
    *on_every_road(
        "ensemble",
        "chained",
        (
            Input("FIRST", "INT32", (1, 16), NUMBERS),
            Input("SECOND", "INT32", (1, 16), ONES),
        ),
    ),
    *on_every_road(
        "ensemble, one output",
        "chained",
        (
            Input("FIRST", "INT32", (1, 16), NUMBERS),
            Input("SECOND", "INT32", (1, 16), ONES),
        ),
        outputs=["TOTAL"],
    ),
    *on_every_road("newest version", "versioned", (Input("INPUT", "INT32", (1, 2), [1, 2]),)),
    *on_every_road("whole sequence", "simple_sequence", value(5), parameters={"sequence_id": 901, **WHOLE}),
    *on_every_road(
        "whole sequence, string id", "simple_sequence", value(5), parameters={"sequence_id": "s-1", **WHOLE}
    ),
    *on_every_road(
        "whole dynamic sequence", "simple_dyna_sequence", value(5), parameters={"sequence_id": 902, **WHOLE}
    ),
    *on_every_road(
        "whole dynamic sequence, string id",
        "simple_string_dyna_sequence",
        value(5),
        parameters={"sequence_id": "903", **WHOLE},
    ),
    *on_every_road("priority where there are levels", "prioritised", PAIR, parameters={"priority": 1}),
    *on_every_road("priority beyond the levels", "prioritised", PAIR, parameters={"priority": 9}),
    *on_every_road("priority where there are none", "simple", PAIR, parameters={"priority": 3}),
    *on_every_road("ample timeout", "prioritised", PAIR, parameters={"timeout": 10_000_000}),
    *on_every_road("tiny timeout without a queue policy", "simple", PAIR, parameters={"timeout": 1}),
    *on_every_road("unknown parameters", "simple", PAIR, parameters={"colour": "red", "size": 3, "deep": True}),
    *on_every_road("sequence parameters of a plain model", "simple", PAIR, parameters={"sequence_id": 5, **WHOLE}),
    *(
        case(f"grpc/{algorithm}", grpc_call(infer_request("simple", PAIR), algorithm))
        for algorithm in ("gzip", "deflate")
    ),
    case("grpc/request id", grpc_call(infer_request("simple", PAIR, id="camera 1/7"))),
    case(
        "grpc/version 1", grpc_call(infer_request("versioned", [Input("INPUT", "INT32", (1, 2), [1, 2])], version="1"))
    ),
    case("grpc/output asked for twice", grpc_call(infer_request("simple", PAIR, outputs=["OUTPUT0", "OUTPUT0"]))),
    case(
        "http/request id", post(infer_path("simple"), {"id": "camera 1/7", "inputs": [json_input(one) for one in PAIR]})
    ),
    case(
        "http/version 1",
        post(infer_path("versioned", "1"), {"inputs": [json_input(Input("INPUT", "INT32", (1, 2), [1, 2]))]}),
    ),
    case(
        "http/nested data",
        post(infer_path("simple"), {"inputs": [json_input(one) | {"data": [list(one.values)]} for one in PAIR]}),
    ),
    case("http/query is ignored", get("/v2/models/simple?x=1")),
]
