"""Models written in Python, and other models that they may call."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

from google.protobuf.json_format import ParseDict
from inference.model_config_pb2 import ModelConfig as ConfigMessage

from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Backend
from services.serving.domain.routes import Route, RouteTable, Version
from services.serving.domain.work import PLAIN, Arrays, Asked
from services.serving.outbound.backends.programs import Program
from services.serving.outbound.calling import Calls
from services.serving.outbound.scheduling import Pool, Scheduler
from tests.unit.serving.runners import config_of, feed, opened

NOBODY = Calls(RouteTable)


def write(folder: Path, code: str, **others: str) -> Path:
    """model.py and the files beside it."""
    place = folder / "m" / "1"
    place.mkdir(parents=True, exist_ok=True)
    for name, text in {"model": code, **others}.items():
        (place / f"{name}.py").write_text(dedent(text))
    return place / "model.py"


def python(
    folder: Path, code: str, calls: Calls = NOBODY, others: Mapping[str, str] | None = None, **fields: Any
) -> Backend:
    """The model `m`, x FP32 [n, 2] to y FP32 [n, 2] unless `fields` say otherwise."""
    config = config_of(**fields)
    message = {"name": "m", "max_batch_size": config.max_batch_size, "parameters": {"K": {"string_value": "V"}}}
    message |= {"model_transaction_policy": {"decoupled": True}} if config.decoupled else {}
    serialized = ParseDict(message, ConfigMessage()).SerializeToString()
    return Program("m", write(folder, code, **(others or {})), 1, calls).start(config.described(serialized))


def run(backend: Backend, inputs: Arrays, asked: Asked = PLAIN) -> list[Arrays]:
    return [outputs for outputs, _ in backend.run(inputs, asked)]


def y(backend: Backend, *rows: float, asked: Asked = PLAIN) -> list[float]:
    (outputs,) = run(backend, feed(*rows), asked)
    return [float(row[0]) for row in outputs["y"]]


class World:
    """Other models that a model may call."""

    def __init__(self) -> None:
        self.pool = Pool(2)
        self.pool.start()
        self.routes: dict[str, Route] = {}
        self.backends = {"doubling": opened(), "many": opened(answers=(1, 2, 3))}
        for name, backend in self.backends.items():
            self.add(config_of(name, decoupled=name == "many"), backend)

    def add(self, config: ModelConfig, backend: Backend) -> Scheduler:
        runner = Scheduler(config, backend, self.pool, 100)
        version = Version(config.name, "1", config, runner)
        self.routes[config.name] = Route(config.name, versions={"1": version}, default=version)
        return runner

    def calls(self) -> Calls:
        return Calls(lambda: RouteTable(self.routes))
