"""Model folders with every backend, as they lie, through the loader to answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

from services.serving.domain.ports import FolderModel
from services.serving.domain.routes import Route, Routes, Version
from services.serving.domain.tensors import DTYPES
from services.serving.outbound.backends.onnx import Options
from services.serving.outbound.backends.opening import Opener
from services.serving.outbound.folder import Folder
from services.serving.outbound.loading import LoadedFolder
from services.serving.outbound.scheduling import Pool
from tests.conformance.catalogue import EVERY
from tests.conformance.models import write_repository
from tests.contract.backend_houses import RemoteHouse, add_graph, config_of
from tests.unit.serving.runners import Heard

TENSORS = """
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


def put(root: Path, model: str, config: str = "", file: str = "", content: str | bytes = "") -> None:
    """One model of one version."""
    place = root / model / "1"
    place.mkdir(parents=True)
    if config:
        (root / model / "config.pbtxt").write_text(dedent(config))
    if file:
        (place / file).write_bytes(content if isinstance(content, bytes) else dedent(content).encode())


class Loaded:
    """A folder's models, loaded one by one."""

    def __init__(self, folder: LoadedFolder, routes: Routes) -> None:
        self._folder = folder
        self._routes = routes

    async def load(self, model: str) -> FolderModel:
        """Load, and put in force."""
        found = await self._folder.load(model, {}, "", {})
        if found.versions:
            self._routes.put(Route(model, versions=found.versions, default=found.versions["1"]))
        return found

    async def version(self, model: str) -> Version:
        """Loaded, or the reasons why not."""
        found = await self.load(model)
        assert not found.problems, found.problems
        return found.versions["1"]


@asynccontextmanager
async def loaded(root: Path) -> AsyncIterator[Loaded]:
    routes = Routes()
    async with Pool(2) as pool:
        opener = Opener(Options(), lambda: routes.table)
        folder = LoadedFolder(
            Folder.open(str(root)),
            opener,
            pool,
            lambda: routes.table,
            most_queued=100,
            strict=False,
            default_max_batch=4,
        )
        async with folder:
            yield Loaded(folder, routes)
        for route in routes.table.routes.values():
            for version in route.versions.values():
                await version.runner.close()


def answered(version: Version, value: float = 1.0, name: str = "y") -> list[float]:
    heard = Heard()
    version.runner.submit(heard.work({"x": np.array([[value, value]], np.float32)}))
    return heard.values(name)


async def test_a_python_model_with_its_configuration_answers(tmp_path: Path) -> None:
    config = f'backend: "python" max_batch_size: 4 dynamic_batching {{}} {TENSORS}'
    put(tmp_path, "own", config, "model.py", "def infer(inputs):\n    return {'y': inputs['x'] * 3}\n")
    async with loaded(tmp_path) as models:
        version = await models.version("own")
        assert (version.placement, answered(version, 2)) == ("python", [6])


TRITON = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [2]})
            config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [2]})
            config.set_max_batch_size(8)
            config.set_dynamic_batching()
            return config

        def execute(self, requests):
            return [self.answer(request) for request in requests]

        def answer(self, request):
            called = pb_utils.InferenceRequest(model_name="own", requested_output_names=["y"], inputs=request.inputs())
            found = called.exec()
            if found.has_error():
                return pb_utils.InferenceResponse(error=found.error())
            y = pb_utils.get_output_tensor_by_name(found, "y").as_numpy()
            return pb_utils.InferenceResponse([pb_utils.Tensor("y", y + 1)])
