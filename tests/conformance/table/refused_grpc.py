"""Requests over gRPC that are malformed or do not fit the model, and odd ones that Triton takes all the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from inference import grpc_service_pb2 as pb

from tests.conformance.cases import Case, Grpc, Parameter, case, grpc_call, infer_request, set_parameters
from tests.conformance.table.inputs import FIRST, NUMBERS, PAIR, SECOND, pair, pictures, texts, value
from tests.conformance.tensors import Input

Edit = Callable[[pb.ModelInferRequest], object]
METHODS: Final = (
    *("ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig"),
    *("ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload"),
    *("SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister"),
    *(
        "CudaSharedMemoryStatus",
        "CudaSharedMemoryRegister",
        "CudaSharedMemoryUnregister",
        "TraceSetting",
        "LogSettings",
    ),
)


def edited(name: str, edit: Edit, *, typed: bool = False) -> Case:
    """The good request of `simple`, changed."""
    request = infer_request("simple", PAIR, typed=typed)
    edit(request)
    return case(f"grpc/{name}", grpc_call(request))


def sent(name: str, model: str, *inputs: Input, **changes: object) -> Case:
    """A request of any model."""
    return case(f"grpc/{name}", grpc_call(infer_request(model, inputs, **changes)))  # type: ignore[arg-type]


def parameter(name: str, key: str, given: Parameter) -> Case:
    """The good request with one parameter."""
    return edited(f"parameter/{name}", lambda request: set_parameters(request.parameters, {key: given}))


def raw(place: int, content: bytes) -> Edit:
    """Other bytes for one input."""
    return lambda request: request.raw_input_contents.__setitem__(place, content)


def shape(place: int, *dims: int) -> Edit:
    """Another shape for one input."""

    def edit(request: pb.ModelInferRequest) -> None:
        del request.inputs[place].shape[:]
        request.inputs[place].shape.extend(dims)

    return edit


def both(*edits: Edit) -> Edit:
    """One after the other."""
    return lambda request: [edit(request) for edit in edits]


def datatype(place: int, name: str) -> Edit:
    """Another datatype for one input."""
    return lambda request: setattr(request.inputs[place], "datatype", name)


def _typed_half() -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="identity_fp16")
    contents = pb.InferTensorContents(fp32_contents=[1.0, 2.0])
    request.inputs.add(name="INPUT0", datatype="FP16", shape=[1, 2], contents=contents)
    return request


RAW: Final = FIRST.raw()
DATA: Final = [
    edited("data/short", raw(0, RAW[:-4])),
    edited("data/long", raw(0, RAW + b"1234")),
    edited("data/empty", raw(0, b"")),
    edited("data/fewer contents than inputs", lambda request: request.raw_input_contents.pop()),
    edited("data/more contents than inputs", lambda request: request.raw_input_contents.append(RAW)),
    edited("data/none at all", lambda request: request.ClearField("raw_input_contents")),
    edited(
        "data/typed in the wrong field",
        both(
            lambda request: request.inputs[0].ClearField("contents"),
            lambda request: request.inputs[0].contents.fp32_contents.extend([1.0] * 16),
        ),
        typed=True,
    ),
    edited("data/typed, too few", lambda request: request.inputs[0].contents.int_contents.pop(), typed=True),
    edited("data/typed, too many", lambda request: request.inputs[0].contents.int_contents.append(1), typed=True),
    edited("data/typed in two fields", lambda request: request.inputs[0].contents.fp32_contents.append(1), typed=True),
    edited("data/typed and raw", lambda request: request.raw_input_contents.extend([RAW, SECOND.raw()]), typed=True),
    sent(
        "data/int8 out of range",
        "simple_int8",
        *(Input(f"INPUT{place}", "INT8", (1, 16), [300] * 16) for place in (0, 1)),
        typed=True,
    ),
    case("grpc/data/fp16 typed", grpc_call(_typed_half())),
]
SHAPES: Final = [
    edited("shape/no batch dimension", both(shape(0, 16), shape(1, 16))),
    edited("shape/another size", both(shape(0, 1, 15), shape(1, 1, 15), raw(0, RAW[:60]), raw(1, RAW[:60]))),
    edited("shape/negative", both(shape(0, -1, 16), shape(1, -1, 16))),
    edited("shape/one negative", shape(0, -1, 16)),
    edited("shape/empty batch", both(shape(0, 0, 16), shape(1, 0, 16), raw(0, b""), raw(1, b""))),
    edited("shape/overflowing", both(shape(0, 2**62, 16), shape(1, 2**62, 16))),
    edited("shape/none", both(shape(0), shape(1))),
    edited("shape/rows differ", both(shape(0, 2, 16), raw(0, RAW * 2))),
    sent("shape/beyond the largest batch", "simple", *pair(9)),
    sent(
        "shape/beyond the largest batch of an ensemble",
        "chained",
        *(Input(name, "INT32", (9, 16), NUMBERS * 9) for name in ("FIRST", "SECOND")),
    ),
    sent(
        "shape/as the graph sees it",
        "reshaped",
        Input("MATRIX", "FP32", (1, 2, 2), [1.0] * 4),
        Input("SCALE", "FP32", (1, 1), [1.0]),
    ),
    sent("shape/rank", "flexible", Input("INPUT", "FP32", (6,), [1.0] * 6)),
    sent(
        "shape/batch dimension where there is none",
        "unbatched",
        Input("INPUT0", "INT32", (1, 4), NUMBERS[:4]),
        Input("INPUT1", "INT32", (1, 4), NUMBERS[:4]),
    ),
]
TENSORS: Final = [
    edited("datatype/another", datatype(0, "FP32")),
    edited("datatype/unknown", datatype(0, "COMPLEX")),
    edited("datatype/empty", datatype(0, "")),
    edited("inputs/unknown name", lambda request: setattr(request.inputs[0], "name", "INPUT9")),
    edited("inputs/empty name", lambda request: setattr(request.inputs[0], "name", "")),
    sent("inputs/missing", "simple", FIRST),
    sent("inputs/none", "simple"),
    sent("inputs/doubled", "simple", FIRST, FIRST, SECOND),
    sent("inputs/one too many", "simple", FIRST, SECOND, Input("MORE", "INT32", (1, 16), NUMBERS)),
    sent("inputs/only the optional one", "with_default", Input("BIAS", "FP32", (1, 4), [1.0] * 4)),
    sent("inputs/missing of an ensemble", "chained", Input("FIRST", "INT32", (1, 16), NUMBERS)),
    sent("outputs/unknown", "simple", *PAIR, outputs=["NOTHING"]),
    sent("outputs/unknown parameter", "simple", *PAIR, outputs=[("OUTPUT0", {"colour": "red"})]),
    sent("outputs/binary_data", "simple", *PAIR, outputs=[("OUTPUT0", {"binary_data": False})]),
]


def strings(name: str, content: bytes, count: int) -> Case:
    """`simple_identity` with these raw bytes for so many elements."""
    request = infer_request("simple_identity", texts(*[b"x"] * count))
    request.raw_input_contents[0] = content
    return case(f"grpc/strings/{name}", grpc_call(request))


STRINGS: Final = [
    strings("length cut off", b"\2\0\0\0ab\0\0", 2),
    strings("content cut off", b"\2\0\0\0ab\xff\0\0\0a", 2),
    strings("fewer than the shape says", b"\2\0\0\0ab", 2),
    strings("more than the shape says", b"\2\0\0\0ab\2\0\0\0ab", 1),
    strings("length beyond memory", b"\xff\xff\xff\xffab", 1),
    strings("not UTF-8", b"\2\0\0\0\xff\xfe", 1),
    sent("strings/typed, too few", "simple_identity", Input("INPUT0", "BYTES", (1, 2), [b"a"]), typed=True),
    sent(
        "strings/not a number",
        "simple_string",
        *(Input(f"INPUT{place}", "BYTES", (1, 16), [b"x"] * 16) for place in (0, 1)),
    ),
]
MODELS: Final = [
    sent("model/unknown", "nobody", *PAIR),
    sent("model/no name", "", *PAIR),
    sent("model/broken", "broken", *PAIR),
    sent("model/fails while it runs", "picky", Input("INDEX", "INT64", (1,), [9])),
    sent("model/decoupled, unary", "square_int32", Input("IN", "INT32", (1,), [2])),
    *(
        sent(f"version/{text}", "simple", *PAIR, version=text)
        for text in ("7", "0", "-1", "abc", "99999999999999999999", "1.5")
    ),
    sent("version/not loaded", "versioned", Input("INPUT", "INT32", (1, 2), [1, 2]), version="2"),
]
PARAMETERS: Final = [
    parameter("reserved prefix", "triton_colour", "red"),
    parameter("triton_final_response", "triton_final_response", True),
    parameter("triton_enable_empty_final_response", "triton_enable_empty_final_response", True),
    parameter("empty key", "", "x"),
    parameter("a double", "ratio", 0.5),
    parameter("priority below zero", "priority", -1),
    parameter("priority as text", "priority", "high"),
    parameter("timeout below zero", "timeout", -1),
    parameter("timeout as text", "timeout", "soon"),
    parameter("sequence id as a bool", "sequence_id", True),
    parameter("sequence id as a double", "sequence_id", 1.5),
    parameter("sequence start as text", "sequence_start", "yes"),
    parameter("sequence end as a number", "sequence_end", 1),
]
CLASSES: Final = [
    sent(f"classification/{name}", "pictures", *pictures(3.0, 4.0), outputs=[("SCORES", {"classification": given})])
    for name, given in (("two", 2), ("more than there are", 99), ("none", 0), ("below zero", -1), ("as text", "2"))
] + [
    sent("classification/without labels", "simple", *PAIR, outputs=[("OUTPUT0", {"classification": 2})]),
    sent(
        "classification/of strings", "simple_identity", *texts(b"a", b"b"), outputs=[("OUTPUT0", {"classification": 1})]
    ),
]
SEQUENCES: Final = [
    case(
        "grpc/sequence/start, middle, end",
        *(
            grpc_call(infer_request("simple_sequence", value(number), parameters={"sequence_id": 41, **flags}))
            for number, flags in ((1, {"sequence_start": True}), (2, {}), (3, {"sequence_end": True}), (4, {}))
        ),
    ),
    case(
        "grpc/sequence/started twice",
        *(
            grpc_call(infer_request("simple_sequence", value(number), parameters={"sequence_id": 42, **flags}))
            for number, flags in (
                (1, {"sequence_start": True}),
                (2, {"sequence_start": True}),
                (3, {"sequence_end": True}),
            )
        ),
    ),
    case(
        "grpc/sequence/sum kept under a string id",
        *(
            grpc_call(
                infer_request("simple_string_dyna_sequence", value(number), parameters={"sequence_id": "43", **flags})
            )
            for number, flags in ((1, {"sequence_start": True}), (2, {}), (3, {"sequence_end": True}))
        ),
    ),
    *(
        sent(f"sequence/{name} of {model}", model, *value(1), parameters=parameters)
        for model in ("simple_sequence", "simple_dyna_sequence")
        for name, parameters in (
            ("no id", {}),
            ("id zero", {"sequence_id": 0, "sequence_start": True}),
            ("empty id", {"sequence_id": "", "sequence_start": True}),
            ("not started", {"sequence_id": 44}),
            ("long id", {"sequence_id": "x" * 129, "sequence_start": True, "sequence_end": True}),
        )
    ),
    sent(
        "sequence/batch of two",
        "simple_sequence",
        Input("INPUT", "INT32", (2, 1), [1, 2]),
        parameters={"sequence_id": 45, "sequence_start": True, "sequence_end": True},
    ),
    sent(
        "sequence/control sent by the client",
        "simple_sequence",
        *value(1),
        Input("START", "INT32", (1, 1), [1]),
        parameters={"sequence_id": 46, "sequence_start": True, "sequence_end": True},
    ),
    sent(
        "sequence/string id for an integer control",
        "simple_dyna_sequence",
        *value(1),
        parameters={"sequence_id": "abc", "sequence_start": True, "sequence_end": True},
    ),
]
WIRE: Final = [
    *(case(f"grpc/wire/malformed {method}", Grpc(method, (b"\xff\xff\xff\xff",))) for method in METHODS),
    case("grpc/wire/cut off", Grpc("ModelInfer", (infer_request("simple", PAIR).SerializeToString()[:-9],))),
    case(
        "grpc/wire/unknown field",
        Grpc("ModelInfer", (infer_request("simple", PAIR).SerializeToString(deterministic=True) + b"\xfa\x3e\x01x",)),
    ),
    case("grpc/wire/unknown method", Grpc("ModelDream", (b"",))),
    case("grpc/wire/empty message", Grpc("ModelInfer", (b"",))),
]
REFUSED_GRPC: Final[list[Case]] = [
    *DATA,
    *SHAPES,
    *TENSORS,
    *STRINGS,
    *MODELS,
    *PARAMETERS,
    *CLASSES,
    *SEQUENCES,
    *WIRE,
]
