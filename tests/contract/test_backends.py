"""The contract of `Backend`: the same cases in onnxruntime, in Python code of both forms, and on another server."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import onnxruntime
import pytest

from services.serving.domain.config import DynamicBatching
from services.serving.domain.ports import Backend
from services.serving.domain.tensors import DTYPES
from services.serving.domain.work import PLAIN, Arrays, Work
from services.serving.errors import BadPackage, BadRequest, InferenceFailed
from services.serving.outbound.backends.onnx import ALWAYS, OnnxBackend, Options
from services.serving.outbound.scheduling import Pool, Scheduler
from tests.contract.backend_houses import HOUSES, REFUSED, House, add_graph, config_of
from tests.unit.serving.runners import Heard


@pytest.fixture(params=list(HOUSES))
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Each test of the contract runs in all of them."""
    yield from _house(request.param, tmp_path)


def _house(name: str, folder: Path) -> Iterator[Any]:
    found = HOUSES[name](folder)
    yield found
    if hasattr(found, "close"):
        found.close()


@pytest.fixture(params=[name for name in HOUSES if name != "onnxruntime"])
def decoupling(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Those that can run decoupled models; a graph gives exactly one answer."""
    yield from _house(request.param, tmp_path)


def terms(*a: float, index: int = 1) -> Arrays:
    rows = len(a)
    return {
        "A": np.array([[value, 2 * value] for value in a], np.float32),
        "B": np.full((rows, 2), 0.5, np.float32),
        "INDEX": np.full((rows, 1), index, np.int64),
    }


def run(backend: Backend, inputs: Arrays) -> Arrays:
    """The one answer of a model that is not decoupled."""
    ((outputs, last),) = backend.run(inputs, PLAIN)
    assert last is True
    return outputs


VALUES: dict[str, list[Any]] = {
    "BOOL": [True, False, True],
    "BYTES": [b"", b"zw\xc3\xb6lf", b"a\x00b"],
    "BF16": [0, 0x3F80, 0xFFFF],
    "INT64": [-(2**63), 0, 2**63 - 1],
    "UINT64": [0, 1, 2**64 - 1],
    "FP16": [-0.0, 65504.0, float("inf")],
    "FP64": [1e300, -1e-300, 0.1],
}


@pytest.mark.parametrize("datatype", DTYPES)
def test_every_datatype_comes_back_bit_by_bit(place: House, datatype: str) -> None:
    backend = place.opened(config_of("identity", datatype))
    row: list[Any] = VALUES.get(datatype, [0, 1, 100])
    values = np.array([row, row], dtype=DTYPES[datatype])
    outputs = run(backend, {"IN": values})
    found = outputs["OUT"]
    assert (list(outputs), found.shape, found.dtype) == (["OUT"], (2, 3), np.dtype(DTYPES[datatype]))
    assert [_bytes(one) for one in found.ravel()] == [_bytes(one) for one in values.ravel()]
    backend.close()


def _bytes(value: Any) -> bytes:
    """Text may come as str."""
    if isinstance(value, str):
        return value.encode()
    return value if isinstance(value, bytes) else bytes(value.tobytes())


def test_inputs_and_outputs_go_by_name_and_all_outputs_come(place: House) -> None:
    backend = place.opened(config_of("add"))
    inputs = terms(1, index=3)
    outputs = run(backend, {name: inputs[name] for name in sorted(inputs, reverse=True)})
    found = {name: array.tolist() for name, array in outputs.items()}
    assert found == {"SUM": [[1.5, 2.5]], "DIFFERENCE": [[0.5, 1.5]], "PICKED": [[8.0]]}
    backend.close()


@pytest.mark.parametrize("rows", [1, 2, 8])
def test_the_first_dimension_is_the_batch(place: House, rows: int) -> None:
    backend = place.opened(config_of("add"))
    outputs = run(backend, terms(*range(rows)))
    assert outputs["SUM"].tolist() == [[value + 0.5, 2 * value + 0.5] for value in range(rows)]
    assert outputs["PICKED"].shape == (rows, 1)
    backend.close()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 0)])
def test_dimensions_that_a_model_leaves_open_may_have_any_size(place: House, shape: tuple[int, int]) -> None:
    backend = place.opened(config_of("identity", "FP32"))
    assert run(backend, {"IN": np.ones(shape, np.float32)})["OUT"].shape == shape
    backend.close()


def test_inputs_that_are_not_contiguous_or_not_writable_are_taken(place: House) -> None:
    backend = place.opened(config_of("identity", "FP32"))
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    frozen = np.frombuffer(values.tobytes(), np.float32).reshape(3, 4)
    for given in (values.T, frozen, values[::2, ::-1]):
        assert np.array_equal(run(backend, {"IN": given})["OUT"], given)
    backend.close()


def test_an_input_that_the_model_cannot_take_is_an_error_and_the_next_one_runs(place: House) -> None:
    backend = place.opened(config_of("add"))
    for _ in range(3):
        with pytest.raises((InferenceFailed, BadRequest), match=r"out.of.*bounds|out of data bounds"):
            run(backend, terms(1, index=REFUSED))
        assert run(backend, terms(2))["PICKED"].tolist() == [[2.0]]
    backend.close()


def test_as_many_threads_as_there_are_instances_run_at_one_time(place: House) -> None:
    backend = place.opened(config_of("add", instances=4))
    barrier = Barrier(4)

    def hammer(number: int) -> list[float]:
        barrier.wait(30)
        return [float(run(backend, terms(number + 4 * step))["SUM"][0, 0]) for step in range(25)]

    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(hammer, range(4)))
    assert found == [[number + 4 * step + 0.5 for step in range(25)] for number in range(4)]
    backend.close()


async def test_requests_that_run_together_each_get_their_own_rows(place: House) -> None:
    config = config_of("add", instances=2, dynamic_batching=DynamicBatching())
    backend = place.opened(config)
    pool = Pool(2)
    pool.start()
    runner = Scheduler(config, backend, pool, 1000)
    heard = [Heard() for _ in range(30)]
    for number, one in enumerate(heard):
        rows = number % 3 + 1
        index = REFUSED if number % 10 == 7 else 2
        runner.submit(Work(terms(*[float(number)] * rows, index=index), rows, one.take))
    for number, one in enumerate(heard):
        if number % 10 == 7:
            assert isinstance(one.only(), InferenceFailed | BadRequest)
        else:
            assert one.values("SUM") == [number + 0.5] * (number % 3 + 1)
    assert (runner.statistics.success.count, runner.statistics.fail.count) == (27, 3)
    await runner.close()
    pool.stop()


def test_a_closed_backend_refuses_to_run_and_holds_nothing(place: House) -> None:
    backend = place.opened(config_of("add"))
    run(backend, terms(1))
    inside = place.inside(backend)
    assert inside() is not None
    backend.close()
    gc.collect()
    assert inside() is None
    with pytest.raises(InferenceFailed):
        run(backend, terms(1))


def test_a_backend_says_where_it_runs_and_how_it_wants_to_be_run(place: House) -> None:
    backend = place.opened(config_of("add"))
    assert backend.placement
    assert isinstance(backend.blocking, bool)
    assert isinstance(backend.joins, bool)
    backend.close()


def count(backend: Backend, number: int) -> Iterator[int]:
    for outputs, last in backend.run({"IN": np.array([number], np.int32)}, PLAIN):
        yield int(outputs["OUT"][0])
        if last:
            return


@pytest.mark.parametrize("number", [0, 1, 4])
def test_a_decoupled_model_gives_any_number_of_answers_in_order(decoupling: House, number: int) -> None:
    backend = decoupling.opened(config_of("count"))
    assert list(count(backend, number)) == list(range(number))
    backend.close()


def test_a_decoupled_model_that_fails_gives_what_it_had_and_then_the_error(decoupling: House) -> None:
    backend = decoupling.opened(config_of("count"))
    found = []
    with pytest.raises(InferenceFailed, match="five is too many"):
        for one in count(backend, 7):
            found.append(one)  # noqa: PERF402  # what came before the error is the point
    assert found == [0, 1, 2, 3, 4]
    assert list(count(backend, 2)) == [0, 1]
    backend.close()


def test_a_decoupled_request_that_nobody_hears_any_more_frees_the_model(decoupling: House) -> None:
    backend = decoupling.opened(config_of("count"))
    answers = backend.run({"IN": np.array([4], np.int32)}, PLAIN)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator
    assert list(count(backend, 3)) == [0, 1, 2]
    backend.close()


class Runtime:
    """onnxruntime on a machine with other providers; of those, `broken` do not start."""

    GraphOptimizationLevel = onnxruntime.GraphOptimizationLevel
    ExecutionMode = onnxruntime.ExecutionMode
    SessionOptions = onnxruntime.SessionOptions

    def __init__(self, *here: str, broken: tuple[str, ...] = ()) -> None:
        self._here = [*here, ALWAYS]
        self._broken = broken
        self.asked: list[str] = []

    def get_available_providers(self) -> list[str]:
        return self._here

    def InferenceSession(self, graph: Any, options: Any, providers: list[str]) -> Any:
        assert set(providers) <= set(self._here), "onnxruntime warns of a provider that is not there"
        self.asked = providers
        session = onnxruntime.InferenceSession(graph, options, providers=[ALWAYS])
        started = [name for name in providers if name not in self._broken]
        session.get_providers = lambda: started
        return session


CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"


@pytest.mark.parametrize(
    ("wanted", "here", "broken", "asked", "chosen"),
    [
        ((TENSORRT, CUDA), (CUDA, TENSORRT), (), [TENSORRT, CUDA, ALWAYS], TENSORRT),
        ((CUDA, TENSORRT), (CUDA, TENSORRT), (), [CUDA, TENSORRT, ALWAYS], CUDA),
        ((TENSORRT, CUDA), (CUDA,), (), [CUDA, ALWAYS], CUDA),
        ((TENSORRT, CUDA), (CUDA, TENSORRT), (TENSORRT,), [TENSORRT, CUDA, ALWAYS], CUDA),
        ((TENSORRT, CUDA), (), (), [ALWAYS], ALWAYS),
        ((CUDA,), (CUDA,), (CUDA,), [CUDA, ALWAYS], ALWAYS),
        ((ALWAYS, CUDA), (CUDA,), (), [ALWAYS, CUDA], ALWAYS),
    ],
)
def test_the_first_provider_that_is_here_runs_and_is_named(
    wanted: tuple[str, ...], here: tuple[str, ...], broken: tuple[str, ...], asked: list[str], chosen: str
) -> None:
    runtime = Runtime(*here, broken=broken)
    backend = OnnxBackend(add_graph(), Options(providers=wanted), runtime)
    assert (runtime.asked, backend.placement) == (asked, chosen)
    assert run(backend, terms(1))["SUM"].tolist() == [[1.5, 2.5]]


def test_a_provider_that_this_machine_has_not_falls_back_to_the_cpu() -> None:
    backend = OnnxBackend(add_graph(), Options(providers=("NoSuchExecutionProvider", ALWAYS)))
    assert backend.placement == ALWAYS


def test_bytes_that_are_no_graph_are_a_bad_package() -> None:
    with pytest.raises(BadPackage, match="onnxruntime does not load the model"):
        OnnxBackend(b"this is no graph", Options())
