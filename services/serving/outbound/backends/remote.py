"""A model that another server runs: any that speaks the Open Inference Protocol over gRPC, as Triton and KServe do.

config.pbtxt names it: backend: "remote", and parameters `address` (host:port), `model_name` and `model_version` (the
same name and the remote's default unless given), `timeout_s`, `tls` with `tls_root_certificates`, `tls_private_key` and
`tls_certificate_chain` (absolute paths of PEM files on this machine).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Final

import grpc
import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from services.common.errors import IrisloopError, Transient
from services.serving.domain.config import ModelConfig
from services.serving.domain.ports import Ran
from services.serving.domain.tensors import Array, TensorData, TensorSpec, decoded, encoded
from services.serving.domain.work import Arrays, Asked
from services.serving.errors import BadPackage, BadRequest, InferenceFailed, NotReady, Overloaded

TIMEOUT_S: Final = 60.0
CONNECT_S: Final = 10.0
"""For questions about the model, at load."""
PARAMETERS: Final = frozenset(
    {
        *("address", "model_name", "model_version", "timeout_s"),
        *("tls", "tls_root_certificates", "tls_private_key", "tls_certificate_chain"),
    }
)
CONTENTS: Final = {
    **dict.fromkeys(("INT8", "INT16", "INT32"), "int_contents"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32"), "uint_contents"),
    "BOOL": "bool_contents",
    "INT64": "int64_contents",
    "UINT64": "uint64_contents",
    "BYTES": "bytes_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
"""Where typed values of a datatype stand in InferTensorContents."""
OWN: Final = frozenset({"sequence_id", "sequence_start", "sequence_end", "priority", "timeout"})
"""Parameters that have arguments of their own in the client."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the model runs."""

    address: str
    model: str
    version: str = ""
    timeout_s: float = TIMEOUT_S
    tls: bool = False
    root_certificates: str | None = None
    private_key: str | None = None
    certificate_chain: str | None = None

    @staticmethod
    def of(name: str, parameters: Mapping[str, str]) -> Settings:
        """From config.pbtxt. Raises `BadPackage` naming the parameter."""
        unknown = sorted(set(parameters) - PARAMETERS)
        if unknown:
            raise _bad(unknown[0], f"is not known; {', '.join(sorted(PARAMETERS))} are")
        if ":" not in parameters.get("address", ""):
            raise _bad("address", f"must be host:port, got {parameters.get('address', '')!r}")
        files = {key: _file(parameters, f"tls_{key}") for key in FILES}
        tls = parameters.get("tls", "").lower() in ("1", "true") or any(files.values())
        return Settings(
            parameters["address"],
            parameters.get("model_name", "") or name,
            parameters.get("model_version", ""),
            _seconds(parameters.get("timeout_s", "")),
            tls,
            **files,
        )

    def client(self) -> Any:
        """A connection; it is made when it is needed."""
        return triton.InferenceServerClient(
            self.address,
            ssl=self.tls,
            root_certificates=self.root_certificates,
            private_key=self.private_key,
            certificate_chain=self.certificate_chain,
        )


FILES: Final = ("root_certificates", "private_key", "certificate_chain")


