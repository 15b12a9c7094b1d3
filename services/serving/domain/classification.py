"""Triton's classification extension: the best classes of an output as text instead of its numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.serving.domain.tensors import Array


def best_classes(values: Array, count: int, labels: Sequence[str], *, batched: bool) -> Array:
    """`values` is [rows, ...] when batched; the answer is BYTES [rows, k] (or [k]), best first: `value:index[:label]`.

    The dimensions beyond the batch are taken as one row of classes; k is at most their number.
    """
    rows = values.reshape(len(values), -1) if batched else values.reshape(1, -1)
    k = min(count, rows.shape[1])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :k]
    found = np.empty((len(rows), k), dtype=np.object_)
    for row, indices in enumerate(order.tolist()):
        found[row] = [_text(rows[row, index], index, labels) for index in indices]
    return found if batched else found[0]


def _text(value: object, index: int, labels: Sequence[str]) -> bytes:
    shown = f"{value:f}" if isinstance(value, np.floating) else str(value)
    label = labels[index] if index < len(labels) else ""
    return f"{shown}:{index}:{label}".encode() if label else f"{shown}:{index}".encode()
