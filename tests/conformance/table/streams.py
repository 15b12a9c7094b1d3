"""ModelStreamInfer: several answers, none, errors in the middle, and the final flag."""

from __future__ import annotations

from typing import Final

from inference import grpc_service_pb2 as pb

from tests.conformance.cases import Case, Grpc, Parameter, case, infer_request, stream
from tests.conformance.table.inputs import PAIR, value
from tests.conformance.tensors import Input

FINAL: Final = {"triton_enable_empty_final_response": True}


def simple(id: str = "", **parameters: Parameter) -> pb.ModelInferRequest:
    """A good request."""
    return infer_request("simple", PAIR, id=id, parameters=parameters)


def square(number: int, id: str = "", **parameters: Parameter) -> pb.ModelInferRequest:
    """Asks for `number` answers."""
    return infer_request("square_int32", [Input("IN", "INT32", (1,), [number])], id=id, parameters=parameters)


def repeat(*outputs: str, id: str = "", **parameters: Parameter) -> pb.ModelInferRequest:
    """Asks for two answers; the model then closes with an empty final one."""
    inputs = (
        Input("IN", "INT32", (2,), [5, 6]),
        Input("DELAY", "UINT32", (2,), [0, 0]),
        Input("WAIT", "UINT32", (1,), [0]),
    )
    return infer_request("repeat_int32", inputs, id=id, outputs=outputs, parameters=parameters)


def short() -> pb.ModelInferRequest:
    """Lacks data."""
    request = simple("short")
    request.raw_input_contents[0] = b"1234"
    return request


def sequence(number: int, **flags: Parameter) -> pb.ModelInferRequest:
    """One of a sequence."""
    return infer_request("simple_sequence", value(number), parameters={"sequence_id": 61, **flags})


STREAMS: Final[list[Case]] = [
    case("stream/two requests", stream(simple("1"), simple("2"))),
    case("stream/nothing sent", Grpc("ModelStreamInfer", ())),
    case("stream/empty final response of a plain model", stream(simple("1", **FINAL))),
    case("stream/unknown model, then a good one", stream(infer_request("nobody", PAIR, id="1"), simple("2"))),
    case("stream/broken model", stream(infer_request("broken", PAIR, id="1"))),
    case("stream/short data, then a good one", stream(short(), simple("2"))),
    case("stream/bad version", stream(infer_request("simple", PAIR, version="abc", id="v"))),
    case("stream/reserved parameter", stream(simple("1", triton_colour="red"))),
    case(
        "stream/fails while it runs",
        stream(infer_request("picky", [Input("INDEX", "INT64", (1,), [9])], id="p"), simple("2")),
    ),
    case("stream/malformed", Grpc("ModelStreamInfer", (b"\xff\xff\xff",))),
    case("stream/decoupled, two answers", stream(square(2, "s"))),
    case("stream/decoupled, two answers, empty final wanted", stream(square(2, "s", **FINAL))),
    case("stream/decoupled, no answer", stream(square(0, "s"))),
    case("stream/decoupled, no answer, empty final wanted", stream(square(0, "s", **FINAL))),
    case("stream/decoupled, closed with an empty one", stream(repeat(id="r"))),
    case("stream/decoupled, closed with an empty one that is wanted", stream(repeat(id="r", **FINAL))),
    case("stream/decoupled, one output", stream(repeat("OUT", id="r"))),
    case("stream/decoupled, one after the other", stream(square(1, "a"), square(2, "b"))),
    case(
        "stream/a whole sequence",
        stream(sequence(1, sequence_start=True), sequence(2), sequence(3, sequence_end=True), sequence(4)),
    ),
]
