"""Every way in which a call can be wrong has its own sentence, and names its field."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from services.serving.domain.calls import InferCall, WantedOutput
from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.routes import Version
from services.serving.domain.tensors import Region, TensorData
from services.serving.domain.work import Asked, SequenceMark
from services.serving.errors import BadRequest
from services.serving.handlers.requests import asked_of, feed_of, wanted_of
from tests.unit.serving.test_repository import Idle


class Board:
    """Regions in memory."""

    def __init__(self, **regions: bytes) -> None:
        self.regions = {name: bytearray(data) for name, data in regions.items()}

    def read(self, region: Region) -> memoryview:
        data = self.regions.get(region.name)
        if data is None or region.offset + region.byte_size > len(data):
            raise BadRequest("no such bytes")
        return memoryview(data)[region.offset : region.offset + region.byte_size]

    def write(self, region: Region, data: bytes | memoryview) -> None:
        self.regions[region.name][region.offset : region.offset + len(data)] = data


def version(max_batch: int = 8, *inputs: TensorConfig) -> Version:
    tensors = inputs or (TensorConfig("a", "INT32", (4,)), TensorConfig("b", "FP32", (-1, 2), optional=True))
    config = ModelConfig("m", "onnxruntime", max_batch, tensors, (TensorConfig("y", "INT32", (4,)),))
    return Version("m", "1", config, Idle())


def tensor(name: str = "a", shape: tuple[int, ...] = (1, 4), datatype: str = "INT32") -> TensorData:
    count = int(np.prod([max(0, size) for size in shape]))
    return TensorData(name, datatype, shape, raw=bytes(4 * count))


def call(*inputs: TensorData, **fields: Any) -> InferCall:
    return InferCall("m", "", inputs, **fields)


def test_a_good_call_gives_its_arrays_and_its_rows() -> None:
    feed, rows = feed_of(version(), call(tensor(shape=(3, 4)), tensor("b", (3, 5, 2), "FP32")), Board())
    assert (rows, feed["a"].shape, feed["b"].shape) == (3, (3, 4), (3, 5, 2))
    assert feed["b"].dtype == np.float32


def test_an_optional_input_may_be_left_out_and_another_may_not() -> None:
    assert set(feed_of(version(), call(tensor()), Board())[0]) == {"a"}
    with pytest.raises(BadRequest, match=r"expected 2 inputs but got 1 .* missing required input\(s\) \['a'\]"):
        feed_of(version(), call(tensor("b", (1, 5, 2), "FP32")), Board())


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ([tensor("z")], "unexpected inference input 'z'"),
        ([tensor(), tensor()], "already exists"),
        ([tensor(datatype="FP32")], "data-type is 'FP32', but model 'm' expects 'INT32'"),
        ([tensor(datatype="COMPLEX")], "does not know"),
        ([tensor(shape=(1, 5))], r"Expected \[-1,4\], got \[1,5\]"),
        ([tensor(shape=(4,))], r"Expected \[-1,4\], got \[4\]"),
        ([tensor(shape=(9, 4))], "batch-size must be <= 8"),
        ([tensor(shape=(0, 4))], "batch-size must be >= 1"),
        ([tensor(shape=(1, -4))], r"got \[1,-4\]"),
        ([tensor(shape=(2, 4)), tensor("b", (3, 1, 2), "FP32")], "batch size does not match"),
        ([TensorData("a", "INT32", (1, 4), raw=bytes(15))], r"byte size mismatch for input 'a'. Expected 16, got 15"),
    ],
)
def test_what_does_not_fit_is_refused(bad: list[TensorData], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence) as refusal:
        feed_of(version(), call(*bad), Board())
    assert refusal.value.field.startswith("inputs")


def test_without_a_batch_dimension_shapes_are_taken_as_they_are() -> None:
    one = version(0, TensorConfig("a", "INT32", (-1, 4)))
    feed, rows = feed_of(one, call(tensor(shape=(100, 4))), Board())
    assert (rows, feed["a"].shape) == (1, (100, 4))


def test_a_tensor_in_shared_memory_is_seen_and_not_copied() -> None:
    board = Board(region=bytes(8) + np.arange(4, dtype=np.int32).tobytes())
    shared = TensorData("a", "INT32", (1, 4), region=Region("region", 16, 8))
    feed, _ = feed_of(version(), call(shared), board)
    assert feed["a"].tolist() == [[0, 1, 2, 3]]
    board.regions["region"][8] = 7
    assert feed["a"][0, 0] == 7


def test_outputs_come_once_each_in_the_order_asked_for() -> None:
    config = version().config
    assert [one.name for one in wanted_of(config, call())] == ["y"]
    assert len(wanted_of(config, call(outputs=[WantedOutput("y"), WantedOutput("y")]))) == 1
    with pytest.raises(BadRequest, match="unexpected inference output 'z'"):
        wanted_of(config, call(outputs=[WantedOutput("z")]))


def test_reserved_parameters_reach_the_scheduler() -> None:
    parameters = {"priority": 2, "timeout": 500, "sequence_id": "line-3", "sequence_start": True, "colour": "red"}
    assert asked_of(call(parameters=parameters), version().config) == Asked(
        2, 500, SequenceMark("line-3", start=True, end=False), parameters
    )


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"priority": -1}, "invalid value for 'priority', expected value >= 0"),
        ({"timeout": "soon"}, "invalid value type for 'timeout'"),
        ({"sequence_id": 1.5}, "invalid value type for 'sequence_id'"),
        ({"sequence_id": 1, "sequence_start": 1}, "invalid value type for 'sequence_start'"),
        ({"triton_magic": 1}, "reserved"),
    ],
)
def test_parameters_of_the_wrong_kind_are_refused(parameters: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        asked_of(call(parameters=parameters), version().config)