class Remote:
    """The remote model as it describes itself."""

    def __init__(self, settings: Settings) -> None:
        """Asks the server. Raises `Transient` when it does not answer, `BadPackage` when it has no such model."""
        self._settings = settings
        client = settings.client()
        try:
            with remote_errors(settings, loading=True):
                about = client.get_server_metadata(client_timeout=CONNECT_S)
                self._metadata = client.get_model_metadata(settings.model, settings.version, client_timeout=CONNECT_S)
            self._config = _config_of(client, settings)
        finally:
            client.close()
        self.placement: Final = f"{about.name} {about.version} at {settings.address}".replace("  ", " ")

    @staticmethod
    def of(name: str, parameters: Mapping[str, str]) -> Remote:
        """From config.pbtxt's parameters. Raises `BadPackage`, `Transient`."""
        return Remote(Settings.of(name, parameters))

    def tensors(self) -> tuple[list[TensorSpec], list[TensorSpec]]:
        """Inputs and outputs, the batch dimension and all."""
        return _specs(self._metadata.inputs), _specs(self._metadata.outputs)

    def start(self, config: ModelConfig) -> RemoteBackend:
        """Raises `BadPackage` when the configuration asks for more than the remote says it does."""
        remote = self._config
        if remote is not None and config.max_batch_size > remote.max_batch_size:
            raise BadPackage(
                f"max_batch_size of model {config.name!r} is {config.max_batch_size}, and the remote takes "
                f"{remote.max_batch_size}",
                field="max_batch_size",
            )
        if remote is not None and remote.model_transaction_policy.decoupled != config.decoupled:
            raise BadPackage(
                f"model_transaction_policy.decoupled of model {config.name!r} is {config.decoupled}, and that of the "
                f"remote {remote.model_transaction_policy.decoupled}",
                field="model_transaction_policy",
            )
        return RemoteBackend(config, self._settings, self.placement)


class RemoteBackend:
    """Implements `Backend`. Requests are not joined here: the remote batches, and each keeps its own parameters."""

    blocking: Final = True
    joins: Final = False

    def __init__(self, config: ModelConfig, settings: Settings, placement: str) -> None:
        """Connects when the first request comes."""
        self.placement: Final = placement
        self._config = config
        self._settings = settings
        self._datatypes = {tensor.name: tensor.datatype for tensor in config.inputs}
        self._clients: list[Any] = [settings.client() for _ in range(config.instances)]
        self._free: SimpleQueue[Any] = SimpleQueue()
        for client in self._clients:
            self._free.put(client)

    def run(self, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        """Raises `BadRequest`, `InferenceFailed`, `Transient`, by what the remote says."""
        if not self._clients:
            raise InferenceFailed("This version of the model is closed.")
        client = self._free.get()
        try:
            with remote_errors(self._settings):
                yield from (
                    self._stream(client, inputs, asked)
                    if self._config.decoupled
                    else [(self._infer(client, inputs, asked), True)]
                )
        finally:
            self._free.put(client)

    def close(self) -> None:
        """Close the connections."""
        clients, self._clients = self._clients, []
        self._free = SimpleQueue()
        for client in clients:
            client.close()

    def _infer(self, client: Any, inputs: Arrays, asked: Asked) -> Arrays:
        settings = self._settings
        result = client.infer(
            settings.model, self._tensors(inputs), settings.version, client_timeout=settings.timeout_s, **_about(asked)
        )
        return self._outputs(result)

    def _stream(self, client: Any, inputs: Arrays, asked: Asked) -> Iterator[Ran]:
        answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
        settings = self._settings
        client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=settings.timeout_s)
        try:
            client.async_stream_infer(
                settings.model,
                self._tensors(inputs),
                settings.version,
                enable_empty_final_response=True,
                **_about(asked),
            )
            last = False
            while not last:
                result, error = self._next(answers)
                if error is not None:
                    raise error
                response = result.get_response()
                last = response.parameters["triton_final_response"].bool_param
                if response.outputs:
                    yield self._outputs(result), last
        finally:
            client.stop_stream(cancel_requests=True)

    def _next(self, answers: SimpleQueue[tuple[Any, Any]]) -> tuple[Any, Any]:
        """A stream that the remote just ends tells nobody."""
        try:
            return answers.get(timeout=self._settings.timeout_s)
        except Empty:
            raise Transient(f"The remote {self._settings.address} sent no answer in time.") from None

    def _tensors(self, inputs: Arrays) -> list[Any]:
        return [_sent(name, self._datatypes[name], array) for name, array in inputs.items()]

    def _outputs(self, result: Any) -> Arrays:
        response = result.get_response()
        raws = list(response.raw_output_contents)
        found: dict[str, Array] = {}
        for place, output in enumerate(response.outputs):
            raw = raws[place] if place < len(raws) else None
            found[output.name] = _heard(output, raw)
        missing = [tensor.name for tensor in self._config.outputs if tensor.name not in found]
        if missing:
            raise InferenceFailed(f"The remote model {self._settings.model!r} gave no output {missing[0]!r}.")
        return found


