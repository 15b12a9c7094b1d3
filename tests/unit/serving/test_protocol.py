"""The Open Inference Protocol as tritonclient speaks it, against a serving that runs in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from tests.unit.serving import tiny
from tests.unit.serving.house import House, serving
from tests.waiting import until

IMAGES = np.random.RandomState(5).randint(0, 256, (3, 1, 4, 4)).astype(np.uint8)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Serving with one model: champion 2, previous 1."""
    async with serving(tmp_path) as one:
        old, new = [await tiny.store(one.objects, tmp_path, tiny.package_files(seed)) for seed in (1, 2)]
        await one.publish(tiny.aliases(1, champion=("2", new), previous=("1", old)))
        await until(lambda: one.revisions() == [1])
        yield one


@pytest.fixture
async def client(house: House) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(house.address) as one:
        yield one


def image(pixels: np.ndarray = IMAGES, name: str = "image", datatype: str = "UINT8") -> triton.InferInput:
    """The input tensor, raw."""
    tensor = triton.InferInput(name, list(pixels.shape), datatype)
    tensor.set_data_from_numpy(pixels)
    return tensor


def logits(version: int, pixels: np.ndarray = IMAGES) -> np.ndarray:
    """What the tiny graph of that seed answers."""
    return np.asarray(pixels.reshape(len(pixels), -1) / np.float32(255) @ tiny.weights(version))


async def code_of(awaitable: object) -> tuple[grpc.StatusCode, str]:
    """The status that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await awaitable  # type: ignore[misc]  # a call
    return refusal.value.code(), refusal.value.details() or ""


def test_our_stubs_and_tritonclients_live_in_one_process() -> None:
    assert pb.ModelInferRequest.DESCRIPTOR is service_pb2.ModelInferRequest.DESCRIPTOR
    assert pb.DESCRIPTOR.serialized_pb == service_pb2.DESCRIPTOR.serialized_pb


async def test_health_and_metadata_are_what_clients_expect(client: triton.InferenceServerClient) -> None:
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("clothes")
    assert await client.is_model_ready("clothes", "1")
    assert not await client.is_model_ready("clothes", "9")
    assert not await client.is_model_ready("shoes")
    server = await client.get_server_metadata()
    assert (server.name, server.version.startswith("irisloop-")) == ("triton", True)
    model = await client.get_model_metadata("clothes")
    assert (model.name, list(model.versions), model.platform) == ("clothes", ["1", "2"], "onnxruntime_onnx")
    assert (model.inputs[0].name, model.inputs[0].datatype, list(model.inputs[0].shape)) == (
        "image",
        "UINT8",
        [-1, 1, 4, 4],
    )
    assert [(one.name, one.datatype, list(one.shape)) for one in model.outputs] == [
        ("logits", "FP32", [-1, 3]),
        ("embedding", "FP32", [-1, 16]),
    ]


async def test_the_configuration_and_the_index_are_offered(client: triton.InferenceServerClient) -> None:
    config = (await client.get_model_config("clothes")).config
    assert (config.max_batch_size, list(config.input[0].dims), config.input[0].data_type) == (8, [1, 4, 4], 2)
    index = await client.get_model_repository_index()
    assert [(one.name, one.version, one.state) for one in index.models] == [
        ("clothes", "1", "READY"),
        ("clothes", "2", "READY"),
    ]


async def test_the_champion_answers_and_any_loaded_version_by_its_number(client: triton.InferenceServerClient) -> None:
    for version, expected in (("", 2), ("2", 2), ("1", 1)):
        answer = await client.infer("clothes", [image()], version, request_id="call-7")
        response = answer.get_response()
        assert (response.model_name, response.model_version, response.id) == ("clothes", str(expected), "call-7")
        assert answer.as_numpy("logits") == pytest.approx(logits(expected), abs=1e-5)
        assert answer.as_numpy("embedding").shape == (3, 16)


async def test_only_the_outputs_asked_for_come_in_their_order(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("embedding"), triton.InferRequestedOutput("logits")]
    answer = await client.infer("clothes", [image()], outputs=wanted)
    assert [one.name for one in answer.get_response().outputs] == ["embedding", "logits"]
    answer = await client.infer("clothes", [image()], outputs=wanted[:1])
    assert [one.name for one in answer.get_response().outputs] == ["embedding"]


async def test_parameters_that_are_not_ours_are_accepted(client: triton.InferenceServerClient) -> None:
    answer = await client.infer(
        "clothes", [image()], priority=3, timeout=1, sequence_id=7, sequence_start=True, parameters={"colour": "red"}
    )
    assert answer.as_numpy("logits").shape == (3, 3)


def request(**changes: object) -> pb.ModelInferRequest:
    """A good request with typed contents, and then fields of the caller's."""
    values = {"uint_contents": IMAGES[:1].ravel().tolist()}
    one = pb.ModelInferRequest(model_name="clothes")
    one.inputs.add(name="image", datatype="UINT8", shape=[1, 1, 4, 4], contents=values)
    for name, value in changes.items():
        setattr(one, name, value)
    return one


