"""`triton_python_backend_utils` as a model.py of Triton's Python backend imports it, so that it runs here unchanged.

Covered: tensors, requests and responses, response senders, cancellation, errors and their codes, configuration helpers,
the logger, byte tensors, and calls of other models (exec, async_exec, decoupled ones too). Not covered, and said where
it is used: custom metrics, loading and unloading models, request rescheduling, GPU tensors; BF16 is passed on, unread.
"""

from __future__ import annotations

import asyncio
import json
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from services.common.errors import IrisloopError, NotFound, Transient
from services.common.telemetry import log
from services.serving.domain.tensors import DTYPES, Array, TensorData, encoded, strings
from services.serving.domain.work import Asked, SequenceMark
from services.serving.errors import InferenceFailed
from services.serving.outbound.calling import PATIENCE_S, Calls

NAME: Final = "triton_python_backend_utils"
START: Final = 1
END: Final = 2
FINAL: Final = 1
MISSING: Final = ("Metric", "MetricFamily", "MetricKind", "load_model", "unload_model")
TYPES: Final = {
    f"TYPE_{'STRING' if name == 'BYTES' else name}": np.dtype(dtype).type
    for name, dtype in DTYPES.items()
    if name != "BF16"
}
SIZES: Final = (8, 16, 32, 64)
NUMBERS: Final = dict(
    enumerate(
        [
            "BOOL",
            *(f"UINT{bits}" for bits in SIZES),
            *(f"INT{bits}" for bits in SIZES),
            "FP16",
            "FP32",
            "FP64",
            "STRING",
        ],
        start=1,
    )
)
"""DataType of model_config.proto."""


class TritonModelException(Exception):  # named by Triton
    """What a model raises to fail its requests."""


class TritonError:
    """An error that a response carries."""

    UNKNOWN, INTERNAL, NOT_FOUND, INVALID_ARG, UNAVAILABLE, UNSUPPORTED, ALREADY_EXISTS, CANCELLED = range(8)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message = str(message)
        self._code = code

    def message(self) -> str:
        """The sentence."""
        return self._message

    def code(self) -> int:
        """One of the constants."""
        return self._code

    def raised(self) -> IrisloopError:
        """As our callers hear it."""
        return Transient(self._message) if self._code == self.UNAVAILABLE else InferenceFailed(self._message)


class Tensor:
    """A named numpy array."""

    def __init__(self, name: str, array: Any, datatype: str = "") -> None:
        """`datatype` is ours: BF16 cannot be told from the array."""
        if not name:
            raise TritonModelException("Tensor name cannot be an empty string.")
        self._name = name
        self._array: Array = np.asarray(array)
        self._datatype = datatype

    @classmethod
    def from_dlpack(cls, name: str, tensor: Any) -> Tensor:
        """From anything that speaks DLPack on the CPU, e.g. a torch tensor, or another Tensor."""
        if isinstance(tensor, Tensor):
            return cls(name, tensor.array(), tensor._datatype)
        try:
            return cls(name, np.from_dlpack(tensor))
        except (AttributeError, BufferError, RuntimeError, TypeError) as error:
            raise TritonModelException(f"tensor {name!r} cannot be taken by DLPack: {error}") from error

    def name(self) -> str:
        """As the model's configuration has it."""
        return self._name

    def as_numpy(self) -> Array:
        """The array, not copied."""
        if self._datatype == "BF16":
            raise TritonModelException(f"tensor {self._name!r} is BF16, which numpy has not; from_dlpack passes it on")
        return self._array

    def array(self) -> Array:
        """The array, of BF16 the 16 bits of each value."""
        return self._array

    def shape(self) -> tuple[int, ...]:
        """Of the array."""
        return self._array.shape

    def triton_dtype(self) -> str:
        """TYPE_FP32 and so on."""
        if self._datatype:
            return f"TYPE_{self._datatype}"
        return numpy_name(self._array.dtype)

    def is_cpu(self) -> bool:
        """All tensors are here."""
        return True

    def to_dlpack(self) -> Any:
        """A DLPack capsule."""
        return self.__dlpack__()

    def __dlpack__(self, **options: Any) -> Any:
        array = self.as_numpy()
        return (array if array.flags.writeable else array.copy()).__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class InferenceResponse:
    """Output tensors, or an error."""

    def __init__(self, output_tensors: Sequence[Tensor] = (), error: TritonError | str | None = None) -> None:
        self._tensors = list(output_tensors)
        self._error = TritonError(error) if isinstance(error, str) else error

    def output_tensors(self) -> list[Tensor]:
        """The tensors."""
        return self._tensors

    def has_error(self) -> bool:
        """Whether it failed."""
        return self._error is not None

    def error(self) -> TritonError | None:
        """Why it failed."""
        return self._error


