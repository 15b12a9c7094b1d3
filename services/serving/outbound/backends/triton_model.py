"""A model.py that defines Triton's `TritonPythonModel`, run as Triton's Python backend would: requests side by side,
an object an instance, answers by return or by sender.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from inference.model_config_pb2 import ModelConfig as ConfigMessage

from services.common.errors import IrisloopError
from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Ran
from services.serving.domain.work import Arrays, Asked
from services.serving.errors import InferenceFailed
from services.serving.outbound.backends.modules import ModelModule
from services.serving.outbound.backends.outputs import checked_outputs, failures, finalize, lent, objects_of
from services.serving.outbound.backends.triton_config import config_json
from services.serving.outbound.backends.triton_python import END, START, InferenceRequest, Line, Sender, Tensor

CLASS: Final = "TritonPythonModel"


class TritonModelBackend:
    """Implements `Backend` and `GroupBackend`. Output shapes are the model's own affair, as in Triton."""

    blocking: Final = True
    joins: Final = False
    placement: Final = "python"

    def __init__(self, config: ModelConfig, code: ModelModule, folder: Path, version: int) -> None:
        """Makes and initializes one object an instance. Raises `BadPackage` when that fails."""
        self._config = config
        self._code = code
        self._folder = folder
        self._bits = frozenset(tensor.name for tensor in config.inputs if tensor.datatype == "BF16")
        self._outputs = [tensor.name for tensor in config.outputs]
        self._objects: list[Any] = []
        self._free: SimpleQueue[Any] = SimpleQueue()
        try:
            for number in range(objects_of(config)):
                self._objects.append(self._made(version, number))
                self._free.put(self._objects[-1])
        except BaseException:
            self.close()
            raise

    def run(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        """Raises `InferenceFailed`, `Transient`."""
        if self._config.decoupled:
            yield from self._streamed(inputs, asked)
            return
        (found,) = self.run_group([(inputs, asked)])
        if isinstance(found, Exception):
            raise found
        yield found, True

    def run_group(self, requests: Sequence[tuple[Arrays, Asked]]) -> Sequence[Arrays | Exception]:
        """One call of `execute`. Raises `InferenceFailed` when it raises."""
        with lent(self._free, self._objects) as one, failures(self._config.name, self._folder):
            lines = [Line() for _ in requests]
            sent = [self._request(*request, line) for request, line in zip(requests, lines, strict=True)]
            responses = _executed(one, sent)
            if not isinstance(responses, list | tuple) or len(responses) != len(requests):
                raise InferenceFailed(
                    f"{CLASS}.execute of {self._config.name!r} must return a list of {len(requests)} responses, one a "
                    f"request; it gave {_described(responses)}."
                )
            del sent
            return [self._result(one, line) for one, line in zip(responses, lines, strict=True)]

    def close(self) -> None:
        """Let every object finalize, and forget the code."""
        for one in self._objects:
            finalize(self._config.name, getattr(one, "finalize", None))
        self._objects = []
        self._free = SimpleQueue()
        self._code.close()

    def _made(self, version: int, number: int) -> Any:
        with self._code.importing():
            one = getattr(self._code.module, CLASS)()
            if hasattr(one, "initialize"):
                one.initialize(self._arguments(version, number))
        return one

    def _arguments(self, version: int, number: int) -> dict[str, str]:
        config = self._config
        return {
            "model_config": config_json(ConfigMessage.FromString(config.serialized)),
            "model_instance_kind": "CPU",
            "model_instance_device_id": "0",
            "model_instance_name": f"{config.name}_{number}",
            "model_repository": str(self._folder.parent),
            "model_version": str(version),
            "model_name": config.name,
        }

    def _request(self, inputs: Arrays, asked: Asked, line: Line) -> InferenceRequest:
        mark = asked.sequence
        request = InferenceRequest(
            correlation_id=mark.id if mark else 0,
            inputs=[Tensor(name, array, "BF16" if name in self._bits else "") for name, array in inputs.items()],
            requested_output_names=self._outputs,
            model_name=self._config.name,
            flags=(START if mark and mark.start else 0) | (END if mark and mark.end else 0),
            timeout=asked.timeout_us,
            parameters=asked.parameters,
        )
        request.attach(Sender(line))
        return request

    def _result(self, response: Any, line: Line) -> Arrays | Exception:
        """What was returned; where that is None, what the request's sender sends."""
        try:
            while response is None:
                response, last = line.answers.get()
                if isinstance(response, Exception):
                    return response
                if response is None and last:
                    raise InferenceFailed(f"Model {self._config.name!r} ended a request without a response.")
            return self._arrays(response)
        except IrisloopError as error:
            return error

    def _arrays(self, response: Any) -> Arrays:
        if response.has_error():
            raise response.error().raised()
        return checked_outputs(self._config, {tensor.name(): tensor.array() for tensor in response.output_tensors()})

    def _streamed(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        """`execute` runs beside, so that answers go out as they are sent."""
        line = Line()
        with lent(self._free, self._objects) as one, failures(self._config.name, self._folder):
            running = threading.Thread(
                target=_execute_one,
                args=(one, [self._request(inputs, asked, line)], line),
                name=f"model-{self._config.name}"[:15],
                daemon=True,
            )
            running.start()
            try:
                last = False
                while not last:
                    answer, last = line.answers.get()
                    if isinstance(answer, Exception):
                        raise answer
                    if answer is not None:
                        yield self._arrays(answer), last
            finally:
                line.cancelled = True
                running.join()


def _execute_one(one: Any, requests: list[InferenceRequest], line: Line) -> None:
    """The list is the only holder of the request, so that its sender goes when the model lets go of it."""
    try:
        _executed(one, requests)
    except (Exception, SystemExit) as error:
        found = error if isinstance(error, Exception) else InferenceFailed("The model called sys.exit().")
        line.answers.put((found, True))
    finally:
        requests.clear()


def _executed(one: Any, requests: list[InferenceRequest]) -> Any:
    found = one.execute(requests)
    return asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found


async def _awaited(found: Any) -> Any:
    return await found


def _described(responses: Any) -> str:
    return f"{len(responses)}" if isinstance(responses, list | tuple) else type(responses).__name__