@pytest.fixture
async def stub(house: House) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(house.address) as channel:
        yield grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)


Stub = Any
"""The generated types know grpc's own stub, and not that a channel of grpc.aio makes it awaitable."""


async def test_typed_contents_give_the_same_answer_as_raw_ones(stub: Stub) -> None:
    answer = await stub.ModelInfer(request())
    found = np.frombuffer(answer.raw_output_contents[0], np.float32).reshape(1, 3)
    assert found == pytest.approx(logits(2, IMAGES[:1]), abs=1e-5)


def broken() -> Sequence[tuple[str, pb.ModelInferRequest]]:
    """Requests that fit no model, and what the refusal should say."""
    short = request()
    short.inputs[0].ClearField("contents")
    short.raw_input_contents.append(b"123")
    dtype = request()
    dtype.inputs[0].datatype = "FP32"
    name = request()
    name.inputs[0].name = "picture"
    shape = request()
    shape.inputs[0].shape[:] = [1, 1, 2, 8]
    empty = request()
    empty.inputs[0].shape[:] = [0, 1, 4, 4]
    large = request()
    large.inputs[0].shape[:] = [9, 1, 4, 4]
    large.inputs[0].contents.uint_contents[:] = [0] * 144
    twice = request()
    twice.inputs.append(twice.inputs[0])
    none = request()
    none.ClearField("inputs")
    output = request()
    output.outputs.add(name="boxes")
    reserved = request()
    reserved.parameters["triton_magic"].bool_param = True
    both = request()
    both.raw_input_contents.append(bytes(16))
    shared = request()
    shared.inputs[0].parameters["shared_memory_region"].string_param = "x"
    unknown = request()
    unknown.inputs[0].datatype = "COMPLEX"
    classes = request()
    classes.outputs.add(name="logits").parameters["classification"].int64_param = -3
    values = request()
    values.inputs[0].contents.uint_contents[0] = 256
    return [
        ("byte size mismatch", short),
        ("of type uint_contents, expected datatype 'FP32'", dtype),
        ("unexpected inference input", name),
        ("shape", shape),
        ("batch-size must be >= 1", empty),
        ("batch-size must be <= 8", large),
        ("already exists", twice),
        ("expected 1 inputs but got 0", none),
        ("unexpected inference output", output),
        ("reserved", reserved),
        ("contents", both),
        ("shared_memory_byte_size", shared),
        ("datatype", unknown),
        ("classification", classes),
        ("values that are not UINT8", values),
        ("integral value", request(model_version="abc")),
        ("integral value", request(model_version="-1")),
    ]


@pytest.mark.parametrize("place", range(len(broken())))
async def test_a_call_that_does_not_fit_is_refused_as_an_invalid_argument(stub: Stub, place: int) -> None:
    sentence, call = broken()[place]
    code, details = await code_of(stub.ModelInfer(call))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert sentence in details


@pytest.mark.parametrize("call", [request(model_name="shoes"), request(model_version="9"), pb.ModelInferRequest()])
async def test_what_is_not_there_is_not_found(stub: Stub, call: pb.ModelInferRequest) -> None:
    code, details = await code_of(stub.ModelInfer(call))
    assert (code, "Request for unknown model" in details) == (grpc.StatusCode.NOT_FOUND, True)


async def test_models_that_follow_registry_are_not_loaded_by_call(client: triton.InferenceServerClient) -> None:
    for call in (client.load_model("clothes"), client.unload_model("clothes")):
        with pytest.raises(InferenceServerException, match="follow registry") as refusal:
            await call
        assert "UNIMPLEMENTED" in str(refusal.value.status())


