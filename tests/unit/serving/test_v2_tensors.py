"""An infer request as HTTP carries it, to a call, and an answer to JSON and the bytes behind it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest

from services.serving.domain.calls import AnsweredOutput, InferAnswer, InferCall
from services.serving.domain.tensors import Array, Region, TensorData, decoded
from services.serving.errors import BadRequest
from services.serving.inbound.v2.tensors import answer_parts, call_of, raw_call_of, raw_shape
from tests.unit.serving.test_requests import version

FP32 = np.array([[1.5, -2.0, 0.1]], np.float32)


def tensor(data: Any = None, datatype: str = "FP32", shape: Any = (1, 3), **parameters: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": list(shape)}
    if data is not None:
        found["data"] = data
    return found | ({"parameters": parameters} if parameters else {})


def called(document: Any, tail: bytes = b"", **about: str) -> InferCall:
    head = json.dumps(document).encode()
    return call_of("m", "7", head + tail, len(head) if tail else None, **about)


def array_of(one: dict[str, Any], tail: bytes = b"") -> Array:
    (found,) = called({"inputs": [one]}, tail).inputs
    return decoded(found)


def refusal(document: Any, tail: bytes = b"") -> str:
    with pytest.raises(BadRequest) as refused:
        called(document, tail)
    assert refused.value.field
    return str(refused.value)


def answered(array: Array, datatype: str, *, binary: bool = False, region: Region | None = None) -> tuple[Any, bytes]:
    output = AnsweredOutput("y", datatype, array.shape, array, region, binary)
    head, raws = answer_parts(InferAnswer(version(), "", [output]))
    return head, b"".join(raws)


def test_flat_and_nested_lists_are_the_same_tensor() -> None:
    nested = array_of(tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]], "INT32", (2, 2, 2)))
    flat = array_of(tensor([1, 2, 3, 4, 5, 6, 7, 8], "INT32", (2, 2, 2)))
    assert np.array_equal(nested, flat)
    assert (nested.shape, nested.dtype.name) == ((2, 2, 2), "int32")


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        ("BOOL", [True, False]),
        ("INT8", [-128, 127]),
        ("UINT8", [0, 255]),
        ("INT16", [-(2**15), 2**15 - 1]),
        ("UINT16", [0, 2**16 - 1]),
        ("INT32", [-(2**31), 2**31 - 1]),
        ("UINT32", [0, 2**32 - 1]),
        ("INT64", [-(2**63), 2**63 - 1]),
        ("UINT64", [2**53 + 1, 2**64 - 1]),
        ("FP32", [1, 0.1]),
        ("FP64", [1e300, 0.1]),
    ],
)
def test_every_datatype_takes_its_whole_range_and_goes_back_as_it_came(datatype: str, values: list[Any]) -> None:
    array = array_of(tensor(values, datatype, (2,)))
    head, _ = answered(array, datatype)
    (output,) = orjson.loads(head)["outputs"]
    assert (output["datatype"], output["shape"], output["data"]) == (datatype, [2], values)


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        *(("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT32", 2**31), ("UINT64", 2**64), ("UINT64", -1)),
        *(("INT64", 2**63), ("INT32", 1.5), ("INT32", True), ("BOOL", 1), ("FP32", True), ("FP32", "1")),
        *(("FP32", 1e39), ("FP32", -3.5e38), ("INT32", None), ("FP32", {}), ("BYTES", 5), ("BYTES", None)),
    ],
)
def test_a_value_that_does_not_fit_its_datatype_is_refused(datatype: str, value: Any) -> None:
    with pytest.raises(BadRequest) as refused:
        array_of(tensor([value], datatype, (1,)))
    assert refused.value.field == "inputs.x"


def test_nan_and_infinity_are_read_and_written_as_triton_and_python_do() -> None:
    values = array_of(tensor([float("nan"), float("inf"), float("-inf"), 0.1], "FP32", (4,)))
    assert np.array_equal(values, np.array([np.nan, np.inf, -np.inf, 0.1], np.float32), equal_nan=True)
    head, _ = answered(values, "FP32")
    assert b'"data":[NaN,Infinity,-Infinity,0.1]' in head
    assert np.array_equal(np.array(json.loads(head)["outputs"][0]["data"], np.float32), values, equal_nan=True)


def test_every_float_is_read_back_as_it_was_sent() -> None:
    bits = np.random.RandomState(0).randint(0, 2**32, 20_000, dtype=np.uint32)
    floats = bits.view(np.float32)
    head, _ = answered(floats, "FP32")
    again = array_of(tensor(json.loads(head)["outputs"][0]["data"], "FP32", floats.shape))
    finite = np.isfinite(floats)
    assert finite.sum() > 10_000
    assert np.array_equal(again[finite].view(np.uint32), bits[finite])
    assert np.array_equal(again, floats, equal_nan=True)


@pytest.mark.parametrize(
    "text",
    [
        b'{"x":NaN,"y":1e400}',
        b'{"x":NaN,"id":"\\ud800"}',
        b'{"x":NaN,"y":' + b"9" * 5000 + b"}",
        b'{"x":NaN,"y":"\xff"}',
        b'{"x":NaN',
        b"NaN",
        b'{"x":NaNa}',
    ],
)
def test_what_pythons_parser_takes_beyond_json_is_refused_all_the_same(text: bytes) -> None:
    with pytest.raises(BadRequest):
        call_of("m", "", text, None)


@pytest.mark.parametrize("depth", [17, 990, 1020])
def test_lists_nested_deeper_than_a_tensor_can_be_are_refused(depth: int) -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * depth + b"1" + b"]" * depth + b"}]}"
    with pytest.raises(BadRequest, match="nested deeper than 16"):
        call_of("m", "", body, None)


def test_a_list_among_numbers_is_named_and_not_shown_however_deep_it_is() -> None:
    body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1,' + b"[" * 990 + b"]" * 990 + b"]}]}"
    with pytest.raises(BadRequest, match="holds a list, which is no FP32"):
        call_of("m", "", body, None)


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_sixteen_bit_floats_are_binary_only_in_both_directions(datatype: str) -> None:
    assert f"receiving {datatype} data via JSON is not supported" in refusal({"inputs": [tensor([1], datatype, (1,))]})
    with pytest.raises(BadRequest, match=f"sending {datatype} data via JSON is not supported"):
        answered(np.zeros(1, np.uint16), datatype)
    array = np.array([1, 2], np.float16) if datatype == "FP16" else np.array([1, 2], np.uint16)
    head, raw = answered(array, datatype, binary=True)
    assert (json.loads(head)["outputs"][0]["parameters"], raw) == ({"binary_data_size": 4}, array.tobytes())


def test_strings_keep_nul_and_letters_of_every_script_in_json_and_in_binary() -> None:
    words = array_of(tensor(["a\0b", "", 'é"中'], "BYTES", (3,)))
    assert words.tolist() == [b"a\0b", b"", 'é"中'.encode()]
    head, _ = answered(words, "BYTES")
    assert json.loads(head)["outputs"][0]["data"] == ["a\0b", "", 'é"中']
    head, raw = answered(words, "BYTES", binary=True)
    size = json.loads(head)["outputs"][0]["parameters"]["binary_data_size"]
    assert (size, array_of(tensor(None, "BYTES", (3,), binary_data_size=size), raw).tolist()) == (
        len(raw),
        words.tolist(),
    )


def test_bytes_that_are_no_text_are_refused_in_json_alone() -> None:
    array = np.array([b"\xff"], np.object_)
    with pytest.raises(BadRequest, match="no UTF-8 text; ask for it as binary data"):
        answered(array, "BYTES")
    assert answered(array, "BYTES", binary=True)[1] == b"\x01\x00\x00\x00\xff"


def test_binary_tensors_are_views_of_the_body_in_their_order() -> None:
    head = json.dumps(
        {
            "inputs": [
                tensor(None, "FP32", (1, 3), binary_data_size=12),
                tensor([1], "INT32", (1,)),
                tensor(None, "INT32", (1,), binary_data_size=4),
            ]
        }
    ).encode()
    body = head + FP32.tobytes() + b"\x07\0\0\0"
    first, _, last = call_of("m", "", body, len(head)).inputs
    assert isinstance(first.raw, memoryview)
    assert first.raw.obj is body
    assert np.array_equal(decoded(first), FP32)
    assert decoded(last).tolist() == [7]


@pytest.mark.parametrize(
    ("size", "tail", "sentence"),
    [
        (12, b"123", "expecting 9 additional bytes"),
        (12, bytes(13), "unexpected additional input data"),
        (-1, bytes(12), "whole number"),
        ("12", bytes(12), "whole number"),
        (True, bytes(12), "whole number"),
        (1.5, bytes(12), "whole number"),
        (2**64 - 1, bytes(12), "additional bytes"),
    ],
)
def test_binary_sizes_that_are_not_those_of_the_bytes_are_refused(size: Any, tail: bytes, sentence: str) -> None:
    assert sentence in refusal({"inputs": [tensor(None, binary_data_size=size)]}, tail)


@pytest.mark.parametrize(
    ("one", "which"),
    [
        (tensor(), "no field is set"),
        (tensor([1, 2, 3], binary_data_size=12), "'binary_data_size' 'data'"),
        (tensor([1, 2, 3], shared_memory_region="r", shared_memory_byte_size=12), "'shared_memory_region' 'data'"),
        (tensor(None, binary_data_size=12, shared_memory_region="r"), "'binary_data_size' 'shared_memory_region'"),
    ],
)
def test_a_tensors_data_come_by_exactly_one_road(one: dict[str, Any], which: str) -> None:
    assert which in refusal({"inputs": [one]}, bytes(12))


def test_regions_of_inputs_and_outputs_are_passed_on() -> None:
    place: dict[str, Any] = {"shared_memory_region": "r", "shared_memory_byte_size": 12, "shared_memory_offset": 4}
    call = called({"inputs": [tensor(None, **place)], "outputs": [{"name": "y", "parameters": place}]})
    assert (call.inputs[0].region, call.outputs[0].region) == (Region("r", 12, 4),) * 2
    head, raw = answered(FP32, "FP32", binary=True, region=Region("r", 12, 4))
    assert (json.loads(head)["outputs"], raw) == ([{"name": "y", "datatype": "FP32", "shape": [1, 3]}], b"")


@pytest.mark.parametrize("value", [0, -1, "12", True, 2**63, None])
def test_a_region_without_a_good_size_is_refused(value: Any) -> None:
    assert "shared_memory_byte_size" in refusal(
        {"inputs": [tensor(None, shared_memory_region="r", shared_memory_byte_size=value)]}
    )


def test_what_the_outputs_ask_for_is_read() -> None:
    outputs = [
        {"name": "a"},
        {"name": "b", "parameters": {"binary_data": True, "classification": 2}},
        {"name": "c", "parameters": {"classification": 0}},
    ]
    call = called({"inputs": [], "outputs": outputs, "parameters": {"binary_data_output": True, "priority": 2}})
    assert [(one.name, one.binary, one.class_count) for one in call.outputs] == [
        ("a", False, 0),
        ("b", True, 2),
        ("c", False, 0),
    ]
    assert (call.binary, call.parameters) == (True, {"priority": 2})


@pytest.mark.parametrize(
    "parameters",
    [
        {"classification": -1},
        {"classification": "2"},
        {"classification": True},
        {"classification": 2**31},
        {"binary_data": 1},
        {"binary_data": True, "shared_memory_region": "r", "shared_memory_byte_size": 4},
        {"classification": 1, "shared_memory_region": "r", "shared_memory_byte_size": 4},
        {"x": []},
        [],
    ],
)
def test_parameters_of_an_output_that_cannot_be_are_refused(parameters: Any) -> None:
    assert refusal({"inputs": [], "outputs": [{"name": "y", "parameters": parameters}]})


@pytest.mark.parametrize(
    "document",
    [
        *([], "x", 5, None, {}, {"inputs": None}, {"inputs": {}}, {"inputs": [5]}, {"inputs": [[]]}),
        *({"inputs": [], "id": 5}, {"inputs": [], "outputs": {}}, {"inputs": [], "outputs": [{}]}),
        *(
            {"inputs": [], "parameters": []},
            {"inputs": [], "parameters": {"a": {}}},
            {"inputs": [], "parameters": None},
        ),
        {"inputs": [], "parameters": {"binary_data_output": "yes"}},
        *({"inputs": [tensor([1]) | {field: 5}]} for field in ("name", "datatype", "shape", "data")),
        *({"inputs": [tensor([1], shape=shape)]} for shape in ([-1], [1.0], ["1"], [True], [None], [2**64])),
    ],
)
def test_json_of_another_form_is_refused_with_a_sentence(document: Any) -> None:
    assert refusal(document)


@pytest.mark.parametrize("body", [b"", b"{", b"{'a': 1}", b"\xff\xfe", b"[" * 5000, b'{"a": 1} x'])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="failed to parse the request JSON buffer"):
        call_of("m", "", body, None)


def test_the_key_is_the_headers_or_else_the_request_id() -> None:
    assert called({"id": "call", "inputs": []}).key == "call"
    call = called({"id": "call", "inputs": []}, key="gate-1", traceparent="00-a-b-01")
    assert (call.id, call.key, call.traceparent, call.model, call.version) == ("call", "gate-1", "00-a-b-01", "m", "7")


def test_the_id_comes_back_and_stays_out_when_there_is_none() -> None:
    output = AnsweredOutput("y", "FP32", FP32.shape, FP32)
    with_id, without = (answer_parts(InferAnswer(version(), name, [output]))[0] for name in ("a", ""))
    assert json.loads(with_id) == {"id": "a"} | json.loads(without)
    assert json.loads(without)["model_version"] == "1"


def test_an_unknown_datatype_is_left_to_the_handlers_sentence() -> None:
    (found,) = called({"inputs": [tensor([{"any": 1}], "COMPLEX")]}).inputs
    assert (found.datatype, found.raw) == ("COMPLEX", None)


def test_a_body_of_bytes_alone_is_the_only_input() -> None:
    call = raw_call_of("m", "", FP32.tobytes(), ("x", "FP32", (1, 3)))
    assert np.array_equal(decoded(call.inputs[0]), FP32)
    assert call.binary
    words = raw_call_of("m", "", b"word", ("x", "BYTES", (1, 1))).inputs[0]
    assert decoded(words).tolist() == [[b"word"]]


@pytest.mark.parametrize(
    ("dims", "max_batch", "size", "datatype", "shape"),
    [
        ((4,), 8, 16, "FP32", (1, 4)),
        ((4,), 0, 16, "FP32", (4,)),
        ((-1, 2), 8, 48, "FP32", (1, 6, 2)),
        ((1,), 8, 5, "BYTES", (1, 1)),
    ],
)
def test_the_shape_of_bytes_alone_is_deduced(
    dims: tuple[int, ...], max_batch: int, size: int, datatype: str, shape: tuple[int, ...]
) -> None:
    assert raw_shape(dims, max_batch, size, datatype) == shape


@pytest.mark.parametrize(("dims", "datatype"), [((-1, -1), "FP32"), ((2,), "BYTES"), ((-1,), "BYTES")])
def test_a_shape_that_cannot_be_deduced_is_refused(dims: tuple[int, ...], datatype: str) -> None:
    with pytest.raises(BadRequest):
        raw_shape(dims, 8, 16, datatype)


def test_a_tensor_that_lies_across_memory_is_written_in_its_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    head, _ = answered(array, "FP32")
    assert json.loads(head)["outputs"][0]["data"] == [0, 3, 1, 4, 2, 5]
    assert answered(array, "FP32", binary=True)[1] == np.ascontiguousarray(array).tobytes()


def test_an_empty_tensor_has_a_shape_and_no_values() -> None:
    assert array_of(tensor([], "FP32", (0, 3))).shape == (0, 3)
    assert decoded(TensorData("x", "FP32", (0, 3), raw=b"")).size == 0
    head, _ = answered(np.zeros((0, 3), np.float32), "FP32")
    assert json.loads(head)["outputs"][0] == {"name": "y", "datatype": "FP32", "shape": [0, 3], "data": []}
