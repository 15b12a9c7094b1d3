"""Models written in Python: what they are given, what they may answer, and how their mistakes are said."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference.model_config_pb2 import ModelConfig as ConfigMessage

from services.common.errors import Transient
from services.serving.domain.config import SequenceBatching
from services.serving.domain.work import Asked
from services.serving.errors import BadPackage, BadRequest, InferenceFailed
from services.serving.outbound.backends.programs import Program
from tests.unit.serving.programs import NOBODY, World, python, run, write, y
from tests.unit.serving.runners import config_of, feed, opened


@pytest.fixture
def world() -> Iterator[World]:
    """Running."""
    found = World()
    yield found
    found.pool.stop()


def tripled(**more: Any) -> str:
    return "def infer(inputs):\n    return {'y': inputs['x'] * 3}\n"


def test_a_function_alone_is_a_model(tmp_path: Path) -> None:
    backend = python(tmp_path, tripled())
    assert (y(backend, 1, 2), backend.joins, backend.blocking) == ([3, 6], True, True)


def test_load_is_called_for_each_instance_and_told_where_it_is(tmp_path: Path) -> None:
    code = """
        import numpy as np
        seen = []

        def load(context):
            assert (context.model, context.version, context.folder.name) == ("m", 1, "1")
            assert dict(context.parameters) == {"K": "V"}
            seen.append(context.instance)
            return lambda inputs: {"y": np.full_like(inputs["x"], len(seen) * 10 + context.instance)}
    """
    backend = python(tmp_path, code, instances=3, parameters={"K": "V"})
    assert sorted(y(backend, 0)[0] for _ in range(3)) == [30, 31, 32]


def test_a_model_of_sequences_has_one_object_that_keeps_their_state(tmp_path: Path) -> None:
    code = """
        def load(context):
            total = [0]
            def infer(inputs):
                total[0] += inputs["x"][0, 0]
                return {"y": inputs["x"] * 0 + total[0]}
            return infer
    """
    backend = python(tmp_path, code, instances=4, sequence_batching=SequenceBatching(), dynamic_batching=None)
    assert [y(backend, value) for value in (1, 2, 3)] == [[1], [3], [6]]


def test_a_model_that_looks_at_parameters_gets_its_requests_one_by_one(tmp_path: Path) -> None:
    backend = python(tmp_path, "def infer(inputs, parameters):\n    return {'y': inputs['x'] * parameters['factor']}")
    assert not backend.joins
    assert y(backend, 2, asked=Asked(parameters={"factor": 5})) == [10]


def test_lists_become_arrays_of_the_declared_type(tmp_path: Path) -> None:
    assert y(python(tmp_path, "def infer(inputs):\n    return {'y': [[1, 2]]}"), 0) == [1]


WRONG = {
    "None": "gave NoneType; a mapping of output names to arrays is expected",
    "{}": "gave no output 'y'",
    "{'y': x, 'z': x}": "gave output 'z'; 'y' are declared",
    "{'y': x.astype('float64')}": "gave output 'y' as float64; FP32 (float32) is declared",
    "{'y': x[:1]}": "gave output 'y' of the shape [1, 2]; [2, 2] is declared, the first being the batch",
    "{'y': x[:, :1]}": "gave output 'y' of the shape [2, 1]; [2, 2] is declared, the first being the batch",
    "{'y': 'text'}": "gave output 'y' as str, which is no FP32",
    "({'y': x} for _ in 'ab')": "gave generator; a mapping of output names to arrays is expected; to yield",
    "1 / 0": "failed: ZeroDivisionError: division by zero (model.py, line 3)",
    "sys.exit(3)": "failed: SystemExit: 3 (model.py, line 3)",
    "{'y': x}['q']": "failed: KeyError: 'q' (model.py, line 3)",
}


@pytest.mark.parametrize("expression", WRONG)
def test_a_wrong_answer_is_said_in_a_sentence_and_the_next_request_runs(tmp_path: Path, expression: str) -> None:
    code = f"import sys\ndef infer(inputs):\n    x = inputs['x']; return {expression} if len(x) == 2 else {{'y': x}}"
    backend = python(tmp_path, code)
    with pytest.raises(InferenceFailed) as caught:
        run(backend, feed(1, 2))
    assert str(caught.value).removesuffix(".").startswith(f"Model 'm' {WRONG[expression]}")
    assert y(backend, 4) == [4]


def test_a_decoupled_model_must_yield(tmp_path: Path) -> None:
    backend = python(tmp_path, tripled(), decoupled=True)
    with pytest.raises(InferenceFailed, match="is decoupled: it must yield its answers"):
        run(backend, feed(1))


BROKEN = {
    "def infer(inputs:\n": r"SyntaxError: .*\(model.py, line 1\)",
    "import no_such_module": r"ModuleNotFoundError: No module named 'no_such_module' \(model.py, line 1\)",
    "x = 1": r"model.py of model 'm' defines no model: .* is expected",
    "def load(context):\n    raise ValueError('no weights')": r"ValueError: no weights \(model.py, line 2\)",
    "def load(context):\n    return 5": r"load\(context\) of model 'm' gives int, not a callable",
    "infer = 5": r"infer of model 'm' gives int, not a callable",
    "import sys; sys.exit(1)": r"SystemExit: 1 \(model.py, line 1\)",
    "class TritonPythonModel:\n    def initialize(self, args):\n        raise OSError('no')": r"OSError: no \(model",
}


@pytest.mark.parametrize("code", BROKEN)
def test_code_that_does_not_load_is_a_bad_package_that_says_why_and_where(tmp_path: Path, code: str) -> None:
    before = set(sys.modules)
    with pytest.raises(BadPackage, match=BROKEN[code]):
        python(tmp_path, code)
    assert {name for name in set(sys.modules) - before if name.startswith("irisloop_model")} == set()


def test_versions_and_models_with_files_of_the_same_names_stay_apart(tmp_path: Path) -> None:
    code = "import factor\ndef infer(inputs):\n    return {'y': inputs['x'] * factor.VALUE}"
    backends = [python(tmp_path / str(value), code, others={"factor": f"VALUE = {value}"}) for value in (2, 3)]
    assert [y(backend, 1) for backend in backends] == [[2], [3]]
    assert "factor" not in sys.modules
    assert not list(tmp_path.rglob("__pycache__"))


def test_code_that_changed_is_run_anew_however_quick_the_change_was(tmp_path: Path) -> None:
    codes = [f"def infer(inputs):\n    return {{'y': inputs['x'] * {factor}}}" for factor in (2, 3)]
    assert [y(python(tmp_path, code), 1) for code in codes] == [[2], [3]]


def test_dataclasses_of_a_model_with_postponed_annotations_work(tmp_path: Path) -> None:
    code = """
        from __future__ import annotations
        from dataclasses import dataclass
        import pickle

        @dataclass
        class Factor:
            value: float = 4.0

        def infer(inputs):
            return {"y": inputs["x"] * pickle.loads(pickle.dumps(Factor())).value}
    """
    backend = python(tmp_path, code)
    assert y(backend, 1) == [4]
    backend.close()


def test_objects_are_closed_with_the_version_and_their_trouble_stops_nobody(tmp_path: Path) -> None:
    code = """
        from pathlib import Path

        class Model:
            def __init__(self, context):
                self.context = context
            def __call__(self, inputs):
                return {"y": inputs["x"]}
            def close(self):
                (self.context.folder / f"closed-{self.context.instance}").touch()
                raise OSError("busy")

        load = Model
    """
    python(tmp_path, code, instances=2).close()
    assert sorted(path.name for path in tmp_path.rglob("closed-*")) == ["closed-0", "closed-1"]


CALLING = """
    def load(context):
        def infer(inputs):
            return {"y": context.infer("%s", {"x": inputs["x"]}%s)["y"] + 1}
        return infer