class Line:
    """Between a model that sends and the thread that hears: what was sent, and whether it is still wanted."""

    def __init__(self) -> None:
        self.answers: SimpleQueue[tuple[InferenceResponse | Exception | None, bool]] = SimpleQueue()
        self.cancelled = False


class Sender:
    """Triton's InferenceResponseSender: answers from any thread, also after `execute` has returned."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._ended = False

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """One answer, or the end, or both."""
        if self._ended:
            raise TritonModelException("Unable to send response. Response sender has been closed.")
        if response is None and not flags & FINAL:
            raise TritonModelException("a response is expected unless the flags say that it was the last")
        self._ended = bool(flags & FINAL)
        self._line.answers.put((response, self._ended))

    def is_cancelled(self) -> bool:
        """Whether nobody listens any more."""
        return self._line.cancelled

    def __del__(self) -> None:
        """A request whose sender is gone can never end by itself."""
        if not self._ended:
            self._line.answers.put((InferenceFailed("The model let go of its sender without a final response."), True))


class InferenceRequest:
    """A request as the model receives it, or one that it sends to another model."""

    def __init__(
        self,
        request_id: str = "",
        correlation_id: int | str = 0,
        inputs: Sequence[Tensor] = (),
        requested_output_names: Sequence[str] = (),
        model_name: str = "",
        model_version: int = -1,
        flags: int = 0,
        timeout: int = 0,
        preferred_memory: Any = None,
        trace: Any = None,
        parameters: Mapping[str, Any] | str | None = None,
    ) -> None:
        self._id = request_id
        self._correlation_id = correlation_id
        self._inputs = list(inputs)
        self._outputs = list(requested_output_names)
        self._model = model_name
        self._version = "" if model_version < 0 else str(model_version)
        self._flags = flags
        self._timeout = timeout
        self._trace = trace
        self._parameters = json.loads(parameters) if isinstance(parameters, str) else dict(parameters or {})
        self._sender: Sender | None = None

    def inputs(self) -> list[Tensor]:
        """The input tensors."""
        return self._inputs

    def request_id(self) -> str:
        """Of a request that the model makes; one that it receives has none here."""
        return self._id

    def correlation_id(self) -> int | str:
        """Of the sequence."""
        return self._correlation_id

    def requested_output_names(self) -> list[str]:
        """Those the client wants; here all."""
        return self._outputs

    def flags(self) -> int:
        """START and END of a sequence."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Of a request that the model makes."""
        self._flags = flags

    def timeout(self) -> int:
        """Microseconds; 0: none."""
        return self._timeout

    def trace(self) -> Any:
        """As it was given."""
        return self._trace

    def parameters(self) -> str:
        """As JSON."""
        return json.dumps(self._parameters, default=str)

    def is_cancelled(self) -> bool:
        """Whether nobody waits any more."""
        return self._sender is not None and self._sender.is_cancelled()

    def set_release_flags(self, flags: int) -> None:
        """Triton's way to see a request again later."""
        raise TritonModelException("request rescheduling is not offered by Irisloop")

    def get_response_sender(self) -> Sender | None:
        """Where its answers may go."""
        return self._sender

    def attach(self, sender: Sender) -> None:
        """Make it one that the model receives."""
        self._sender = sender

    def exec(self, decoupled: bool = False) -> Any:
        """For requests that a model makes itself, see `outgoing`."""
        raise TritonModelException("exec() is for requests that the model makes itself")

    def asked(self) -> Asked:
        """What the called model's scheduler is asked."""
        start, end = bool(self._flags & START), bool(self._flags & END)
        mark = SequenceMark(self._correlation_id, start, end) if self._correlation_id else None
        return Asked(timeout_us=self._timeout, sequence=mark, parameters=self._parameters or None)


def outgoing(calls: Calls) -> type[InferenceRequest]:
    """The class of requests that one model's code makes."""

    class OutgoingRequest(InferenceRequest):
        def exec(self, decoupled: bool = False) -> Any:
            """Call the other model and wait: its response, or an iterator of them. A failure is in the response."""
            answers = self._responses()
            return answers if decoupled else next(answers)

        async def async_exec(self, decoupled: bool = False) -> Any:
            """The same, awaited."""
            return await asyncio.to_thread(self.exec, decoupled)

        def _responses(self) -> Iterator[InferenceResponse]:
            inputs = {tensor.name(): tensor.array() for tensor in self._inputs}
            called = (self._model, inputs, self._version, self._outputs, self.asked(), PATIENCE_S)
            try:
                for found in calls.stream(*called):
                    yield InferenceResponse([Tensor(name, array) for name, array in found.items()])
            except IrisloopError as error:
                yield InferenceResponse(error=TritonError(str(error), _code(error)))

    return OutgoingRequest


