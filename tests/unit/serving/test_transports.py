"""The same calls by each transport; TLS, restricted calls, and images as clients have them."""

from __future__ import annotations

import asyncio
import datetime
import gc
import io
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from PIL import Image
from tritonclient.utils import InferenceServerException

from services.common.runtime import Runtime
from services.common.servers import CannotStart
from services.serving.domain.calls import InferCall
from services.serving.domain.work import Work
from tests.unit.serving.folders import PICTURE_CONFIG, folder_serving, numbers, pictures, write
from tests.waiting import until

VALUES = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "models"
    write(place, "numbers", numbers())
    write(place, "pictures", pictures(), PICTURE_CONFIG)
    return place


@pytest.fixture(params=["grpcio", "pygrpc"])
async def runtime(request: pytest.FixtureRequest, folder: Path, tmp_path: Path) -> AsyncIterator[Runtime]:
    async with folder_serving(folder, tmp_path, transport=request.param) as one:
        yield one


@pytest.fixture
async def client(runtime: Runtime) -> AsyncIterator[triton.InferenceServerClient]:
    async with triton.InferenceServerClient(f"127.0.0.1:{runtime.ports['grpc_port']}") as one:
        yield one


def tensor(array: np.ndarray, name: str = "numbers", datatype: str = "FP32") -> triton.InferInput:
    found = triton.InferInput(name, list(array.shape), datatype)
    found.set_data_from_numpy(array)
    return found


async def test_a_call_leaves_nothing_for_the_collection_of_cycles(client: triton.InferenceServerClient) -> None:
    """Tensors that waited for it would be hundreds of megabytes with large images."""
    gc.disable()
    try:
        await client.infer("numbers", [tensor(VALUES)])
        await client.infer("pictures", [tensor(np.array([_png()], dtype=np.object_), "image", "BYTES")])
        with pytest.raises(InferenceServerException):
            await client.infer("numbers", [tensor(VALUES.astype(np.float64), datatype="FP64")])
        await until(lambda: not any(type(one) in (InferCall, Work) for one in gc.get_objects()), what="their end")
    finally:
        gc.enable()


async def test_a_call_and_all_around_it_are_answered(client: triton.InferenceServerClient) -> None:
    answer = await client.infer("numbers", [tensor(VALUES)], request_id="call")
    assert np.array_equal(answer.as_numpy("same"), VALUES)
    assert (answer.get_response().id, answer.get_response().model_version) == ("call", "1")
    assert await client.is_server_ready()
    assert (await client.get_model_metadata("numbers")).inputs[0].name == "numbers"
    assert (await client.get_inference_statistics("numbers")).model_stats[0].inference_count == 2


async def test_errors_have_their_codes(client: triton.InferenceServerClient) -> None:
    for model, array, status in (("nobody", VALUES, "NOT_FOUND"), ("numbers", VALUES[:, :3], "INVALID_ARGUMENT")):
        with pytest.raises(InferenceServerException) as refusal:
            await client.infer(model, [tensor(np.ascontiguousarray(array))])
        assert status in str(refusal.value.status())


async def test_many_calls_at_once_each_get_their_own_answer(client: triton.InferenceServerClient) -> None:
    arrays = [VALUES[:1] + number for number in range(300)]
    answers = await asyncio.gather(*(client.infer("numbers", [tensor(array)]) for array in arrays))
    assert all(np.array_equal(found.as_numpy("same"), array) for found, array in zip(answers, arrays, strict=True))
    (statistics,) = (await client.get_inference_statistics("numbers")).model_stats
    assert statistics.inference_count == 300
    assert statistics.execution_count < 300