def _sent(name: str, datatype: str, array: Array) -> Any:
    tensor = triton.InferInput(name, list(array.shape), datatype)
    if datatype == "BF16":
        # the client would want ml_dtypes; the 16 bits of each value are what travels
        tensor._raw_content = encoded(array)
    else:
        tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


def _heard(output: Any, raw: bytes | None) -> Array:
    """Triton answers in raw bytes, others also in typed values, which tritonclient does not read."""
    values = () if raw is not None else getattr(output.contents, CONTENTS.get(output.datatype, ""), ())
    try:
        return decoded(TensorData(output.name, output.datatype, tuple(output.shape), raw=raw, values=values))
    except BadRequest as error:
        raise InferenceFailed(f"The remote's answer does not fit: {error}") from error


def _about(asked: Asked) -> dict[str, Any]:
    """What the remote's scheduler is asked, as we are."""
    found: dict[str, Any] = {"priority": asked.priority}
    if asked.timeout_us:
        found["timeout"] = asked.timeout_us
    if asked.sequence is not None:
        mark = asked.sequence
        found |= {"sequence_id": mark.id, "sequence_start": mark.start, "sequence_end": mark.end}
    others = {
        name: value
        for name, value in (asked.parameters or {}).items()
        if name not in OWN and not name.startswith("triton_")
    }
    return found | ({"parameters": others} if others else {})


@contextmanager
def remote_errors(settings: Settings, *, loading: bool = False) -> Iterator[None]:
    """The remote's statuses as our errors, each sentence naming the server."""
    try:
        yield
    except InferenceServerException as error:
        raise _as_ours(settings, error, loading=loading) from error
    except grpc.RpcError as error:
        raise Transient(f"The remote {settings.address} failed: {error}", reason="REMOTE_UNAVAILABLE") from error


def _as_ours(settings: Settings, error: Any, *, loading: bool) -> IrisloopError:
    status = str(error.status() or "").removeprefix("StatusCode.")
    said = f"The remote {settings.address} says: {' '.join(str(error.message()).split())[:500]}"
    if status in ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "ABORTED"):
        return Transient(said, reason=f"REMOTE_{status}")
    if status == "RESOURCE_EXHAUSTED" and "larger than max" not in said:
        return Overloaded(said)
    if loading:
        return BadPackage(said, field="parameters")
    if status in ("INVALID_ARGUMENT", "OUT_OF_RANGE"):
        return BadRequest(said)
    return NotReady(said) if status == "NOT_FOUND" else InferenceFailed(said)


def _config_of(client: Any, settings: Settings) -> Any:
    """Triton's extension; None where the server has it not."""
    try:
        return client.get_model_config(settings.model, settings.version, client_timeout=CONNECT_S).config
    except InferenceServerException:
        return None


def _specs(tensors: Sequence[Any]) -> list[TensorSpec]:
    return [TensorSpec(tensor.name, tensor.datatype, tuple(tensor.shape)) for tensor in tensors]


def _file(parameters: Mapping[str, str], key: str) -> str | None:
    path = parameters.get(key) or None
    if path is not None and not (Path(path).is_absolute() and Path(path).is_file()):
        raise _bad(key, f"must be the absolute path of a PEM file, got {path!r}")
    return path


def _seconds(text: str) -> float:
    try:
        seconds = float(text) if text else TIMEOUT_S
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 86_400:
        raise _bad("timeout_s", f"must be seconds above 0, got {text!r}")
    return seconds


def _bad(parameter: str, problem: str) -> BadPackage:
    return BadPackage(f"parameters {parameter[:80]!r} {problem}", field=f"parameters.{parameter[:80]}")
