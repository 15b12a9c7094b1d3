"""Predictions as inputs, made quickly: one is made for every event, and it is frozen.

As the bus makes its records: a draft with the same slots is filled plainly and then given its real class. The result is
equal in every way to what the class's own constructor makes, in a third of the time.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

from services.monitor.domain.inputs import Seen


class _SeenDraft:
    __slots__ = tuple(f.name for f in fields(Seen))


def make_seen(
    at: float,
    ce_id: str,
    traceparent: str,
    model: str,
    version: str,
    role: str,
    camera_id: str,
    asset_id: str,
    class_name: str,
    score: float,
    features: tuple[float, ...],
    pair_id: str,
    rollout_id: str,
    latency_ms: float,
    failed: bool,
) -> Seen:
    """A `Seen`."""
    draft: Any = _SeenDraft()
    draft.at = at
    draft.ce_id = ce_id
    draft.traceparent = traceparent
    draft.model = model
    draft.version = version
    draft.role = role
    draft.camera_id = camera_id
    draft.asset_id = asset_id
    draft.class_name = class_name
    draft.score = score
    draft.features = features
    draft.pair_id = pair_id
    draft.rollout_id = rollout_id
    draft.latency_ms = latency_ms
    draft.failed = failed
    draft.__class__ = Seen
    return cast("Seen", draft)
