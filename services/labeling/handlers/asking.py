"""Makes tasks out of drawn predictions; used by every handler that draws."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from services.common.bus import derive_id
from services.common.metrics import LABELING_DRAWN
from services.labeling.domain.drawing import DrawPolicy, sample
from services.labeling.domain.model import (
    Dataset,
    Draw,
    Micros,
    Origin,
    Prediction,
    State,
    Task,
    VersionRequest,
)
from services.labeling.domain.ports import Ledger

CANDIDATES = 5_000
"""The newest so many are looked at when tasks are drawn from what was predicted before."""


def task_of(prediction: Prediction, draw: Draw, dataset: str, cause: str, now: Micros) -> Task:
    """The same draw of the same asset is the same task, whenever it is made."""
    return Task(
        id=derive_id("task", prediction.asset_id, draw.origin.name, cause),
        asset_id=prediction.asset_id,
        camera_id=prediction.camera_id,
        captured_at=prediction.captured_at,
        state=State.OPEN,
        draw=draw,
        suggestion=prediction.reference,
        dataset=dataset,
        cause=cause,
        created_at=now,
    )


def ask(ledger: Ledger, tasks: Sequence[Task]) -> int:
    """Add them to the queue and count them."""
    added = ledger.tasks.add(tasks)
    if added:
        for origin in Origin:
            drawn = sum(task.draw.origin is origin for task in tasks)
            LABELING_DRAWN.labels(origin.name.lower()).inc(drawn)
    return added


def dataset_for(datasets: Iterable[Dataset], prediction: Prediction) -> Dataset | None:
    """The dataset that a label of this prediction would go to: the first by name that takes it."""
    return next(
        (one for one in datasets if one.takes(prediction.camera_id, prediction.reference.class_name)),
        None,
    )


def missing_labels(ledger: Ledger, request: VersionRequest, dataset: Dataset, surplus: float) -> int:
    """How many tasks more it takes, beside the labels that are there and the tasks that are pending."""
    present = ledger.annotations.count_in_force(dataset, request.labels_since, request.cameras)
    target = math.ceil(request.labels_wanted * surplus)
    return max(0, target - present - ledger.tasks.pending(request.id))


def top_up(ledger: Ledger, request: VersionRequest, policy: DrawPolicy, now: Micros) -> int:
    """Draw the tasks that an open request still misses among the frames of its window; returns how many."""
    dataset = ledger.datasets.get(request.dataset)
    missing = missing_labels(ledger, request, dataset, policy.request_surplus)
    if missing == 0:
        return 0
    found = ledger.pool.candidates(request.model, request.labels_since or 0, CANDIDATES)
    candidates = [
        one
        for one in found
        if request.concerns(one.camera_id) and dataset.takes(one.camera_id, one.reference.class_name)
    ]
    wanted = min(missing, math.ceil(policy.request_share * len(candidates)))
    drawn = sample(candidates, wanted, f"request/{request.id}", uncertainty=policy.request_uncertainty)
    tasks = [task_of(one, Draw(Origin.REQUEST, propensity), dataset.name, request.id, now) for one, propensity in drawn]
    return ask(ledger, tasks)