"""


def test_a_model_calls_others_through_the_routes_in_force(tmp_path: Path, world: World) -> None:
    backend = python(tmp_path, CALLING % ("doubling", ""), world.calls())
    assert y(backend, 5, 6) == [11, 13]
    world.add(config_of("doubling"), opened(answers=None, failing=lambda inputs: InferenceFailed("new version")))
    with pytest.raises(InferenceFailed, match="new version"):
        y(backend, 5)


MISTAKES = {
    ("nobody", ""): "failed in a call of its own: Request for unknown model: 'nobody' is not found",
    ("doubling", ", version='7'"): "version 7 is not found",
    ("doubling", ", outputs=['q']"): "unexpected inference output 'q' for model 'doubling'",
    ("many", ""): r"model 'many' is decoupled: .* call stream\(\)",
}


@pytest.mark.parametrize("model", MISTAKES)
def test_a_call_that_cannot_work_fails_the_request_with_a_sentence(
    tmp_path: Path, world: World, model: tuple[str, str]
) -> None:
    with pytest.raises(InferenceFailed, match=MISTAKES[model]):
        y(python(tmp_path, CALLING % model, world.calls()), 1)


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({}, "input 'x' of model 'doubling' is missing"),
        ({"x": feed(1)["x"], "q": 1}, "unexpected inference input 'q'"),
        ({"x": feed(1)["x"].astype("float64")}, "is float64; FP32 is expected"),
        ({"x": np.zeros((1, 3), np.float32)}, r"Expected \[-1,2\], got \[1,3\]"),
        ({"x": np.zeros((9, 2), np.float32)}, "batch-size must be <= 8 for 'doubling', got 9"),
    ],
)
def test_calls_are_checked_as_those_of_clients_are(world: World, inputs: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadRequest, match=sentence):
        world.calls().infer("doubling", inputs)


def test_a_model_streams_the_answers_of_a_decoupled_one(tmp_path: Path, world: World) -> None:
    code = """
        def load(context):
            def infer(inputs):
                for found in context.stream("many", {"x": inputs["x"]}):
                    yield {"y": found["y"] * 10}
            return infer
    """
    found = run(python(tmp_path, code, world.calls(), decoupled=True), feed(1))
    assert [float(one["y"][0, 0]) for one in found] == [10, 20, 30]


def test_a_model_that_calls_itself_is_told_so_instead_of_waiting_for_ever(tmp_path: Path, world: World) -> None:
    config = config_of("m")
    backend = python(tmp_path, CALLING % ("m", ""), world.calls())
    world.add(config, backend)
    with pytest.raises(InferenceFailed, match="calls itself, and its only instance would wait for itself"):
        y(backend, 1)


def test_a_call_that_takes_too_long_ends(world: World) -> None:
    world.backends["doubling"].gate.clear()
    with pytest.raises(InferenceFailed, match=r"Model 'doubling' gave no answer within 0\.01 s"):
        world.calls().infer("doubling", feed(1), timeout_s=0.01)
    world.backends["doubling"].gate.set()


def test_what_a_called_model_cannot_take_now_may_be_tried_again(tmp_path: Path, world: World) -> None:
    backend = python(tmp_path, CALLING % ("doubling", ""), world.calls())
    asyncio.run(world.routes["doubling"].default.runner.close())  # type: ignore[union-attr]
    with pytest.raises(Transient, match="just unloaded"):
        y(backend, 1)


def test_a_model_without_a_say_leaves_its_configuration_alone(tmp_path: Path) -> None:
    given = ConfigMessage(name="m", max_batch_size=3)
    assert Program("m", write(tmp_path, tripled()), 1, NOBODY).completed(given) is given
