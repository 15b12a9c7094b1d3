"""An inference client that never stops: tritonclient, unchanged, at a steady rate from go-live to the end."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferInput
from tritonclient.grpc import aio as triton
from tritonclient.utils import InferenceServerException


@dataclass(slots=True)
class Swap:
    """The answers' version changed; calls are counted on each side up to the next swap or the end."""

    version_before: str
    version_after: str
    calls_before: int
    calls_after: int = 0
    failures: int = 0


@dataclass(slots=True)
class Calls:
    """What the client saw; `excused` are failures while a service it needs was killed on purpose."""

    calls: int = 0
    failures: int = 0
    excused: int = 0
    version: str = ""
    since_swap: int = 0
    swaps: list[Swap] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def note_answer(self, version: str) -> None:
        """One call came back."""
        self.calls += 1
        if self.version and version != self.version:
            self.swaps.append(Swap(self.version, version, self.since_swap))
            self.since_swap = 0
        self.version = version
        self.since_swap += 1
        if self.swaps:
            self.swaps[-1].calls_after = self.since_swap

    def note_failure(self, error: str, *, excused: bool) -> None:
        """One call did not."""
        self.calls += 1
        self.failures += 1
        self.excused += excused
        self.errors = [*self.errors[-9:], error]


@dataclass(slots=True)
class InferenceClient:
    """Calls `model` with `images` (uint8 [n, 1, height, width]) one after the other, `rate` times a second."""

    address: str
    model: str
    images: NDArray[np.uint8]
    rate: float
    calls: Calls = field(default_factory=Calls)
    down: bool = False
    stopping: bool = False

    async def run(self) -> None:
        """Call until `stopping`; a late answer does not make the next call later."""
        async with triton.InferenceServerClient(self.address) as client:
            loop, number = asyncio.get_running_loop(), 0
            began = loop.time()
            async with asyncio.TaskGroup() as group:
                while not self.stopping:
                    group.create_task(self._call(client, number))
                    number += 1
                    await asyncio.sleep(max(0.0, began + number / self.rate - loop.time()))

    async def _call(self, client: triton.InferenceServerClient, number: int) -> None:
        place = number % len(self.images)
        batch = self.images[place : place + 1]
        tensor = InferInput("image", list(batch.shape), "UINT8")
        tensor.set_data_from_numpy(batch)
        was_down = self.down
        try:
            answer = await client.infer(self.model, [tensor], client_timeout=10.0)
            self.calls.note_answer(answer.get_response().model_version)
        except (InferenceServerException, asyncio.CancelledError) as error:
            self.calls.note_failure(str(error), excused=self.down or was_down)


async def wait_live(address: str, model: str, seconds: float) -> None:
    """Return once the server is live and the model ready; raises `TimeoutError`."""
    async with asyncio.timeout(seconds), triton.InferenceServerClient(address) as client:
        while True:
            try:
                if await client.is_server_live() and await client.is_model_ready(model):
                    return
            except InferenceServerException:
                pass  # not up yet: asked again below
            await asyncio.sleep(0.2)
