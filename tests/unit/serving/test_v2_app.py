"""The ASGI application of /v2: routes, statuses, headers, and clients that stall or go away; the model is a fake."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from services.serving.errors import (
    BadRequest,
    InferenceFailed,
    NotAllowed,
    NotReady,
    Overloaded,
    UnknownModel,
    UnknownRegion,
    UnknownVersion,
    Unsupported,
)
from services.serving.inbound.v2.app import LONG
from services.serving.inbound.v2.patience import Patience
from tests.unit.serving.v2_house import NUMBERS, House, binary_body, infer_body
from tests.waiting import PATIENCE_S


@pytest.fixture
def house() -> House:
    return House()


async def test_what_is_not_under_v2_goes_to_the_application_within(house: House) -> None:
    for path in ("/", "/v1/models", "/v2x", "/api/v2"):
        assert (await house.call("GET", path)).body == b"other"


async def test_infer_answers_in_json_unless_binary_data_are_asked_for(house: House) -> None:
    found = await house.call("POST", "/v2/models/m/infer", infer_body(id="call"))
    assert (found.status, found.headers["content-type"]) == (200, "application/json")
    output = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [1.5, 2.5]}
    assert found.json == {"id": "call", "model_name": "m", "model_version": "1", "outputs": [output]}
    body, size = binary_body(parameters={"binary_data_output": True})
    found = await house.call("POST", "/v2/models/m/infer", body, inference_header_content_length=size)
    split = int(found.headers["inference-header-content-length"])
    assert (found.status, found.headers["content-type"]) == (200, "application/octet-stream")
    assert found.headers["content-length"] == str(len(found.body))
    assert json.loads(found.body[:split])["outputs"][0]["parameters"] == {"binary_data_size": 8}
    assert (found.body[split:], found.writes) == (NUMBERS.tobytes(), 1)


async def test_names_of_models_are_unquoted_and_the_query_is_left_aside(house: House) -> None:
    for path in ("two%20words%2Fx/versions/3", "two%20words%2Fx/versions/3?x=/y"):
        assert (await house.call("GET", f"/v2/models/{path}")).json["name"] == "two words/x"
    await house.call("POST", "/v2/models/two%20words%2Fx/versions/3/infer?a=b", infer_body())
    assert [(one.model, one.version) for one in house.model.calls] == [("two words/x", "3")]


async def test_the_key_and_the_trace_come_from_headers(house: House) -> None:
    await house.call("POST", "/v2/models/m/infer", infer_body(id="i"), irisloop_key="gate-1", traceparent="00-1-2-01")
    await house.call("POST", "/v2/models/m/infer", infer_body(id="i"))
    assert [(one.key, one.traceparent) for one in house.model.calls] == [("gate-1", "00-1-2-01"), ("i", "")]


async def test_a_body_without_json_is_the_only_inputs_bytes(house: House) -> None:
    found = await house.call("POST", "/v2/models/m/infer", NUMBERS.tobytes(), inference_header_content_length=0)
    (call,) = house.model.calls
    assert (found.status, call.inputs[0].name, call.inputs[0].shape) == (200, "x", (1, 2))


@pytest.mark.parametrize(
    ("size", "sentence"),
    [("1000", "in range (0, "), ("-1", "got: -1"), ("9" * 5000, "in range (0, "), ("-" + "9" * 5000, "in range (0, ")],
)
async def test_a_header_size_beyond_the_body_is_refused(house: House, size: str, sentence: str) -> None:
    found = await house.call("POST", "/v2/models/m/infer", infer_body(), inference_header_content_length=size)
    assert (found.status, sentence in found.json["error"]) == (400, True)


@pytest.mark.parametrize("size", ["abc", "1.5", "", "--1"])
async def test_a_header_size_that_is_no_number_is_none_as_in_triton(house: House, size: str) -> None:
    found = await house.call("POST", "/v2/models/m/infer", NUMBERS.tobytes(), inference_header_content_length=size)
    assert found.status == 200


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *((UnknownModel("a"), 404), (UnknownVersion("a"), 404), (NotReady("a"), 404), (UnknownRegion("a"), 404)),
        *((BadRequest("a"), 400), (InferenceFailed("a"), 400), (Unsupported("a"), 501)),
        *((Overloaded("a"), 503), (NotAllowed("a"), 503), (RecursionError("deep"), 400), (KeyError("bug"), 500)),
    ],
)
async def test_every_error_has_its_status(house: House, error: Exception, status: int) -> None:
    house.model.error = error
    found = await house.call("POST", "/v2/models/m/infer", infer_body(), accept_encoding="gzip")
    assert (found.status, found.headers["content-type"]) == (status, "application/json")
    assert list(found.json) == ["error"]
    assert ("retry-after" in found.headers) == (status == 503)
    assert "content-encoding" not in found.headers
    assert "bug" not in found.json["error"]


async def test_only_answers_of_infer_are_compressed(house: House) -> None:
    found = await house.call("POST", "/v2/models/m/infer", infer_body(), accept_encoding="deflate;q=0, gzip")
    assert found.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(found.body))["model_name"] == "m"
    assert found.headers["content-length"] == str(len(found.body))
    found = await house.call("GET", "/v2/models/m", accept_encoding="gzip")
    assert (found.json["name"], "content-encoding" in found.headers) == ("m", False)


async def test_a_compressed_body_is_read_and_a_bomb_is_not(house: House) -> None:
    for body, status in ((infer_body(), 200), (b" " * 10_000_000 + infer_body(), 413)):
        found = await house.call("POST", "/v2/models/m/infer", gzip.compress(body), content_encoding="gzip")
        assert found.status == status
    found = await house.call("POST", "/v2/models/m/infer", b"x", content_encoding="br")
    assert (found.status, found.headers["accept-encoding"]) == (501, "gzip, deflate")


async def test_a_large_json_body_is_read_aside_and_gives_the_same_call(house: House) -> None:
    for note in ("x", "x" * (LONG + 1)):
        assert (await house.call("POST", "/v2/models/m/infer", infer_body(parameters={"note": note}))).status == 200
    small, large = house.model.calls
    assert len(large.parameters["note"]) > LONG
    assert [(one.name, list(one.values)) for one in small.inputs] == [
        (one.name, list(one.values)) for one in large.inputs
    ]


async def test_reserved_parameters_are_refused(house: House) -> None:
    found = await house.call("POST", "/v2/models/m/infer", infer_body(parameters={"triton_x": 1}))
    assert (found.status, "reserved for Triton" in found.json["error"]) == (400, True)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        *(("GET", "/v2/models/m/infer"), ("POST", "/v2"), ("POST", "/v2/models/m"), ("POST", "/v2/health/live")),
        *(("POST", "/v2/models/m/stats"), ("GET", "/v2/repository/index"), ("GET", "/v2/repository/models/m/load")),
        *(("POST", "/v2/systemsharedmemory/status"), ("GET", "/v2/systemsharedmemory/unregister")),
        *(("PUT", "/v2/logging"), ("DELETE", "/v2/trace/setting"), ("GET", "/v2/models/m/generate")),
    ],
)
async def test_another_verb_is_not_allowed_and_the_right_one_is_named(house: House, method: str, path: str) -> None:
    found = await house.call(method, path)
    assert (found.status, found.json) == (405, {"error": "Method Not Allowed"})
    assert found.headers["allow"]


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/", "/v2/nope", "/v2/models", "/v2/models/", "/v2/models/m/nope", "/v2/models/m/versions/abc"),
        *("/v2/models/m/versions/3/nope", "/v2/models/m/versions", "/v2/health", "/v2/health/nope", "/v2/trace"),
        *("/v2/models/m/versions/abc/ready", "/v2/models/m/versions/\u0663", "/v2/systemsharedmemory", "/v2/x/../m"),
        *("/v2/systemsharedmemory/region/r", "/v2/cudasharedmemory/region/r/nope"),
    ],
)
async def test_a_route_that_is_not_there_is_not_found(house: House, path: str) -> None:
    found = await house.call("GET", path)
    assert (found.status, found.json) == (404, {"error": "Not Found"})


async def test_health_metadata_configuration_and_statistics_are_offered(house: House) -> None:
    for path in ("health/live", "health/ready", "models/m/ready", "models/m/versions/3/ready"):
        found = await house.call("GET", f"/v2/{path}")
        assert (found.status, found.body) == (200, b"")
    assert (await house.call("GET", "/v2")).json["name"] == "triton"
    for path in ("models/none/ready", "models/m/versions/9/ready"):
        found = await house.call("GET", f"/v2/{path}")
        assert (found.status, found.json) == (400, {"error": "Model version not ready"})
    tensor = {"name": "x", "datatype": "FP32", "shape": [-1, 2]}
    assert (await house.call("GET", "/v2/models/m")).json["inputs"] == [tensor]
    assert (await house.call("GET", "/v2/models/none/config")).status == 404
    for path in ("models/stats", "models/m/stats", "models/m/versions/3/stats"):
        entry = (await house.call("GET", f"/v2/{path}")).json["model_stats"][0]
        assert (entry["version"], entry["inference_stats"]["success"]) == ("3", {"count": 0, "ns": 0})
    assert (await house.call("GET", "/v2/models/none/stats")).status == 400


async def test_generate_is_left_out_in_words(house: House) -> None:
    for path in ("m/generate", "m/versions/3/generate_stream"):
        found = await house.call("POST", f"/v2/models/{path}", b"{}")
        assert (found.status, "left out" in found.json["error"]) == (501, True)


async def test_models_are_loaded_with_configuration_and_files(house: House) -> None:
    parameters = {"config": "{}", "file:1/model.onnx": "AAE="}
    found = await house.call("POST", "/v2/repository/models/n/load", json.dumps({"parameters": parameters}).encode())
    assert (found.status, house.shelf.loads) == (200, [("n", "{}", {"1/model.onnx": b"\0\1"})])
    await house.call("POST", "/v2/repository/models/n/load")
    body = json.dumps({"parameters": {"unload_dependents": True}}).encode()
    await house.call("POST", "/v2/repository/models/n/unload", body)
    assert (house.shelf.loads[1:], house.shelf.unloads) == ([("n", "", {})], [("n", True)])


@pytest.mark.parametrize(
    ("what", "body"),
    [
        *(("load", '{"parameters":[1]}'), ("load", '{"parameters":"a"}'), ("load", "[]"), ("load", "{a")),
        *(("load", '{"parameters":{"config":{}}}'), ("load", '{"parameters":{"file:a":"?"}}')),
        *(("load", '{"parameters":{"file:a":5}}'), ("load", '{"parameters":{"x":5}}')),
        *(("unload", '{"parameters":{"unload_dependents":1}}'), ("unload", '{"parameters":7}')),
    ],
)
async def test_a_load_of_another_form_is_refused(house: House, what: str, body: str) -> None:
    found = await house.call("POST", f"/v2/repository/models/n/{what}", body.encode())
    assert (found.status, house.shelf.loads, house.shelf.unloads) == (400, [], [])


async def test_the_index_can_be_of_ready_models_alone(house: House) -> None:
    for body in (b"", b"{}", b'{"ready":true}'):
        assert (await house.call("POST", "/v2/repository/index", body)).json == [
            {"name": "m", "version": "3", "state": "READY"},
            {"name": "two words/x", "version": "3", "state": "READY"},
        ]


async def test_settings_are_read_and_changed(house: House) -> None:
    found = await house.call("POST", "/v2/trace/setting", b'{"trace_rate":"10","trace_level":["TIMESTAMPS"]}')
    assert (found.json["trace_rate"], found.json["trace_level"]) == ("10", ["TIMESTAMPS"])
    found = await house.call("POST", "/v2/models/m/trace/setting", b'{"trace_rate":"7"}')
    assert found.json["trace_rate"] == "7"
    assert (await house.call("GET", "/v2/trace/setting")).json["trace_rate"] == "10"
    assert (await house.call("POST", "/v2/trace/setting", b'{"trace_rate":null}')).json["trace_rate"] == "1000"
    assert (await house.call("POST", "/v2/logging", b'{"log_verbose_level":1}')).json["log_verbose_level"] == 1
    assert (await house.call("GET", "/v2/logging")).json["log_info"] is True
    assert len(house.levels) == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        *(("trace/setting", '{"trace_rate":10}'), ("trace/setting", '{"trace_level":[1]}'), ("trace/setting", "[]")),
        *(("logging", '{"log_info":"x"}'), ("logging", '{"log_format":[]}'), ("logging", '{"log_format":1.5}')),
        *(("logging", '{"log_format":' + "[" * 990 + "]" * 990 + "}"), ("logging", '{"log_verbose_level":-1}')),
        ("models/none/trace/setting", "{}"),
    ],
)
async def test_a_setting_of_another_kind_is_refused(house: House, path: str, body: str) -> None:
    assert (await house.call("POST", f"/v2/{path}", body.encode())).status == 400


async def test_shared_memory_of_cuda_is_refused_in_words_but_for_what_leaves_nothing_behind(house: House) -> None:
    for method, path in (("GET", "status"), ("GET", "region/r/status"), ("POST", "region/r/register")):
        found = await house.call(method, f"/v2/cudasharedmemory/{path}", b"{}")
        assert (found.status, "CUDA shared memory is not offered" in found.json["error"]) == (501, True)
    for path in ("unregister", "region/r/unregister"):
        assert (await house.call("POST", f"/v2/cudasharedmemory/{path}")).status == 200


@pytest.mark.parametrize(
    "body",
    ["{}", '{"key":"/a"}', '{"key":5,"byte_size":1}', '{"key":"/a","byte_size":"1"}', '{"key":"/a","byte_size":true}'],
)
async def test_a_region_of_another_form_is_refused(house: House, body: str) -> None:
    assert (await house.call("POST", "/v2/systemsharedmemory/region/r/register", body.encode())).status == 400
    assert (await house.call("GET", "/v2/systemsharedmemory/status")).json == []


async def test_a_restricted_group_needs_its_header() -> None:
    house = House(restricted=("inference,statistics:x-secret=s3",))
    cases: list[tuple[dict[str, Any], int]] = [({}, 403), ({"x_secret": "s4"}, 403), ({"x_secret": "s3"}, 200)]
    for headers, status in cases:
        assert (await house.call("POST", "/v2/models/m/infer", infer_body(), **headers)).status == status
        assert (await house.call("GET", "/v2/models/stats", **headers)).status == status
        assert (await house.call("GET", "/v2/models/m", **headers)).status == 200


def leaving(house: House) -> Callable[[], Any]:
    """A client that sends its body, and goes away once the model has the call."""
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": infer_body(), "more_body": False}
        while not house.model.calls:
            await asyncio.sleep(0.001)
        return {"type": "http.disconnect"}

    return receive


async def test_a_call_whose_client_goes_away_is_cancelled() -> None:
    house = House(patience=Patience(look_s=0.001))
    house.model.waits = True
    async with asyncio.timeout(PATIENCE_S):
        found = await house.call("POST", "/v2/models/m/infer", receive=leaving(house))
    assert (found.status, house.model.cancelled) == (0, True)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_call_that_is_cancelled_from_outside_is_not_swallowed() -> None:
    house = House(patience=Patience(look_s=0.001))
    house.model.waits = True
    call = asyncio.create_task(house.call("POST", "/v2/models/m/infer", infer_body()))
    async with asyncio.timeout(PATIENCE_S):
        while not house.model.calls:
            await asyncio.sleep(0.001)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_client_that_stalls_in_the_middle_of_its_body_is_told_so() -> None:
    house = House(patience=Patience(stall_s=0.02, look_s=0.001))
    parts = [b"{", b'"inputs"']

    async def receive() -> dict[str, Any]:
        if not parts:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": parts.pop(), "more_body": True}

    async with asyncio.timeout(PATIENCE_S):
        found = await house.call("POST", "/v2/models/m/infer", receive=receive)
    assert (found.status, found.headers["connection"], house.model.calls) == (408, "close", [])


async def test_a_client_that_goes_on_slowly_is_waited_for() -> None:
    house = House(patience=Patience(stall_s=0.5, look_s=0.001))
    body = list(infer_body())

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": bytes([body.pop(0)]), "more_body": bool(body)}

    async with asyncio.timeout(PATIENCE_S):
        assert (await house.call("POST", "/v2/models/m/infer", receive=receive)).status == 200


async def test_a_client_that_goes_away_in_its_body_leaves_no_call() -> None:
    house = House()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    found = await house.call("POST", "/v2/models/m/infer", receive=receive)
    assert (found.status, house.model.calls) == (0, [])