def _code(error: IrisloopError) -> int:
    if isinstance(error, Transient):
        return TritonError.UNAVAILABLE
    return TritonError.NOT_FOUND if isinstance(error, NotFound) else TritonError.INVALID_ARG


class Logger:
    """Into our log."""

    INFO, WARNING, ERROR, VERBOSE = range(4)

    @staticmethod
    def log(message: str, level: int = INFO) -> None:
        """A line of the model's."""
        write = (log.info, log.warning, log.error, log.debug)[level]
        write("python_model", message=str(message))

    @classmethod
    def log_info(cls, message: str) -> None:
        """A line of the model's."""
        cls.log(message)

    @classmethod
    def log_warn(cls, message: str) -> None:
        """A line of the model's."""
        cls.log(message, cls.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        """A line of the model's."""
        cls.log(message, cls.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        """A line of the model's."""
        cls.log(message, cls.VERBOSE)


class PreferredMemory:
    """Accepted; all memory is the CPU's."""

    def __init__(self, preferred_memory_type: int = 0, preferred_device_id: int = 0) -> None:
        self.preferred_memory_type = preferred_memory_type
        self.preferred_device_id = preferred_device_id


def utilities(calls: Calls, folder: Path) -> types.ModuleType:
    """The module, for one model whose code lies in `folder`."""
    module = types.ModuleType(NAME)

    def missing(name: str) -> Any:
        if name in MISSING:
            raise AttributeError(f"{NAME}.{name} is not offered by Irisloop")
        raise AttributeError(f"module {NAME!r} has no attribute {name!r}")

    contents: dict[str, Any] = {
        "__getattr__": missing,
        "Tensor": Tensor,
        "InferenceRequest": outgoing(calls),
        "InferenceResponse": InferenceResponse,
        "InferenceResponseSender": Sender,
        "TritonError": TritonError,
        "TritonModelException": TritonModelException,
        "Logger": Logger,
        "PreferredMemory": PreferredMemory,
        "TRITONSERVER_MEMORY_CPU": 0,
        "TRITONSERVER_MEMORY_GPU": 2,
        "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START": START,
        "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END": END,
        "TRITONSERVER_RESPONSE_COMPLETE_FINAL": FINAL,
        "TRITONSERVER_REQUEST_RELEASE_ALL": 1,
        "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE": 2,
        "TRITON_STRING_TO_NUMPY": TYPES,
        "get_model_dir": lambda: str(folder),
        "is_model_ready": lambda model_name, model_version="": calls.ready(model_name, model_version),
        "get_input_tensor_by_name": _tensor_of,
        "get_output_tensor_by_name": _output_of,
        "get_input_config_by_name": lambda config, name: _config_of(config, "input", name),
        "get_output_config_by_name": lambda config, name: _config_of(config, "output", name),
        "triton_string_to_numpy": lambda name: TYPES[name],
        "triton_to_numpy_type": lambda number: TYPES[f"TYPE_{NUMBERS[int(number)]}"],
        "numpy_to_triton_type": _number_of,
        "serialize_byte_tensor": lambda tensor: np.frombuffer(encoded(np.asarray(tensor)), np.uint8),
        "deserialize_bytes_tensor": _strings_of,
        "using_decoupled_model_transaction_policy": lambda config: bool(
            config.get("model_transaction_policy", {}).get("decoupled")
        ),
    }
    for name, thing in contents.items():
        setattr(module, name, thing)
    return module


def numpy_name(dtype: Any) -> str:
    """TYPE_FP32 and so on; text is TYPE_STRING."""
    wanted = np.dtype(dtype)
    if wanted.kind in "SU":
        return "TYPE_STRING"
    return next(name for name, kind in TYPES.items() if np.dtype(kind) == wanted)


def _number_of(dtype: Any) -> int:
    name = numpy_name(dtype).removeprefix("TYPE_")
    return next(number for number, known in NUMBERS.items() if known == name)


def _strings_of(raw: Any) -> Array:
    found = strings(TensorData("tensor", "BYTES", ()), bytes(raw))
    return np.array([*found, None], dtype=np.object_)[:-1]


def _tensor_of(request: InferenceRequest, name: str) -> Tensor | None:
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


def _output_of(response: InferenceResponse, name: str) -> Tensor | None:
    return next((tensor for tensor in response.output_tensors() if tensor.name() == name), None)


def _config_of(config: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any] | None:
    return next((tensor for tensor in config.get(kind, ()) if tensor.get("name") == name), None)
