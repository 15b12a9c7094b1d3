"""What a model's outputs say about one image: scores, and the features that the monitor watches.

Definitions are those of `irisloop.serving.v1.Features`, schema 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from services.serving.domain.package import ModelCard

Floats: TypeAlias = NDArray[np.float64]

TOP: Final = 5
DIRECTIONS: Final = 8
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Detection:
    """One thing found; the box is in shares of the image's width and height, 0..1, origin top left."""

    class_name: str
    score: float
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Findings:
    """What a detector found in an image."""

    detections: tuple[Detection, ...]
    """Best first, at most 100."""
    decision_threshold: float
    """Those that score at least this are the answer."""
    count: int
    """How many are, also beyond the 100."""
    area: float | None
    """Their mean area as a share of the image; None without any."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One image's answer; a feature is None (or empty) where the model does not give it."""

    scores: tuple[tuple[str, float], ...] = ()
    """Class and calibrated probability, best first, at most 5."""
    max_probability: float | None = None
    margin: float | None = None
    entropy: float | None = None
    """Nats."""
    energy: float | None = None
    """Minus log-sum-exp of the logits, nats (Liu et al. 2020, arXiv:2010.03759)."""
    projections: tuple[float, ...] = ()
    embedding_norm: float | None = None
    error: str = ""
    """Why there is no answer."""
    found: Findings | None = None
    """Of a detector."""


def answers(card: ModelCard, outputs: Mapping[str, NDArray[Any]]) -> list[Answer]:
    """One answer a row of a classifier's outputs ([N, classes], and [N, D] for the embedding)."""
    scores = np.asarray(outputs[card.scores], dtype=np.float64)
    embedding = np.asarray(outputs[card.embedding], dtype=np.float64) if card.embedding else None
    finite = np.asarray(np.isfinite(scores).all(axis=1))
    if embedding is not None:
        finite &= np.isfinite(embedding).all(axis=1)
    safe = np.where(finite[:, None], scores, 0.0)
    chances = softmax(safe / card.temperature) if card.logits else safe
    energies = -log_sum_exp(safe) if card.logits else None
    projected, norms = embedded(embedding, finite)
    return _rows(card, finite, chances, energies, projected, norms)


def embedded(embedding: Floats | None, finite: NDArray[np.bool_]) -> tuple[Floats | None, Floats | None]:
    """[N, 8] projections and [N] norms of an embedding [N, D]; of its `finite` rows alone, None without one."""
    if embedding is None:
        return None, None
    solid = np.where(finite[:, None], embedding, 0.0)
    return solid @ directions(solid.shape[1]), np.linalg.norm(solid, axis=1)


def confidences(card: ModelCard, scores: NDArray[Any]) -> Floats:
    """The largest calibrated probability of each row of [N, classes]; NaN where the output is not finite."""
    values = np.asarray(scores, dtype=np.float64)
    finite = np.asarray(np.isfinite(values).all(axis=1))
    safe = np.where(finite[:, None], values, 0.0)
    chances = softmax(safe / card.temperature) if card.logits else safe
    return np.where(finite, chances.max(axis=1), np.nan)


def _rows(
    card: ModelCard,
    finite: NDArray[np.bool_],
    chances: Floats,
    energies: Floats | None,
    projected: Floats | None,
    norms: Floats | None,
) -> list[Answer]:
    order = np.argsort(-chances, axis=1, kind="stable")[:, :TOP]
    best = np.take_along_axis(chances, order, axis=1)
    entropies = entropy(chances)
    return [
        Answer(
            scores=tuple(
                (card.classes[index], score)
                for index, score in zip(order[row].tolist(), best[row].tolist(), strict=True)
            ),
            max_probability=float(best[row, 0]),
            margin=float(best[row, 0] - best[row, 1]),
            entropy=float(entropies[row]),
            energy=None if energies is None else float(energies[row]),
            projections=() if projected is None else tuple(projected[row].tolist()),
            embedding_norm=None if norms is None else float(norms[row]),
        )
        if finite[row]
        else Answer(error="The model's output is not finite.")
        for row in range(len(chances))
    ]


def softmax(logits: Floats) -> Floats:
    """Probabilities of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def log_sum_exp(logits: Floats) -> Floats:
    """The logarithm of the sum of exponentials of each row."""
    peak = logits.max(axis=1)
    return np.asarray(peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1)))


def entropy(chances: Floats) -> Floats:
    """Shannon entropy of each row, nats; 0 log 0 is 0."""
    logs = np.log(np.where(chances > 0, chances, 1.0))
    return np.asarray(-(chances * logs).sum(axis=1))


@lru_cache(maxsize=64)
def directions(width: int) -> Floats:
    """[width, min(8, width)] orthonormal columns, the same for ever: QR of draws of numpy's frozen legacy generator."""
    drawn = np.random.RandomState(SEED).standard_normal((width, min(DIRECTIONS, width)))
    columns, triangle = np.linalg.qr(drawn)
    return np.asarray(columns * np.sign(np.diagonal(triangle)))
