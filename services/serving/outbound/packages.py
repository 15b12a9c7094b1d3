"""Registry's packages into running versions: fetched, verified, loaded aside, checked against their card, warmed up,
held to their golden input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol, Self

import numpy as np

from services.common.errors import IrisloopError
from services.common.metrics import SERVING_LOAD_SECONDS
from services.common.signing import Verifier
from services.serving.codec import config_message
from services.serving.domain.card_fields import CARD_FILE
from services.serving.domain.config import DynamicBatching, ModelConfig, TensorConfig
from services.serving.domain.detections import tensors
from services.serving.domain.detector import DetectorOutputs
from services.serving.domain.golden import GOLDEN_FILE, Golden, read_golden
from services.serving.domain.package import GRAPH_FILE, ModelCard, parse_card
from services.serving.domain.routes import Target, Version
from services.serving.domain.tensors import Array, TensorSpec
from services.serving.domain.work import PLAIN
from services.serving.errors import BadPackage, InferenceFailed
from services.serving.outbound.backends.onnx import OnnxBackend, Options, first_line, import_runtime
from services.serving.outbound.scheduling import Pool, Scheduler


class Folders(Protocol):
    """The object store's folders."""

    async def get_folder(self, digest: str) -> dict[str, bytes]: ...


class Packages:
    """Implements `ModelSource`; an async context manager that has onnxruntime imported before it is ready."""

    def __init__(
        self,
        folders: Folders,
        verifier: Verifier,
        pool: Pool,
        *,
        allow_unsigned: bool,
        options: Options,
        max_batch: int,
        most_queued: int,
    ) -> None:
        self._folders = folders
        self._verifier = verifier
        self._pool = pool
        self._allow_unsigned = allow_unsigned
        self._options = options
        self._max_batch = max_batch
        self._most_queued = most_queued

    async def __aenter__(self) -> Self:
        """Import the runtime: half a second that no call should wait for."""
        await asyncio.to_thread(import_runtime)
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Versions are closed by who holds them."""

    async def load(self, model: str, target: Target) -> Version:
        """Raises `SignatureRefused`, `CorruptObject`, `NotFound`, `BadPackage` for good; `Transient` for now."""
        if target.signature or not self._allow_unsigned:
            self._verifier.verify(target.digest, target.signature, target.key_id)
        files = await self._folders.get_folder(target.digest)
        for name in (CARD_FILE, GRAPH_FILE):
            if name not in files:
                raise BadPackage(f"The package has no {name}.")
        try:
            with SERVING_LOAD_SECONDS.time():
                return await asyncio.to_thread(self._open, model, target, files)
        except IrisloopError:
            raise
        except Exception as error:
            raise BadPackage(f"{GRAPH_FILE} does not run: {first_line(error)}") from error

    def _open(self, model: str, target: Target, files: Mapping[str, bytes]) -> Version:
        card = parse_card(files[CARD_FILE])
        golden = read_golden(files[GOLDEN_FILE]) if GOLDEN_FILE in files else None
        backend = OnnxBackend(files[GRAPH_FILE], self._options)
        check_graph(card, backend.inputs, backend.outputs)
        config = config_of(model, card, backend, self._max_batch)
        warm_up(backend, card, config)
        if golden is not None:
            check_golden(golden, backend)
        runner = Scheduler(config, backend, self._pool, self._most_queued)
        return Version(model, target.version, config, runner, card, card.image, target.digest, backend.placement)


def config_of(model: str, card: ModelCard, backend: OnnxBackend, max_batch: int) -> ModelConfig:
    """What a package's graph takes; a graph whose first dimension is fixed has no batch dimension for clients."""
    batch = min(card.max_batch, max_batch) if backend.inputs[0].shape[0] == -1 else 0
    bare = ModelConfig(
        name=model,
        backend="onnxruntime",
        max_batch_size=batch,
        inputs=tuple(_tensor(spec, batch) for spec in backend.inputs),
        outputs=tuple(
            _tensor(spec, batch, card.classes if spec.name == card.scores else ()) for spec in backend.outputs
        ),
        dynamic_batching=DynamicBatching() if batch else None,
    )
    return bare.described(config_message(bare).SerializeToString())


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
    for name in filter(None, card.outputs):
        if name not in there:
            raise BadPackage(f"{GRAPH_FILE} has no output {name!r}; {CARD_FILE} names it.")


def warm_up(backend: OnnxBackend, card: ModelCard, config: ModelConfig) -> None:
    """Run batch 1 and the largest, and see that the outputs have the shapes that the card promises."""
    for rows in sorted({1, config.max_batch_size or 1}):
        zeros = np.zeros(card.image.shape(rows), dtype=card.image.dtype)
        ((outputs, _),) = backend.run({card.image.name: zeros}, PLAIN)
        if card.detection is not None:
            _check_detections(card.detection, outputs, rows, batched=bool(config.max_batch_size))
        else:
            _check_output(outputs[card.scores], card.scores, (rows, len(card.classes)))
        if card.embedding:
            _check_output(outputs[card.embedding], card.embedding, (rows, None))


def _check_detections(spec: DetectorOutputs, outputs: Mapping[str, Array], rows: int, *, batched: bool) -> None:
    if batched and outputs[spec.boxes].ndim != 3:
        raise BadPackage(
            f"{GRAPH_FILE}: output {spec.boxes!r} has the shape {list(outputs[spec.boxes].shape)}; a graph that takes "
            "several images at once needs [images, N, columns]. Fix its batch to 1 where it does not give that."
        )
    found, _, _ = tensors(spec, outputs)
    if len(found) != rows:
        raise BadPackage(f"{GRAPH_FILE}: output {spec.boxes!r} tells of {len(found)} images for a batch of {rows}.")


def check_golden(golden: Golden, backend: OnnxBackend) -> None:
    """Raises `BadPackage` where the graph gives something else here than it gave its maker."""
    try:
        ((outputs, _),) = backend.run(golden.inputs, PLAIN)
    except InferenceFailed as error:
        raise BadPackage(f"{GOLDEN_FILE} does not run: {error}", field=GOLDEN_FILE) from error
    golden.check(outputs)


def _tensor(spec: TensorSpec, batch: int, labels: tuple[str, ...] = ()) -> TensorConfig:
    return TensorConfig(spec.name, spec.datatype, spec.shape[1:] if batch else spec.shape, labels=labels)


def _check_output(array: Array, name: str, shape: tuple[int, int | None]) -> None:
    fits = array.ndim == 2 and array.shape[0] == shape[0] and shape[1] in (None, array.shape[1])
    if not fits or array.dtype.kind != "f":
        wanted = [size if size is not None else "D" for size in shape]
        raise BadPackage(
            f"{GRAPH_FILE}: output {name!r} is {array.dtype} {list(array.shape)} for a batch of {shape[0]}; "
            f"floats of the shape {wanted} are needed."
        )