async def test_cuda_shared_memory_says_that_it_is_not_offered(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="computes on CPUs") as refusal:
        await client.get_cuda_shared_memory_status()
    assert "UNIMPLEMENTED" in str(refusal.value.status())


async def test_statistics_count_every_call(client: triton.InferenceServerClient) -> None:
    for _ in range(3):
        await client.infer("clothes", [image()])
    with pytest.raises(InferenceServerException):
        await client.infer("clothes", [image(IMAGES.reshape(3, 4, 4))])
    (found,) = (await client.get_inference_statistics("clothes", "2")).model_stats
    assert (found.name, found.version, found.inference_count, found.execution_count) == ("clothes", "2", 9, 3)
    assert (found.inference_stats.success.count, found.inference_stats.fail.count) == (3, 0)
    assert [(one.batch_size, one.compute_infer.count) for one in found.batch_stats] == [(3, 3)]
    assert found.inference_stats.success.ns >= found.inference_stats.compute_infer.ns > 0


async def test_the_best_classes_come_as_text_with_their_labels(client: triton.InferenceServerClient) -> None:
    answer = await client.infer("clothes", [image()], outputs=[triton.InferRequestedOutput("logits", class_count=2)])
    found = answer.as_numpy("logits")
    assert found.shape == (3, 2)
    wanted = logits(2)
    for row, entries in enumerate(found):
        value, index, label = entries[0].decode().split(":")
        assert (int(index), label) == (wanted[row].argmax(), tiny.CLASSES[wanted[row].argmax()])
        assert float(value) == pytest.approx(wanted[row].max(), abs=1e-5)


async def test_a_stream_answers_each_request_and_goes_on_after_a_bad_one(stub: Stub) -> None:
    async def requests() -> AsyncIterator[pb.ModelInferRequest]:
        yield request(id="first")
        yield request(id="bad", model_version="9")
        yield request(id="last")

    answers = [one async for one in stub.ModelStreamInfer(requests())]
    assert sorted(one.infer_response.id for one in answers) == ["bad", "first", "last"]
    (bad,) = (one for one in answers if one.error_message)
    assert (bad.infer_response.id, "unknown model" in bad.error_message) == ("bad", True)
    good = [one.infer_response for one in answers if not one.error_message]
    assert all(np.frombuffer(one.raw_output_contents[0], np.float32).shape == (3,) for one in good)


async def test_bytes_that_are_no_message_are_an_invalid_argument(house: House) -> None:
    async with grpc.aio.insecure_channel(house.address) as channel:
        for method in ("ModelInfer", "ModelMetadata"):
            call: Any = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
            code, details = await code_of(call(b"\x0a\xff\xff"))
            assert (code, "is not an inference." in details) == (grpc.StatusCode.INVALID_ARGUMENT, True)


async def test_a_clients_predictions_become_events_off_the_hot_path(
    house: House, client: triton.InferenceServerClient
) -> None:
    await client.infer("clothes", [image()])
    await until(lambda: len(house.predictions()) == 3)
    events = house.prediction_events()
    assert {event.key for event in events} == {"model/clothes"}
    assert len({event.ce_id for event in events}) == 3
    made = [event.value.prediction for event in events]
    best = logits(2).argmax(axis=1)
    assert [one.scores[0].class_name for one in made] == [tiny.CLASSES[index] for index in best]
    assert all((one.role, one.version, one.asset_id, one.camera_id) == ("direct", "2", "", "") for one in made)
    assert all(one.latency_ms > 0 and one.features.HasField("energy") for one in made)


async def test_clients_events_can_be_switched_off(tmp_path: Path) -> None:
    async with serving(tmp_path, direct_events=False) as house:
        package = await tiny.store(house.objects, tmp_path, tiny.package_files())
        await house.publish(tiny.aliases(1, champion=("1", package)))
        await until(lambda: house.revisions() == [1])
        async with triton.InferenceServerClient(house.address) as client:
            await client.infer("clothes", [image()])
        await asyncio.sleep(0.2)
        assert house.predictions() == []


async def test_without_any_model_the_server_is_ready_and_says_that_there_is_none(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as house,
        triton.InferenceServerClient(house.address) as client,
    ):
        assert await client.is_server_ready()
        assert (await client.get_model_repository_index()).models == []
        with pytest.raises(InferenceServerException, match="unknown model"):
            await client.infer("clothes", [image()])
