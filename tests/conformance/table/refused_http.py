"""Requests over HTTP that are malformed or do not fit the model, and odd ones that Triton takes all the same."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any, Final

from tests.conformance.cases import Case, binary_input, case, get, infer_path, json_input, post, post_binary
from tests.conformance.table.inputs import FIRST, PAIR, SECOND, pair, pictures, texts, value
from tests.conformance.tensors import Input

FIRST_JSON: Final = json_input(FIRST)
SECOND_JSON: Final = json_input(SECOND)
DOCUMENT: Final[dict[str, Any]] = {"inputs": [FIRST_JSON, SECOND_JSON]}
BLOB: Final = FIRST.raw() + SECOND.raw()
BINARY: Final = {"inputs": [binary_input(one) for one in PAIR]}


def whole(name: str, /, **changes: object) -> Case:
    """The good request of `simple`, with other top-level fields."""
    return case(f"http/{name}", post(infer_path("simple"), {**DOCUMENT, **changes}))


def first(name: str, /, **changes: object) -> Case:
    """The good request, with other fields of its first input."""
    return case(f"http/{name}", post(infer_path("simple"), {"inputs": [{**FIRST_JSON, **changes}, SECOND_JSON]}))


def without(field: str) -> Case:
    """The good request, with a field of its first input left out."""
    left = {key: given for key, given in FIRST_JSON.items() if key != field}
    return case(f"http/inputs/no {field}", post(infer_path("simple"), {"inputs": [left, SECOND_JSON]}))


def body(name: str, content: bytes, **headers: str) -> Case:
    """A body as it is."""
    named = {key.replace("_", "-"): given for key, given in headers.items()}
    return case(f"http/{name}", post(infer_path("simple"), content, named))


def sized(name: str, size: object) -> Case:
    """The binary request with another `binary_data_size` of its first input."""
    document = {"inputs": [binary_input(FIRST, size), binary_input(SECOND)]}
    return case(f"http/binary/{name}", post_binary("simple", document, BLOB))


def answered(name: str, model: str, inputs: tuple[Input, ...], *outputs: dict[str, Any], **more: object) -> Case:
    """JSON in, and these outputs asked for."""
    document = {"inputs": [json_input(one) for one in inputs], **({"outputs": outputs} if outputs else {}), **more}
    return case(f"http/{name}", post(infer_path(model), document))


JSON: Final = [
    body("JSON/empty body", b""),
    body("JSON/cut off", json.dumps(DOCUMENT).encode()[:-20]),
    body("JSON/an array", b"[]"),
    body("JSON/not UTF-8", b'{"id": "\xff\xfe", "inputs": []}'),
    body("JSON/deeply nested", b'{"inputs":' + b"[" * 2000 + b"]" * 2000 + b"}"),
    body("JSON/other content type", json.dumps(DOCUMENT).encode(), Content_Type="text/plain"),
    case("http/JSON/no inputs", post(infer_path("simple"), {})),
    whole("JSON/inputs null", inputs=None),
    whole("JSON/inputs an object", inputs={}),
    whole("JSON/inputs empty", inputs=[]),
    whole("JSON/inputs of numbers", inputs=[1, 2]),
    whole("JSON/outputs an object", outputs={}),
    whole("JSON/output without a name", outputs=[{}]),
    whole("JSON/unknown output", outputs=[{"name": "NOTHING"}]),
    whole("JSON/id a number", id=5),
    whole("JSON/unknown field", colour="red"),
    *(without(field) for field in ("name", "datatype", "shape", "data")),
]
VALUES: Final = [
    first("shape/a string", shape="x"),
    first("shape/of floats", shape=[1.5, 16]),
    first("shape/of strings", shape=["1", "16"]),
    first("shape/negative", shape=[-1, 16]),
    first("shape/another size", shape=[1, 15], data=[1] * 15),
    first("data/too few", data=[1, 2]),
    first("data/too many", data=[1] * 17),
    first("data/strings for numbers", data=["a"] * 16),
    first("data/floats for integers", data=[1.5] * 16),
    first("data/null", data=[None] * 16),
    first("data/booleans for integers", data=[True] * 16),
    first("data/a number", data=5),
    first("data/beyond 32 bits", data=[2**40] * 16),
    first("data/ragged", data=[list(range(10)), [1] * 6]),
    first("datatype/another", datatype="FP32"),
    first("datatype/unknown", datatype="COMPLEX"),
    first("inputs/unknown name", name="INPUT9"),
    first("inputs/name a number", name=5),
    case("http/inputs/missing", post(infer_path("simple"), {"inputs": [FIRST_JSON]})),
    case("http/inputs/doubled", post(infer_path("simple"), {"inputs": [FIRST_JSON, FIRST_JSON, SECOND_JSON]})),
    answered("shape/beyond the largest batch", "simple", pair(9)),
    answered("data/integers for floats", "with_default", (Input("INPUT", "FP32", (1, 4), [1, 2, 3, 4]),)),
    answered("strings/too few", "simple_identity", (Input("INPUT0", "BYTES", (1, 2), [b"a"]),)),
    answered("strings/numbers", "simple_identity", (Input("INPUT0", "BYTES", (1, 2), [1, 2]),)),
    answered("datatype/fp16 in JSON", "identity_fp16", (Input("INPUT0", "FP16", (1, 2), [1.0, 2.0]),)),
    case(
        "http/datatype/fp16 answered in JSON",
        post_binary(
            "identity_fp16",
            {"inputs": [binary_input(Input("INPUT0", "FP16", (1, 2), [1.0, 2.0]))]},
            b"\0\x3c\0\x40",
        ),
    ),
    case(
        "http/strings/not UTF-8, answered in JSON",
        post_binary(
            "simple_identity",
            {"inputs": [binary_input(texts(b"\xff\xfe")[0])]},
            texts(b"\xff\xfe")[0].raw(),
        ),
    ),
    case(
        "http/strings/content cut off",
        post_binary(
            "simple_identity",
            {"inputs": [binary_input(texts(b"a")[0], 5)]},
            b"\2\0\0\0a",
        ),
    ),
]
ROUTES: Final = [
    *(
        case(f"http/model/{name}", post(infer_path(model, version), DOCUMENT))
        for name, model, version in (
            *(("unknown", "nobody", ""), ("broken", "broken", ""), ("unknown version", "simple", "7")),
            *(
                ("version abc", "simple", "abc"),
                ("version 0", "simple", "0"),
                ("name with a slash", "simple%2Finfer", ""),
            ),
        )
    ),
    answered("model/fails while it runs", "picky", (Input("INDEX", "INT64", (1,), [9]),)),
    answered("model/decoupled", "square_int32", (Input("IN", "INT32", (1,), [2]),)),
]
PARAMETERS: Final = [
    whole(f"parameter/{name}", parameters={key: given})
    for name, key, given in (
        *(("an object", "deep", {}), ("an array", "deep", []), ("null", "deep", None), ("a double", "ratio", 0.5)),
        *(("reserved prefix", "triton_colour", 1), ("priority as text", "priority", "high")),
        *(
            ("priority below zero", "priority", -1),
            ("timeout as text", "timeout", "soon"),
            ("timeout tiny", "timeout", 1),
        ),
        *(("sequence id as a bool", "sequence_id", True), ("sequence start as text", "sequence_start", "yes")),
        *(("headers", "headers_x", "y"), ("binary_data_output as text", "binary_data_output", "yes")),
    )
] + [whole("parameter/not an object", parameters=[])]
BINARIES: Final = [
    case("http/binary/JSON answer", post_binary("simple", BINARY, BLOB)),
    case(
        "http/binary/one binary, one JSON",
        post_binary("simple", {"inputs": [binary_input(FIRST), SECOND_JSON]}, FIRST.raw()),
    ),
    case(
        "http/binary/one output binary",
        post_binary(
            "simple",
            {
                **BINARY,
                "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": True}}, {"name": "OUTPUT1"}],
            },
            BLOB,
        ),
    ),
    case(
        "http/binary/all but one output binary",
        post_binary(
            "simple",
            {
                **BINARY,
                "parameters": {"binary_data_output": True},
                "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": False}}, {"name": "OUTPUT1"}],
            },
            BLOB,
        ),
    ),
    case("http/binary/cut off", post_binary("simple", BINARY, BLOB[:-4])),
    case("http/binary/too long", post_binary("simple", BINARY, BLOB + b"1234")),
    sized("size too small", 60),
    sized("size below zero", -1),
    sized("size as text", "64"),
    case(
        "http/binary/size and data",
        post_binary(
            "simple",
            {
                "inputs": [{**binary_input(FIRST), "data": FIRST_JSON["data"]}, binary_input(SECOND)],
            },
            BLOB,
        ),
    ),
    case("http/binary/header beyond the body", post_binary("simple", BINARY, BLOB, shift=10_000)),
    case("http/binary/header too small", post_binary("simple", BINARY, BLOB, shift=-5)),
    case("http/binary/header too large", post_binary("simple", BINARY, BLOB, shift=5)),
    *(
        case(f"http/binary/header {said}", post_binary("simple", BINARY, BLOB, header=said))
        for said in ("-1", "abc", "0", "1e9")
    ),
    body("binary/no header", json.dumps(BINARY).encode() + BLOB),
    case(
        "http/raw body/one input",
        post(infer_path("raw_body"), Input("", "INT32", (2,), [1, 2]).raw(), {"Inference-Header-Content-Length": "0"}),
    ),
    case("http/raw body/two inputs", post(infer_path("simple"), FIRST.raw(), {"Inference-Header-Content-Length": "0"})),
]
COMPRESSED: Final = [
    *(
        found
        for algorithm, pack in (("gzip", gzip.compress), ("deflate", zlib.compress))
        for found in (
            body(f"compression/{algorithm}", pack(json.dumps(DOCUMENT).encode()), Content_Encoding=algorithm),
            body(f"compression/{algorithm} answer", json.dumps(DOCUMENT).encode(), Accept_Encoding=algorithm),
            body(f"compression/{algorithm}, broken", b"no such thing", Content_Encoding=algorithm),
        )
    ),
    *(
        body(f"compression/accepted: {said}", json.dumps(DOCUMENT).encode(), Accept_Encoding=said)
        for said in (
            "gzip, deflate",
            "gzip, deflate, br",
            "deflate, gzip;q=0.5",
            "gzip;q=0",
            "br, gzip",
            "*",
            "identity",
        )
    ),
    case("http/compression/of metadata", get("/v2/models/simple", **{"Accept-Encoding": "gzip"})),
    body("compression/of an error", b"{}", Accept_Encoding="gzip"),
    body("compression/identity", json.dumps(DOCUMENT).encode(), Content_Encoding="identity"),
    body("compression/unknown", json.dumps(DOCUMENT).encode(), Content_Encoding="br"),
]
CLASSES: Final = [
    answered(
        f"classification/{name}",
        "pictures",
        pictures(3.0, 4.0),
        {"name": "SCORES", "parameters": {"classification": given}},
    )
    for name, given in (("two", 2), ("more than there are", 99), ("none", 0), ("below zero", -1), ("as text", "2"))
] + [
    answered(
        "classification/binary",
        "pictures",
        pictures(3.0),
        {"name": "SCORES", "parameters": {"classification": 1, "binary_data": True}},
    ),
]
SEQUENCES: Final = [
    answered("sequence/no id", "simple_sequence", value(1)),
    answered("sequence/not started", "simple_sequence", value(1), parameters={"sequence_id": 51}),
    answered("sequence/empty id", "simple_sequence", value(1), parameters={"sequence_id": "", "sequence_start": True}),
]
REFUSED_HTTP: Final[list[Case]] = [
    *JSON,
    *VALUES,
    *ROUTES,
    *PARAMETERS,
    *BINARIES,
    *COMPRESSED,
    *CLASSES,
    *SEQUENCES,
]