async def test_a_full_queue_answers_unavailable_and_the_server_goes_on(folder: Path, tmp_path: Path) -> None:
    write(
        folder,
        "numbers",
        numbers(),
        "max_batch_size: 4\ndynamic_batching { default_queue_policy { max_queue_size: 1 } }",
    )
    for transport in ("grpcio", "pygrpc"):
        async with (
            folder_serving(folder, tmp_path, transport=transport) as one,
            triton.InferenceServerClient(f"127.0.0.1:{one.ports['grpc_port']}") as client,
        ):
            calls = [client.infer("numbers", [tensor(VALUES)]) for _ in range(400)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
            refused = [answer for answer in answers if isinstance(answer, InferenceServerException)]
            assert len(refused) + sum(isinstance(answer, triton.InferResult) for answer in answers) == 400
            assert all("UNAVAILABLE" in str(answer.status()) for answer in refused)
            assert (await client.infer("numbers", [tensor(VALUES)])).as_numpy("same").shape == (2, 4)


async def test_a_large_tensor_comes_back_as_it_was(folder: Path, tmp_path: Path) -> None:
    write(folder, "numbers", numbers(), "max_batch_size: 100000\n")
    large = np.random.default_rng(0).random((80_000, 4), dtype=np.float32)
    for transport in ("grpcio", "pygrpc"):
        async with (
            folder_serving(folder, tmp_path, transport=transport) as one,
            triton.InferenceServerClient(f"127.0.0.1:{one.ports['grpc_port']}") as client,
        ):
            assert np.array_equal((await client.infer("numbers", [tensor(large)])).as_numpy("same"), large)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
async def test_an_encoded_image_gives_what_its_pixels_give(client: triton.InferenceServerClient, kind: str) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    by_tensor = await client.infer("pictures", [tensor(pixels, "image", "UINT8")])
    files = np.empty((2, 1), dtype=np.object_)
    for place, one in enumerate(pixels):
        file = io.BytesIO()
        Image.fromarray(one).save(file, kind, lossless=True)
        files[place, 0] = file.getvalue()
    by_file = await client.infer("pictures", [tensor(files, "image", "BYTES")])
    assert np.array_equal(by_file.as_numpy("pixels"), by_tensor.as_numpy("pixels"))
    assert np.array_equal(by_file.as_numpy("pixels"), pixels)


@pytest.mark.parametrize(
    ("content", "shape", "sentence"),
    [(b"no image", (1,), "cannot be decoded"), (b"x" * (2 << 20), (1,), "at most"), (b"x", (1, 1, 1), r"\[N, 1\]")],
)
async def test_what_is_no_image_is_refused(
    folder: Path, tmp_path: Path, content: bytes, shape: tuple[int, ...], sentence: str
) -> None:
    async with (
        folder_serving(folder, tmp_path, image_mb=1) as one,
        triton.InferenceServerClient(f"127.0.0.1:{one.ports['grpc_port']}") as client,
    ):
        files = np.full(shape, content, dtype=np.object_)
        with pytest.raises(InferenceServerException, match=sentence) as refusal:
            await client.infer("pictures", [tensor(files, "image", "BYTES")])
        assert "INVALID_ARGUMENT" in str(refusal.value.status())


def certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for localhost that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "tls.crt", folder / "tls.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_tls_encrypts_and_mutual_tls_asks_for_a_certificate(folder: Path, tmp_path: Path) -> None:
    crt, key = certificate(tmp_path)
    fields = {"tls_certificate": crt, "tls_key": key}
    trusted = grpc.ssl_channel_credentials(crt.read_bytes())
    known = grpc.ssl_channel_credentials(crt.read_bytes(), key.read_bytes(), crt.read_bytes())
    async with (
        folder_serving(folder, tmp_path, **fields) as one,
        triton.InferenceServerClient(f"localhost:{one.ports['grpc_port']}", ssl=True, creds=trusted) as client,
    ):
        assert await client.is_server_live()
    async with folder_serving(folder, tmp_path, **fields, tls_client_ca=crt) as one:
        address = f"localhost:{one.ports['grpc_port']}"
        async with triton.InferenceServerClient(address, ssl=True, creds=known) as client:
            assert await client.is_server_live()
        async with triton.InferenceServerClient(address, ssl=True, creds=trusted) as client:
            with pytest.raises(InferenceServerException):
                await client.is_server_live(client_timeout=5)


async def test_a_transport_that_cannot_encrypt_does_not_start_with_a_certificate(folder: Path, tmp_path: Path) -> None:
    crt, key = certificate(tmp_path)
    with pytest.raises(CannotStart, match="does not encrypt"):
        async with folder_serving(folder, tmp_path, transport="pygrpc", tls_certificate=crt, tls_key=key):
            pass


async def test_restricted_calls_need_their_header(folder: Path, tmp_path: Path) -> None:
    fields = {
        "grpc_restricted": ("model-repository,statistics:key=secret",),
        "http_restricted": ("metadata:key=secret",),
    }
    async with folder_serving(folder, tmp_path, **fields) as one:
        async with triton.InferenceServerClient(f"127.0.0.1:{one.ports['grpc_port']}") as client:
            assert (await client.infer("numbers", [tensor(VALUES)])).as_numpy("same").shape == (2, 4)
            with pytest.raises(InferenceServerException, match="restricted"):
                await client.get_model_repository_index()
            header = {"triton-grpc-protocol-key": "secret"}
            assert len((await client.get_model_repository_index(headers=header)).models) == 2
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{one.ports['http_port']}") as http:
            assert (await http.get("/v2")).status_code == 403
            assert (await http.get("/v2", headers={"key": "secret"})).status_code == 200
            assert (await http.get("/v2/health/live")).status_code == 200


async def test_a_message_above_the_limit_is_refused_and_the_server_goes_on(folder: Path, tmp_path: Path) -> None:
    write(folder, "numbers", numbers(), "max_batch_size: 1000000\n")
    large = np.zeros((200_000, 4), np.float32)
    for transport in ("grpcio", "pygrpc"):
        async with folder_serving(folder, tmp_path, transport=transport, max_request_mb=2) as one:
            async with triton.InferenceServerClient(f"127.0.0.1:{one.ports['grpc_port']}") as client:
                with pytest.raises(InferenceServerException) as refusal:
                    await client.infer("numbers", [tensor(large)])
                assert "RESOURCE_EXHAUSTED" in str(refusal.value.status())
                assert (await client.infer("numbers", [tensor(VALUES)])).as_numpy("same").shape == (2, 4)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{one.ports['http_port']}") as http:
                answer = await http.post("/v2/models/numbers/infer", content=bytes(3 << 20))
                assert (answer.status_code, "limit" in answer.json()["error"]) == (413, True)


def _png() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    return file.getvalue()


SLOW_CONFIG = """
backend: "python"
max_batch_size: 1
input { name: "x" data_type: TYPE_FP32 dims: [2] }
output { name: "y" data_type: TYPE_FP32 dims: [2] }
dynamic_batching { default_queue_policy { max_queue_size: 1 } }
"""
SLOW = """
import os, time
def infer(inputs):
    while not os.path.exists({gate!r}):
        time.sleep(0.01)
    return {{"y": inputs["x"]}}
"""


@pytest.mark.parametrize("transport", ["grpcio", "pygrpc"])
async def test_what_finds_no_room_is_unavailable_and_counted(folder: Path, tmp_path: Path, transport: str) -> None:
    place, gate = folder / "slow", tmp_path / "go on"
    (place / "1").mkdir(parents=True)
    (place / "config.pbtxt").write_text(SLOW_CONFIG)
    (place / "1" / "model.py").write_text(SLOW.format(gate=str(gate)))
    values = np.ones((1, 2), np.float32)
    async with (
        folder_serving(folder, tmp_path, transport=transport) as one,
        triton.InferenceServerClient(f"127.0.0.1:{one.ports['grpc_port']}") as client,
    ):
        calls = [asyncio.ensure_future(client.infer("slow", [tensor(values, "x")])) for _ in range(6)]
        await until(lambda: any(one.done() for one in calls))
        await asyncio.to_thread(gate.touch)
        found = await asyncio.gather(*calls, return_exceptions=True)
        async with httpx.AsyncClient() as http:
            scraped = (await http.get(f"http://127.0.0.1:{one.ports['http_port']}/metrics")).text
    refused = [each for each in found if isinstance(each, InferenceServerException)]
    assert 1 <= len(refused) <= 5
    assert all("UNAVAILABLE" in str(each.status()) and "maximum queue size" in str(each) for each in refused)
    (line,) = (line for line in scraped.splitlines() if 'request_failure{model="slow",reason="REJECTED"' in line)
    assert float(line.split()[-1]) == len(refused)
