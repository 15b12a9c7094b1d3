"""What a run's process is told and what it answers: the two files and the lines between parent and child."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Opponent:
    """The champion that the challenger is measured against; `package` is its folder's digest."""

    version: str
    package: str


@dataclass(frozen=True, slots=True)
class Job:
    """job.json. `manifest` and `weights` are digests in the object store; `weights` is empty for a cold start.

    `kind` is `train`, or `evaluate` for a report on `opponent` alone.
    """

    kind: str
    run_id: str
    model: str
    dataset: str
    dataset_version: int
    manifest: str
    class_names: list[str]
    objects: str
    durability: str
    home: str
    seed: int
    epochs: int
    steps: int
    batch: int
    new_share: float
    flip: bool
    longest_side: int
    threads: int
    niceness: int
    weights: str = ""
    opponent: Opponent | None = None


@dataclass(frozen=True, slots=True)
class Score:
    """Correct answers under one condition; accuracies in 0..1 with the 95 % Wilson interval, loss in nats."""

    condition: str
    assets: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    mean_loss: float
    recall: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model on the held-out rows; latency is the median of one image, milliseconds."""

    role: str
    version: str
    scores: list[Score]
    latency_ms: float


@dataclass(frozen=True, slots=True)
class Answer:
    """result.json: the package and its signature, the weights for a later warm start, and the report."""

    digest: str
    size_bytes: int
    signature: str
    key_id: str
    weights: str
    models: list[ModelReport]
    parity_max_difference: float
    parity_images: int
    error: str = ""


RECIPE: Final = ("seed", "epochs", "steps", "batch", "new_share", "flip", "longest_side", "weights")
"""What a checkpoint depends on: changed in the middle of a run, it would be another run's."""


def resumed(earlier: Job, now: Job) -> Job:
    """The job of a run that goes on: trained as it began, measured against the champion of today."""
    return replace(now, **{name: getattr(earlier, name) for name in RECIPE})


def job_document(job: Job) -> dict[str, Any]:
    """As job.json holds it."""
    return asdict(job)


def read_job(document: dict[str, Any]) -> Job:
    """The other way."""
    opponent = document.pop("opponent")
    return Job(**document, opponent=Opponent(**opponent) if opponent else None)


def answer_document(answer: Answer) -> dict[str, Any]:
    """As result.json holds it."""
    return asdict(answer)


def read_answer(document: dict[str, Any]) -> Answer:
    """The other way."""
    models = [
        ModelReport(model["role"], model["version"], [Score(**score) for score in model["scores"]], model["latency_ms"])
        for model in document.pop("models")
    ]
    return Answer(**document, models=models)
