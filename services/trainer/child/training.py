"""The training loop: seeded, resumable at every epoch, newest labels first.

Each epoch's order and augmentation come from (seed, epoch) alone, so a run that was killed and resumed from the
checkpoint of epoch n ends where an undisturbed one does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from services.trainer.child.augmentation import augment
from services.trainer.child.network import SmallNetwork

Images = NDArray[np.uint8]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train. `new_share` is the share of each batch drawn from the new condition, when there is one.

    `noise` is the most gaussian noise that augmentation adds, as a standard deviation in shares of full scale.
    """

    epochs: int
    batch: int
    learning_rate: float
    steps_an_epoch: int
    new_share: float
    flip: bool
    seed: int
    label_smoothing: float = 0.05
    weight_decay: float = 5e-4
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Examples:
    """uint8 images [n, C, H, W], class indices [n], and which rows are of the new condition, bool [n]."""

    images: Images
    labels: Indices
    new: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True)
class Progress:
    """What is said after each epoch; `epoch` counts from 1."""

    epoch: int
    epochs: int
    train_loss: float
    validation_accuracy: float
    seconds: float


def batches(examples: Examples, recipe: Recipe, epoch: int) -> list[Indices]:
    """The rows of each step: a shuffle of all, or a fixed share of new and old ones drawn anew each epoch."""
    rng = np.random.default_rng([recipe.seed, epoch])
    new, old = np.flatnonzero(examples.new), np.flatnonzero(~examples.new)
    count = recipe.steps_an_epoch * recipe.batch
    if not len(new) or not len(old):
        return np.array_split(_cycled(np.arange(len(examples)), count, rng), recipe.steps_an_epoch)
    fresh = min(recipe.batch - 1, max(1, round(recipe.batch * recipe.new_share)))
    news = _cycled(new, recipe.steps_an_epoch * fresh, rng).reshape(recipe.steps_an_epoch, -1)
    olds = _cycled(old, recipe.steps_an_epoch * (recipe.batch - fresh), rng).reshape(recipe.steps_an_epoch, -1)
    return list(np.concatenate([news, olds], axis=1))


def _cycled(rows: Indices, count: int, rng: np.random.Generator) -> Indices:
    """`count` rows, each as often as the others give or take one."""
    laps = -(-count // len(rows))
    return np.concatenate([rng.permutation(rows) for _ in range(laps)])[:count]


class Trainer:
    """Trains one network; `checkpoint` is replaced after each epoch, atomically."""

    def __init__(self, network: SmallNetwork, recipe: Recipe, checkpoint: Path) -> None:
        self._network = network.to(memory_format=torch.channels_last)
        self._recipe = recipe
        self._checkpoint = checkpoint
        steps = recipe.epochs * recipe.steps_an_epoch
        self._optimizer = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        rising = 0.25 if steps != 4 else 0.5  # OneCycleLR divides by the length of its rise less one step
        self._schedule = torch.optim.lr_scheduler.OneCycleLR(
            self._optimizer, max_lr=recipe.learning_rate, total_steps=steps, pct_start=rising
        )
        self._loss = nn.CrossEntropyLoss(label_smoothing=recipe.label_smoothing)

    def resume(self) -> int:
        """Load the checkpoint when there is one; returns how many epochs are done."""
        if not self._checkpoint.exists():
            return 0
        state: dict[str, Any] = torch.load(self._checkpoint, weights_only=True)
        self._network.load_state_dict(state["network"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        return int(state["epochs_done"])

    def run(self, train: Examples, validation: Examples, say: Callable[[Progress], None]) -> None:
        """Train what is left of the epochs."""
        for epoch in range(self.resume(), self._recipe.epochs):
            began = time.monotonic()
            loss = self._epoch(train, epoch)
            accuracy = float(np.mean(predict(self._network, validation.images)[0].argmax(1) == validation.labels))
            self._save(epoch + 1)
            say(Progress(epoch + 1, self._recipe.epochs, loss, accuracy, time.monotonic() - began))

    def _epoch(self, train: Examples, epoch: int) -> float:
        torch.manual_seed(self._recipe.seed * 1_000_003 + epoch)
        generator = torch.Generator().manual_seed(self._recipe.seed * 1_000_003 + epoch)
        self._network.train()
        noise = self._recipe.noise / float(self._network.deviation)
        losses = []
        for rows in batches(train, self._recipe, epoch):
            images = self._network.normalise(torch.from_numpy(train.images[rows]))
            images = augment(images, generator, flip=self._recipe.flip, noise=noise)
            loss: Tensor = self._loss(self._network.classify(images)[0], torch.from_numpy(train.labels[rows]))
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()
            losses.append(float(loss.detach()))
        return float(np.mean(losses))

    def _save(self, epochs_done: int) -> None:
        state = {
            "network": self._network.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "epochs_done": epochs_done,
        }
        part = self._checkpoint.with_suffix(".part")
        torch.save(state, part)
        part.replace(self._checkpoint)


def predict(network: SmallNetwork, images: Images, batch: int = 512) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [n, classes] and embeddings [n, 128] of uint8 images."""
    network.eval()
    logits, embeddings = [], []
    with torch.no_grad():
        for start in range(0, len(images), batch):
            out, embedding = network(torch.from_numpy(images[start : start + batch]))
            logits.append(out.numpy())
            embeddings.append(embedding.numpy())
    if not logits:
        return np.zeros((0, network.head.out_features), np.float32), np.zeros((0, 128), np.float32)
    return np.concatenate(logits), np.concatenate(embeddings)