"""


async def test_a_triton_python_model_without_configuration_completes_it_and_calls_another(tmp_path: Path) -> None:
    put(
        tmp_path,
        "own",
        f'backend: "python" {TENSORS}'.replace("[ 2 ]", "[ -1, 2 ]"),
        "model.py",
        "def infer(inputs):\n    return {'y': inputs['x'] * 3}\n",
    )
    put(tmp_path, "caller", "", "model.py", TRITON)
    async with loaded(tmp_path) as models:
        await models.version("own")
        caller = await models.version("caller")
        assert caller.config.max_batch_size == 8
        assert caller.config.dynamic_batching is not None
        assert answered(caller, 2) == [7]


async def test_code_that_does_not_load_is_the_versions_problem_in_words(tmp_path: Path) -> None:
    put(tmp_path, "bad", f'backend: "python" {TENSORS}', "model.py", "raise ValueError('no weights')")
    async with loaded(tmp_path) as models:
        assert (await models.load("bad")).problems == {"1": "ValueError: no weights (model.py, line 1)"}


async def test_an_ensemble_runs_graphs_and_code_together(tmp_path: Path) -> None:
    put(tmp_path, "graph", "", "model.onnx", add_graph())
    put(
        tmp_path,
        "feeding",
        """
        backend: "python" max_batch_size: 4
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
        output [
          { name: "a" data_type: TYPE_FP32 dims: [ 2 ] },
          { name: "index" data_type: TYPE_INT64 dims: [ 1 ] }
        ]
        """,
        "model.py",
        "import numpy as np\ndef infer(inputs):\n"
        "    x = inputs['x']\n    return {'a': x * 10, 'index': np.full((len(x), 1), 3, np.int64)}\n",
    )
    steps = """
        platform: "ensemble" max_batch_size: 4
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
        output [ { name: "sum" data_type: TYPE_FP32 dims: [ 2 ] }, { name: "picked" data_type: TYPE_FP32 dims: [ 1 ] } ]
        ensemble_scheduling { step [
          { model_name: "graph" model_version: -1
            input_map { key: "A" value: "a" } input_map { key: "B" value: "x" } input_map { key: "INDEX" value: "i" }
            output_map { key: "SUM" value: "sum" } output_map { key: "PICKED" value: "picked" } },
          { model_name: "feeding" model_version: -1
            input_map { key: "x" value: "x" }
            output_map { key: "a" value: "a" } output_map { key: "index" value: "i" } }
        ] }
    """
    put(tmp_path, "both", steps)
    async with loaded(tmp_path) as models:
        await models.version("graph")
        await models.version("feeding")
        both = await models.version("both")
        assert (answered(both, 2, "sum"), answered(both, 2, "picked")) == ([22], [8])


@pytest.mark.parametrize("configured", [True, False])
async def test_a_remote_model_is_completed_from_what_the_remote_says(tmp_path: Path, configured: bool) -> None:
    house = RemoteHouse(tmp_path)
    house.service.configs["identity"] = config_of("identity", "FP32")
    tensors = TENSORS.replace('"x"', '"IN"').replace('"y"', '"OUT"').replace("[ 2 ]", "[ -1 ]") if configured else ""
    parameters = f"""
        backend: "remote" {"max_batch_size: 8" if configured else ""} {tensors}
        parameters {{ key: "address" value {{ string_value: "{house.address}" }} }}
        parameters {{ key: "model_name" value {{ string_value: "identity" }} }}
    """
    put(tmp_path / "models", "far", parameters)
    async with loaded(tmp_path / "models") as models:
        version = await models.version("far")
        assert version.placement == f"toy 0.1 at {house.address}"
        assert [tensor.name for tensor in version.config.inputs] == ["IN"]
        heard = Heard()
        version.runner.submit(heard.work({"IN": np.array([[4, 5]], np.float32)}))
        assert heard.values("OUT") == [4]
    house.close()


async def test_a_remote_model_that_cannot_be_meant_is_the_versions_problem(tmp_path: Path) -> None:
    put(tmp_path, "far", 'backend: "remote"')
    async with loaded(tmp_path) as models:
        assert "'address' must be host:port" in (await models.load("far")).problems["1"]


def ones(version: Version) -> dict[str, Any]:
    """An input of ones for each tensor that must be there."""
    config = version.config
    lead = (1,) if config.max_batch_size else ()
    shapes = {
        tensor: lead + tuple(max(1, size) for size in tensor.dims) for tensor in config.inputs if not tensor.optional
    }
    return {
        tensor.name: np.full(shape, b"1", object)
        if tensor.datatype == "BYTES"
        else np.ones(shape, DTYPES[tensor.datatype])
        for tensor, shape in shapes.items()
    }


def text(array: Any) -> Any:
    """As lists; text as str."""
    return [one.decode() if isinstance(one, bytes) else one for one in array.ravel().tolist()]


async def test_models_of_tritons_python_backend_run_unchanged_and_answer_as_their_graphs_do(tmp_path: Path) -> None:
    answers: dict[str, dict[str, Any]] = {}
    for runtime in ("onnxruntime", "python"):
        write_repository(tmp_path / runtime, EVERY, runtime)
        found = answers[runtime] = {}
        async with loaded(tmp_path / runtime) as models:
            for model in sorted(EVERY, key=lambda one: one.ensemble):
                state = await models.load(model.name)
                assert sorted(state.problems) == (["1"] if model.name == "broken" else []), state.problems
                version = state.versions.get("1")
                if version is None or version.config.sequence_batching or version.config.decoupled:
                    continue
                heard = Heard()
                version.runner.submit(heard.work(ones(version)))
                result = heard.only()
                assert not isinstance(result, Exception), (model.name, result)
                found[model.name] = {name: (array.shape, text(array)) for name, array in result.items()}
    assert len(answers["python"]) >= 15
    assert answers["python"] == answers["onnxruntime"]
