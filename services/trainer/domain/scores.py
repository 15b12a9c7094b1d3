"""From logits to scores under each condition."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.trainer.domain.jobs import Score

Z95 = 1.959964


def wilson(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); (0, 1) when nothing was counted."""
    if not count:
        return 0.0, 1.0
    share, z = right / count, Z95
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return max(0.0, middle - spread), min(1.0, middle + spread)


def log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Row-wise, shape [n, classes]."""
    shifted = logits.astype(np.float64) - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def score(condition: str, logits: NDArray[np.float32], labels: NDArray[np.int64], classes: Sequence[str]) -> Score:
    """Accuracy, mean cross-entropy and recall by class (classes without rows are left out)."""
    if not len(labels):
        return Score(condition, 0, 0.0, 0.0, 1.0, 0.0)
    hits = logits.argmax(1) == labels
    low, high = wilson(int(hits.sum()), len(labels))
    loss = float(-log_softmax(logits)[np.arange(len(labels)), labels].mean())
    recall = {
        name: float(hits[labels == place].mean()) for place, name in enumerate(classes) if (labels == place).any()
    }
    return Score(condition, len(labels), float(hits.mean()), low, high, loss, recall)


def conditions(new: NDArray[np.bool_], in_force: NDArray[np.bool_]) -> dict[str, NDArray[np.bool_]]:
    """Which rows belong to each condition: `all` is every row still in force."""
    return {"all": in_force, "old": ~new, "new": new & in_force, "old_in_force": ~new & in_force}


def temperature(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """The temperature that fits validation logits best (Guo et al. 2017), by search over 0.25..4."""
    if not len(labels):
        return 1.0
    grid = np.exp(np.linspace(math.log(0.25), math.log(4.0), 65))
    rows = np.arange(len(labels))
    losses = [-log_softmax((logits / t).astype(np.float32))[rows, labels].mean() for t in grid]
    return float(grid[int(np.argmin(losses))])
