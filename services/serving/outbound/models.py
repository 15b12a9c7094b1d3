"""Packages into running engines: fetched, verified, loaded aside, checked against their card, warmed up."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, Protocol, Self

import numpy as np

from services.common.errors import IrisloopError
from services.common.metrics import SERVING_LOAD_SECONDS
from services.common.signing import Verifier
from services.serving.domain.package import CARD_FILE, GRAPH_FILE, ModelCard, parse_card
from services.serving.domain.routes import Target
from services.serving.domain.tensors import Array, TensorSpec
from services.serving.errors import BadPackage
from services.serving.outbound.engine import OnnxEngine, Session

TYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
ERROR_ONLY: Final = 3
"""onnxruntime's log level."""


class Folders(Protocol):
    """The object store's folders."""

    async def get_folder(self, digest: str) -> dict[str, bytes]: ...


class Packages:
    """Implements `ModelSource`; an async context manager that has onnxruntime imported before it is ready."""

    def __init__(
        self,
        folders: Folders,
        verifier: Verifier,
        *,
        allow_unsigned: bool,
        threads: int,
        max_batch: int,
        most_queued: int,
    ) -> None:
        self._folders = folders
        self._verifier = verifier
        self._allow_unsigned = allow_unsigned
        self._threads = threads
        self._max_batch = max_batch
        self._most_queued = most_queued

    async def __aenter__(self) -> Self:
        """Import the runtime: half a second that no call should wait for."""
        await asyncio.to_thread(_import_runtime)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Engines are closed by who holds them."""

    async def load(self, target: Target) -> tuple[ModelCard, OnnxEngine]:
        """Raises `SignatureRefused`, `CorruptObject`, `NotFound`, `BadPackage` for good; `Transient` for now."""
        if target.signature or not self._allow_unsigned:
            self._verifier.verify(target.digest, target.signature, target.key_id)
        files = await self._folders.get_folder(target.digest)
        for name in (CARD_FILE, GRAPH_FILE):
            if name not in files:
                raise BadPackage(f"The package has no {name}.")
        card = parse_card(files[CARD_FILE])
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{target.digest[:8]}")
        try:
            with SERVING_LOAD_SECONDS.time():
                return card, await asyncio.get_running_loop().run_in_executor(
                    thread, self._open, files[GRAPH_FILE], card, thread
                )
        except IrisloopError:
            thread.shutdown(wait=False)
            raise
        except Exception as error:
            thread.shutdown(wait=False)
            raise BadPackage(f"{GRAPH_FILE} does not run: {_first_line(error)}") from error

    def _open(self, graph: bytes, card: ModelCard, thread: ThreadPoolExecutor) -> OnnxEngine:
        session = open_session(graph, self._threads)
        inputs, outputs = specs(session.get_inputs()), specs(session.get_outputs())
        check_graph(card, inputs, outputs)
        dynamic = inputs[0].shape[0] == -1
        batch = min(card.max_batch, self._max_batch) if dynamic else 0
        warm_up(session, card, [spec.name for spec in outputs], inputs[0].shape[0], batch)
        return OnnxEngine(session, inputs, outputs, max_batch=batch, most_queued=self._most_queued, thread=thread)


def _import_runtime() -> None:
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERROR_ONLY)


def open_session(graph: bytes, threads: int) -> Any:
    """An `onnxruntime.InferenceSession` on the CPU that does not spin between calls."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = ERROR_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def specs(declared: Sequence[Any]) -> list[TensorSpec]:
    """onnxruntime's descriptions in the protocol's words; a named dimension is -1."""
    found: list[TensorSpec] = []
    for item in declared:
        datatype = TYPES.get(item.type)
        if datatype is None:
            raise BadPackage(f"{GRAPH_FILE}: {item.name!r} is a {item.type}, which is not served.")
        shape = tuple(size if isinstance(size, int) else -1 for size in item.shape)
        found.append(TensorSpec(item.name, datatype, shape))
    return found


def check_graph(card: ModelCard, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Raises `BadPackage` where the graph is not what the card says."""
    if [spec.name for spec in inputs] != [card.image.name]:
        names = ", ".join(spec.name for spec in inputs)
        raise BadPackage(f"{GRAPH_FILE} has the inputs {names}; {CARD_FILE} names {card.image.name!r} alone.")
    (image,) = inputs
    wanted = {"uint8": "UINT8", "float32": "FP32"}[card.image.dtype]
    if image.datatype != wanted:
        raise BadPackage(f"{GRAPH_FILE}: the input is {image.datatype}; {CARD_FILE} says {card.image.dtype}.")
    shape = card.image.shape(1)
    fits = len(image.shape) == 4 and all(
        size in (-1, said) for size, said in zip(image.shape[1:], shape[1:], strict=True)
    )
    if not fits or image.shape[0] not in (-1, 1):
        raise BadPackage(f"{GRAPH_FILE}: the input has the shape {list(image.shape)}; {CARD_FILE} says {list(shape)}.")
    there = {spec.name for spec in outputs}
    for name in filter(None, (card.scores, card.embedding)):
        if name not in there:
            raise BadPackage(f"{GRAPH_FILE} has no output {name!r}; {CARD_FILE} names it.")


def warm_up(session: Session, card: ModelCard, names: Sequence[str], declared: int, batch: int) -> None:
    """Run batch 1 and the largest, and see that the outputs have the shapes that the card promises."""
    for rows in sorted({1, batch or declared}):
        zeros = np.zeros(card.image.shape(rows), dtype=card.image.dtype)
        outputs = dict(zip(names, session.run(names, {card.image.name: zeros}), strict=True))
        _check_output(outputs[card.scores], card.scores, (rows, len(card.classes)))
        if card.embedding:
            _check_output(outputs[card.embedding], card.embedding, (rows, None))


def _check_output(array: Array, name: str, shape: tuple[int, int | None]) -> None:
    fits = array.ndim == 2 and array.shape[0] == shape[0] and shape[1] in (None, array.shape[1])
    if not fits or array.dtype.kind != "f":
        wanted = [size if size is not None else "D" for size in shape]
        raise BadPackage(
            f"{GRAPH_FILE}: output {name!r} is {array.dtype} {list(array.shape)} for a batch of {shape[0]}; "
            f"floats of the shape {wanted} are needed."
        )


def _first_line(error: Exception) -> str:
    text = str(error).strip() or repr(error)
    return re.split(r"[\r\n]", text, maxsplit=1)[0][:500]
