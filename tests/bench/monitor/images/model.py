"""A real model of the data set: trained by the trainer's own code, exported to ONNX, run as serving runs it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from services.local.data import Dataset
from services.serving.domain.features import Answer, answers
from services.serving.domain.images import prepared, stacked
from services.serving.domain.package import ModelCard, parse_card
from services.serving.domain.work import PLAIN
from services.serving.outbound.backends.onnx import OnnxBackend, Options
from services.trainer.child.data import Rows, Splits
from services.trainer.child.network import SmallNetwork
from services.trainer.child.package import description, export, folder, golden
from services.trainer.child.run import train
from services.trainer.child.training import predict
from services.trainer.domain.jobs import Job
from services.trainer.domain.scores import temperature
from services.trainer.settings import TrainerSettings

TRAIN: Final = (0, 12_000, 0.4)
VALIDATE: Final = (1, 1_500, 0.08)
LIVE: Final = (2, 3_000, 0.26)
HELD_OUT: Final = (3, 4_000, 0.26)
"""Parts of a data set: place, most images, most of the whole. Frames and held-out images are new to the model."""
SEED: Final = 1
_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Part:
    """uint8 images [n, side, side] and class indices [n]."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def part(dataset: Dataset, which: tuple[int, int, float]) -> Part:
    """A part of the data set, the same images every time and no image in two."""
    count, starts = len(dataset.labels), [0]
    for _, most, share in (TRAIN, VALIDATE, LIVE, HELD_OUT):
        starts.append(starts[-1] + min(most, int(share * count)))
    order = np.random.default_rng(SEED).permutation(count)[starts[which[0]] : starts[which[0] + 1]]
    return Part(dataset.images[order], dataset.labels[order])


@dataclass(frozen=True, slots=True)
class Model:
    """A package opened for inference."""

    card: ModelCard
    backend: OnnxBackend
    digest: str

    def answer(self, encoded: list[bytes]) -> list[Answer]:
        """Serving's answers to encoded images."""
        found: list[Answer] = []
        for start in range(0, len(encoded), _AT_ONCE):
            pixels = [prepared(one, self.card.image) for one in encoded[start : start + _AT_ONCE]]
            inputs = {self.card.image.name: stacked(pixels, self.card.image)}
            ((outputs, _),) = self.backend.run(inputs, PLAIN)
            found += answers(self.card, outputs)
        return found


def opened(dataset: Dataset, place: Path) -> Model:
    """The data set's model; trained and kept in `place` the first time (a minute)."""
    graph, card = place / f"{dataset.name}.onnx", place / f"{dataset.name}.json"
    if not card.exists():
        files = _trained(dataset, place)
        graph.write_bytes(files["model.onnx"])
        card.write_bytes(files["model.json"])
    content = graph.read_bytes()
    digest = hashlib.sha256(content + card.read_bytes()).hexdigest()[:16]
    return Model(parse_card(card.read_bytes()), OnnxBackend(content, Options()), digest)


def _trained(dataset: Dataset, place: Path) -> dict[str, bytes]:
    rows = {name: _rows(part(dataset, which)) for name, which in (("train", TRAIN), ("validation", VALIDATE))}
    splits = Splits(rows["train"], rows["validation"], rows["validation"])
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    sample = splits.train.images.astype(np.float32) / 255.0
    network = SmallNetwork(1, len(dataset.class_names), float(sample.mean()), float(sample.std()))
    job = planned(dataset)
    checkpoint = place / f"{dataset.name}.checkpoint"
    checkpoint.unlink(missing_ok=True)
    train(job, network, splits, checkpoint)
    fitted = temperature(predict(network, splits.validation.images)[0], splits.validation.labels)
    shape = (1, *dataset.images.shape[1:])
    described = description(job, (shape[0], shape[1], shape[2]), {}, fitted)
    return folder(export(network, *shape), described, golden(network, (shape[0], shape[1], shape[2])))


def _rows(chosen: Part) -> Rows:
    flags = np.zeros(len(chosen.labels), np.bool_)
    return Rows(chosen.images[:, None], chosen.labels, flags, ~flags)


def planned(dataset: Dataset) -> Job:
    """As trainer would plan a run from scratch."""
    settings = TrainerSettings()
    return Job(
        kind="train", run_id="bench", model=dataset.name, dataset=dataset.name, dataset_version=1, manifest="",
        class_names=list(dataset.class_names), objects="", durability="process", home="", seed=SEED,
        epochs=settings.epochs, steps=settings.warm_steps, batch=settings.batch, new_share=settings.new_share,
        flip=settings.flip, longest_side=settings.longest_side, threads=1, niceness=0,
    )  # fmt: skip
