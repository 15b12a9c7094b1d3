"""Opens a version's backend by the name that its configuration gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Backend
from services.serving.domain.routes import RouteTable
from services.serving.domain.tensors import TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.backends.onnx import OnnxBackend, Options
from services.serving.outbound.backends.programs import Program
from services.serving.outbound.calling import Calls
from services.serving.outbound.completion import PartialConfig, normalise
from services.serving.outbound.memory import check_room

TRUE: Final = frozenset({"1", "true"})
SESSION_ENTRIES: Final = ("session.", "optimization.", "ep.", "memory.")


@dataclass(frozen=True, slots=True)
class Opened:
    """A version's graph, or code, on its way to a backend: its tensors, where they can be asked, and the last step."""

    start: Callable[[ModelConfig], Backend]
    """Blocks. Raises `BadPackage`, `Transient`."""
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    overridable: Sequence[TensorSpec] = ()
    partial: PartialConfig | None = None
    """The configuration with what the code adds to it; None: nothing."""


class Opener:
    """Knows the backends; `options` are the defaults of onnxruntime."""

    def __init__(self, options: Options, table: Callable[[], RouteTable]) -> None:
        self._options = options
        self._calls = Calls(table)

    def open(self, partial: PartialConfig, path: Path | None, version: int) -> Opened:
        """Blocks. `path`: the model's file, None where there is none. Raises `BadPackage`, `Transient`."""
        if partial.backend == "onnxruntime" and path is not None:
            return self._onnx(partial, path)
        if partial.backend == "python" and path is not None:
            return self._python(partial, path, version)
        if partial.backend == "remote":
            return _remote(partial)
        raise BadPackage(f"The backend {partial.backend[:80]!r} is not served.", field="backend")

    def _onnx(self, partial: PartialConfig, path: Path) -> Opened:
        check_room(partial.name, sum(file.stat().st_size for file in path.parent.iterdir() if file.is_file()))
        backend = OnnxBackend(str(path), options_of(partial, self._options))
        return Opened(lambda config: backend, backend.inputs, backend.outputs, backend.overridable)

    def _python(self, partial: PartialConfig, path: Path, version: int) -> Opened:
        program = Program(partial.name, path, version, self._calls)
        message = program.completed(partial.message)
        normalise(message)
        return Opened(program.start, partial=replace(partial, message=message))


def _remote(partial: PartialConfig) -> Opened:
    try:
        from services.serving.outbound.backends.remote import Remote
    except ImportError as error:
        raise BadPackage("backend remote needs the package tritonclient[grpc]", field="backend") from error
    parameters = {name: value.string_value.strip() for name, value in partial.message.parameters.items()}
    remote = Remote.of(partial.name, parameters)
    inputs, outputs = remote.tensors()
    return Opened(remote.start, inputs, outputs)


def options_of(partial: PartialConfig, defaults: Options) -> Options:
    """How config.pbtxt wants onnxruntime: the parameters of Triton's onnxruntime backend."""
    message = partial.message
    parameters = {name: value.string_value.strip() for name, value in message.parameters.items()}
    return replace(
        defaults,
        threads=int(parameters.get("intra_op_thread_count") or 0) or defaults.threads,
        inter_op_threads=int(parameters.get("inter_op_thread_count") or 0) or defaults.inter_op_threads,
        parallel=parameters.get("execution_mode") == "1",
        memory_arena=_flag(parameters, "enable_mem_arena", defaults.memory_arena),
        memory_pattern=_flag(parameters, "enable_mem_pattern", defaults.memory_pattern),
        graph_level=message.optimization.graph.level if message.optimization.HasField("graph") else None,
        entries={name: value for name, value in parameters.items() if name.startswith(SESSION_ENTRIES)},
    )


def _flag(parameters: Mapping[str, str], name: str, default: bool) -> bool:
    return parameters[name].lower() in TRUE if name in parameters else default
