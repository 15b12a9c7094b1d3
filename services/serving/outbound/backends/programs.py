"""Opens `model.py`, in whichever of its two forms it is written: Irisloop's own, or that of Triton's Python backend."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from google.protobuf.json_format import ParseError
from inference.model_config_pb2 import ModelConfig as ConfigMessage

from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Backend
from services.serving.errors import BadPackage
from services.serving.outbound.backends.modules import ModelModule
from services.serving.outbound.backends.python import INFER, LOAD, PythonBackend
from services.serving.outbound.backends.triton_config import AutoConfig
from services.serving.outbound.backends.triton_model import CLASS, TritonModelBackend
from services.serving.outbound.backends.triton_python import NAME, utilities
from services.serving.outbound.calling import Calls


class Program:
    """A version's code, run once and not yet started."""

    def __init__(self, model: str, path: Path, version: int, calls: Calls) -> None:
        """Runs the file. Raises `BadPackage` when that fails, or when it defines no model."""
        self._version = version
        self._folder = path.parent
        self._calls = calls.made_by(model, version)
        self._code: Final = ModelModule(model, path, {NAME: utilities(self._calls, path.parent)})
        self._triton = hasattr(self._code.module, CLASS)
        if not (self._triton or hasattr(self._code.module, LOAD) or hasattr(self._code.module, INFER)):
            self._code.close()
            raise BadPackage(
                f"{path.name} of model {model!r} defines no model: a function {LOAD}(context) or {INFER}(inputs), or "
                f"Triton's class {CLASS}, is expected",
                field=path.name,
            )

    def completed(self, message: ConfigMessage) -> ConfigMessage:
        """The configuration with what the model's `auto_complete_config` adds. Raises `BadPackage`."""
        complete = getattr(getattr(self._code.module, CLASS, None), "auto_complete_config", None)
        if complete is None:
            return message
        config = AutoConfig(message)
        with self._code.importing():
            found = complete(config)
        try:
            return (found if isinstance(found, AutoConfig) else config).message()
        except ParseError as error:
            raise BadPackage(f"auto_complete_config of model {message.name!r} does not fit: {error}") from error

    def start(self, config: ModelConfig) -> Backend:
        """Makes the model's objects. Raises `BadPackage` when that fails."""
        if self._triton:
            return TritonModelBackend(config, self._code, self._folder, self._version)
        return PythonBackend(config, self._code, self._folder, self._version, self._calls)
