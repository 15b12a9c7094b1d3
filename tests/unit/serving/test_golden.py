"""A golden input: what is compared, what may differ, and what is said; beside a folder's model, too."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton

from services.serving.domain import golden
from services.serving.domain.golden import Golden, read_golden
from services.serving.errors import BadPackage
from tests.unit.serving import folders, tiny

IMAGE = {"image": np.zeros((2, 1), np.uint8)}


def archive(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def compared(expected: Any, found: Any, absolute: float = 0.1, relative: float = 0.0) -> str:
    """Why it is refused; "" when it is not."""
    try:
        Golden(IMAGE, {"y": np.asarray(expected)}, absolute, relative).check({"y": np.asarray(found)})
    except BadPackage as error:
        return str(error)
    return ""


def test_a_file_is_read_with_its_tolerances() -> None:
    found = read_golden(tiny.golden(2, atol=np.array(0.5), rtol=np.array([0.25])))
    assert (sorted(found.inputs), sorted(found.outputs)) == (["image"], ["embedding", "logits"])
    assert (found.rows, found.absolute, found.relative) == (2, 0.5, 0.25)
    assert read_golden(tiny.golden()).absolute == golden.DEFAULT_TOLERANCE


def test_the_output_the_largest_difference_and_the_tolerance_are_named() -> None:
    expected = np.array([[1.0, 2.0], [3.0, -400.0]], np.float32)
    found = np.array([[1.0, 2.5], [3.75, -400.9]], np.float32)
    assert compared(expected, found, 0.1, 0.01) == (
        "golden.npz does not give what it should: output 'y' differs by 0.75 at [1, 0] (expected 3, got 3.75); "
        "allowed is 0.1 + 0.01 x |expected|."
    )


@pytest.mark.parametrize(
    ("expected", "found"),
    [
        ([1.0, 2.0], [1.05, 1.95]),
        (np.array([1], np.float32), np.array([1], np.float16)),
        ([np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf]),
        ([1, 2], [1, 2]),
        ([True], [True]),
        (np.zeros((0, 3)), np.zeros((0, 3))),
    ],
)
def test_what_is_close_enough_passes(expected: Any, found: Any) -> None:
    assert compared(expected, found) == ""


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        ([1.0], [np.nan], "differs by inf"),
        ([np.nan], [1.0], "differs by inf"),
        ([np.inf], [-np.inf], "differs by inf"),
        ([np.inf], [5.0], "differs by inf"),
        ([1, 2], [1, 3], "allowed is nothing"),
        ([True], [False], "allowed is nothing"),
        (np.array([200], np.uint8), np.array([10], np.uint8), "differs by 190"),
        ([1.0], [1], "as float64"),
        ([[1.0]], [1.0], "the model gave float64 [1]"),
    ],
)
def test_what_is_not_is_refused(expected: Any, found: Any, said: str) -> None:
    assert said in compared(expected, found)


def test_an_output_that_the_model_has_not_is_named() -> None:
    with pytest.raises(BadPackage, match="names the output 'y', which the model has not; it has z"):
        Golden(IMAGE, {"y": np.zeros(1)}).check({"z": np.zeros(1)})


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no .npz file"),
        (tiny.golden()[:200], "no .npz file"),
        (archive(**{"inputs/image": np.zeros(1)}), "needs at least one array"),
        (archive(**{"outputs/y": np.zeros(1)}), "needs at least one array"),
        (archive(**{"inputs/x": np.array(["text"]), "outputs/y": np.zeros(1)}), "numbers and booleans alone"),
        (archive(**{"inputs/x": np.array([None]), "outputs/y": np.zeros(1)}), "no .npz file"),
        (tiny.golden(atol=np.array(-1.0)), "atol"),
        (tiny.golden(rtol=np.array([1.0, 2.0])), "rtol"),
        (tiny.golden(rtol=np.array(np.nan)), "rtol"),
    ],
)
def test_what_is_no_golden_input_is_refused(data: bytes, said: str) -> None:
    with pytest.raises(BadPackage) as refusal:
        read_golden(data)
    assert said in str(refusal.value)
    assert refusal.value.field == "golden.npz"


def test_what_unpacks_to_too_much_is_refused_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    data = archive(**{"inputs/x": np.zeros(1 << 20), "outputs/y": np.zeros(1)})
    assert len(data) < 20_000
    monkeypatch.setattr(golden, "UNPACKED_BYTES", 1 << 20)
    with pytest.raises(BadPackage, match="unpacks to"):
        read_golden(data)


async def test_a_folders_version_is_held_to_what_lies_beside_it(tmp_path: Path) -> None:
    """Version 2 gives something else than its file says, so version 1 serves; the reason is in the index."""
    models = tmp_path / "models"
    for version, stored in ((1, 1), (2, 3)):
        folders.write(models, "clothes", tiny.graph(version), "max_batch_size: 8", version)
        (models / "clothes" / str(version) / "golden.npz").write_bytes(tiny.golden(stored))
    config = "max_batch_size: 8 version_policy { specific { versions: [1, 2] } }"
    (models / "clothes" / "config.pbtxt").write_text(config)
    async with folders.folder_serving(models, tmp_path / "home") as runtime:
        tensor = triton.InferInput("image", [1, 1, 4, 4], "UINT8")
        tensor.set_data_from_numpy(np.zeros((1, 1, 4, 4), np.uint8))
        async with triton.InferenceServerClient(f"127.0.0.1:{runtime.ports['grpc_port']}") as client:
            assert (await client.infer("clothes", [tensor])).get_response().model_version == "1"
        async with httpx.AsyncClient() as http:
            url = f"http://127.0.0.1:{runtime.ports['http_port']}/v2/repository/index"
            states = {entry["version"]: entry for entry in (await http.post(url)).json()}
    assert states["1"]["state"] == "READY"
    assert "output 'logits' differs by" in states["2"]["reason"]
