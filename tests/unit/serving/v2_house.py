"""The ASGI application of /v2 with a model that is a fake, for tests of routes and of real connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.serving.domain.calls import AnsweredOutput, InferAnswer, InferCall
from services.serving.domain.config import ModelConfig, TensorConfig
from services.serving.domain.restrictions import Restrictions
from services.serving.domain.routes import Route, Routes, Version
from services.serving.handlers.catalog import Catalog
from services.serving.handlers.controls import Controls
from services.serving.handlers.shared_memory import SharedMemory
from services.serving.inbound.unread import Unread
from services.serving.inbound.v2.app import ROAD, InferenceApp
from services.serving.inbound.v2.patience import Patience
from services.serving.outbound.shared_memory import SystemRegions
from tests.unit.serving.test_repository import Idle

NUMBERS = np.array([[1.5, 2.5]], np.float32)
CONFIG = ModelConfig("m", "onnxruntime", 8, (TensorConfig("x", "FP32", (2,)),), (TensorConfig("y", "FP32", (2,)),))
LIMIT = 4 << 20


class Model:
    """Implements what is called of `Inference`: gives back the first input, or what it was told to do."""

    def __init__(self) -> None:
        self.calls: list[InferCall] = []
        self.error: Exception | None = None
        self.output = NUMBERS
        self.delay_s = 0.0
        self.waits = False
        self.cancelled = False

    async def infer(self, call: InferCall) -> InferAnswer:
        """The output, an error, or nothing until it is cancelled."""
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        if self.waits:
            await self._wait()
        await asyncio.sleep(self.delay_s)
        binary = call.binary or any(output.binary for output in call.outputs)
        output = AnsweredOutput("y", "FP32", self.output.shape, self.output, binary=binary)
        return InferAnswer(Version(call.model, "1", CONFIG, Idle()), call.id, [output])

    async def _wait(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


class Shelf:
    """Implements `Loader`."""

    def __init__(self) -> None:
        self.loads: list[tuple[str, str, Mapping[str, bytes]]] = []
        self.unloads: list[tuple[str, bool]] = []

    def index(self) -> list[Any]:
        """Nothing beside what is loaded."""
        return []

    async def load(self, model: str, config_json: str, files: Mapping[str, bytes]) -> None:
        """Remember it."""
        self.loads.append((model, config_json, files))

    async def unload(self, model: str, *, dependents: bool) -> None:
        """Remember it."""
        self.unloads.append((model, dependents))


@dataclass
class Reply:
    """What was sent back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    writes: int = 0

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class House:
    """The application and what stands behind it."""

    def __init__(self, restricted: tuple[str, ...] = (), patience: Patience | None = None) -> None:
        self.model = Model()
        self.shelf = Shelf()
        self.levels: list[int] = []
        routes = Routes()
        version = Version("m", "3", CONFIG, Idle())
        routes.put(Route("m", versions={"3": version}, default=version))
        spaced = Version("two words/x", "3", CONFIG, Idle())
        routes.put(Route(spaced.model, versions={"3": spaced}, default=spaced))
        model: Any = self.model
        self.unread = Unread(1 << 30)
        self.unread.add_road(ROAD, lambda: 0)
        self.app = InferenceApp(
            self._other,
            model,
            Catalog(lambda: routes.table, lambda: "", self.shelf),
            SharedMemory(SystemRegions()),
            Controls(lambda: routes.table, self.levels.append),
            Restrictions.parse(restricted, prefix=""),
            LIMIT,
            self.unread,
            patience,
        )

    async def _other(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 299, "headers": []})
        await send({"type": "http.response.body", "body": b"other"})

    async def call(self, method: str, path: str, body: bytes = b"", receive: Any = None, **headers: Any) -> Reply:
        """One exchange; underscores in the headers' names are hyphens."""
        found = Reply()

        async def whole() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                found.status = message["status"]
                found.headers = {name.decode(): value.decode() for name, value in message["headers"]}
                return
            found.writes += 1
            found.body += bytes(message["body"])

        named = [(name.replace("_", "-").encode(), str(value).encode()) for name, value in headers.items()]
        scope = {"type": "http", "method": method, "raw_path": path.encode(), "headers": named}
        await self.app(scope | {"path": path.partition("?")[0]}, receive or whole, send)
        return found


def infer_body(**fields: Any) -> bytes:
    """A good request in JSON, and fields of the caller's."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
    return json.dumps({"inputs": [tensor]} | fields).encode()


def binary_body(**fields: Any) -> tuple[bytes, int]:
    """One with a binary tensor, and the size of its JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}
    head = json.dumps({"inputs": [tensor]} | fields).encode()
    return head + NUMBERS.tobytes(), len(head)
