"""Trainer's values to and from the contracts."""

from __future__ import annotations

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.labeling.v1 import labeling_pb2
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import derive_id
from services.common.errors import InvalidMessage
from services.trainer.domain.jobs import Answer, ModelReport
from services.trainer.domain.ports import DatasetVersion
from services.trainer.domain.runs import Run, RunState

STATES = {
    RunState.WAITING: trainer_pb2.RUN_STATE_WAITING,
    RunState.QUEUED: trainer_pb2.RUN_STATE_QUEUED,
    RunState.RUNNING: trainer_pb2.RUN_STATE_RUNNING,
    RunState.SUCCEEDED: trainer_pb2.RUN_STATE_SUCCEEDED,
    RunState.FAILED: trainer_pb2.RUN_STATE_FAILED,
    RunState.CANCELLED: trainer_pb2.RUN_STATE_CANCELLED,
}


def timestamp(at: datetime | None) -> Timestamp | None:
    """An aware time as protobuf."""
    if at is None:
        return None
    message = Timestamp()
    message.FromDatetime(at.astimezone(UTC))
    return message


def time_value(message: Timestamp, field: str) -> datetime:
    """A protobuf time as an aware one. Raises `InvalidMessage` outside the years 1 to 9999."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidMessage(f"`{field}` is no time between the years 1 and 9999", field=field) from error


def run_message(run: Run) -> trainer_pb2.Run:
    """A run with its package and report once it has them."""
    return trainer_pb2.Run(
        id=run.id,
        model=run.model,
        state=STATES[run.state],
        request_id=run.request_id,
        requested_by=run.requested_by,
        dataset=run.dataset,
        dataset_version=run.dataset_version,
        seed=run.seed,
        warm_start_from=run.warm_start_from,
        epoch=run.epoch,
        epochs=run.epochs,
        waiting_for=run.waiting_for,
        error=run.error,
        created_at=timestamp(run.created_at),
        started_at=timestamp(run.started_at),
        finished_at=timestamp(run.finished_at),
        attempts=run.attempts,
        package=trainer_pb2.ModelPackage.FromString(run.package) if run.package else None,
        report=trainer_pb2.EvaluationReport.FromString(run.report) if run.report else None,
        condition_labels=run.condition_labels,
        class_names=run.class_names,
    )


def package_message(answer: Answer) -> trainer_pb2.ModelPackage:
    """What the child put into the object store."""
    return trainer_pb2.ModelPackage(
        digest=answer.digest, size_bytes=answer.size_bytes, signature=answer.signature, key_id=answer.key_id
    )


def report_message(
    subject: str, dataset: str, dataset_version: int, answer: Answer, at: datetime
) -> trainer_pb2.EvaluationReport:
    """The child's report; `subject` is the run or version that it is about."""
    return trainer_pb2.EvaluationReport(
        id=derive_id("report", subject, dataset, str(dataset_version)),
        dataset=dataset,
        dataset_version=dataset_version,
        scores=[_model_score(model) for model in answer.models],
        parity_max_difference=answer.parity_max_difference,
        parity_images=answer.parity_images,
        evaluated_at=timestamp(at),
    )


def version_value(message: labeling_pb2.DatasetVersion) -> DatasetVersion:
    """What trainer needs of a dataset version."""
    return DatasetVersion(
        dataset=message.dataset,
        version=message.version,
        manifest=message.manifest.digest,
        class_names=tuple(message.class_names),
        condition_labels=message.condition_labels,
    )


def _model_score(model: ModelReport) -> trainer_pb2.ModelScore:
    conditions = [
        trainer_pb2.ConditionScore(
            condition=score.condition,
            assets=score.assets,
            accuracy=score.accuracy,
            accuracy_low=score.accuracy_low,
            accuracy_high=score.accuracy_high,
            mean_loss=score.mean_loss,
            recall=score.recall,
        )
        for score in model.scores
    ]
    return trainer_pb2.ModelScore(
        role=model.role, version=model.version, conditions=conditions, latency_ms=model.latency_ms
    )
