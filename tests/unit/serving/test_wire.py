"""Messages cut at their fields are the messages that protobuf reads, and broken ones are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inference import grpc_service_pb2 as pb

from services.serving.errors import BadRequest
from services.serving.inbound.wire import LARGE, request_of, response_bytes, varint


def request(*sizes: int) -> pb.ModelInferRequest:
    """A request with raw contents of these sizes."""
    message = pb.ModelInferRequest(model_name="m", model_version="3", id="call")
    message.parameters["sequence_id"].int64_param = 7
    for number, size in enumerate(sizes):
        message.inputs.add(name=f"x{number}", datatype="UINT8", shape=[size])
        message.raw_input_contents.append(bytes([number]) * size)
    message.outputs.add(name="y")
    return message


@pytest.mark.parametrize("sizes", [(), (0,), (10, 20), (LARGE,), (LARGE, 0, 3), (5 * LARGE, LARGE)])
def test_a_request_is_read_as_protobuf_reads_it(sizes: tuple[int, ...]) -> None:
    whole = request(*sizes)
    message, raws = request_of(whole.SerializeToString())
    assert [bytes(raw) for raw in raws] == list(whole.raw_input_contents)
    for one in (message, whole):
        one.ClearField("raw_input_contents")
    assert message == whole


def test_large_tensors_are_views_of_the_message() -> None:
    data = request(4 * LARGE).SerializeToString()
    _, (raw,) = request_of(data)
    assert isinstance(raw, memoryview)
    assert raw.obj is data


@given(st.binary(max_size=64), st.integers(min_value=0, max_value=1_000))
def test_whatever_comes_is_read_or_refused(noise: bytes, place: int) -> None:
    data = bytearray(request(2 * LARGE, 7).SerializeToString())
    for at, byte in enumerate(noise):
        data[(place + at * 1_009) % len(data)] = byte
    try:
        message, raws = request_of(bytes(data))
    except BadRequest:
        return
    assert isinstance(message, pb.ModelInferRequest)
    assert sum(map(len, raws)) <= len(data)


@pytest.mark.parametrize("end", [1, 100, LARGE, 2 * LARGE - 1])
def test_a_truncated_request_is_refused(end: int) -> None:
    data = request(2 * LARGE).SerializeToString()
    with pytest.raises(BadRequest, match=r"is not an inference\.ModelInferRequest"):
        request_of(data[:-end])


def test_a_response_holds_its_tensors() -> None:
    response = pb.ModelInferResponse(model_name="m", id="call")
    response.outputs.add(name="y", datatype="UINT8", shape=[3])
    large = np.arange(100_000, dtype=np.uint8)
    found = pb.ModelInferResponse.FromString(response_bytes(response, [b"abc", b"", large.data]))
    assert list(found.raw_output_contents) == [b"abc", b"", large.tobytes()]
    assert (found.model_name, found.id, found.outputs[0].name) == ("m", "call", "y")


@pytest.mark.parametrize(("value", "wanted"), [(0, b"\x00"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02")])
def test_varints_are_those_of_the_specification(value: int, wanted: bytes) -> None:
    assert varint(value) == wanted
