"""Predictions and deployments as the contract's messages and events."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp
from inference import model_config_pb2
from irisloop.ingest.v1 import ingest_pb2
from irisloop.serving.v1 import serving_pb2 as pb
from irisloop.topics import DEPLOYMENT_CHANGED, PREDICTION_MADE

from services.common.bus import Event, derive_id
from services.serving.domain.config import ModelConfig
from services.serving.domain.features import Answer, Findings
from services.serving.domain.ports import Deployment
from services.serving.domain.predictions import Made
from services.serving.domain.rollout import Applied

STATES: Final = {
    "loaded": pb.DEPLOYMENT_STATE_LOADED,
    "failed": pb.DEPLOYMENT_STATE_FAILED,
    "unloaded": pb.DEPLOYMENT_STATE_UNLOADED,
}


def deployment_event(change: Deployment, replica: str) -> Event[pb.DeploymentChanged]:
    """The event of one change; one of a model folder has no revision, so its time stands for it."""
    cause = str(change.revision or change.changed_at.isoformat())
    said = (change.model, change.version, replica, cause, change.state, change.error, *change.roles)
    return Event(
        DEPLOYMENT_CHANGED,
        key=f"{change.model}/{replica}",
        value=pb.DeploymentChanged(deployment=deployment_message(change, replica)),
        ce_id=derive_id("deployment", *said),
        ce_time=change.cause_time,
    )


def rollout_message(applied: Applied) -> pb.AppliedRollout:
    """The contract's message."""
    arms = [
        pb.AppliedArm(name=arm.name, version=arm.version, share_asked=arm.share, share_real=real, keys=applied.keys)
        for arm, real in zip(applied.rollout.arms, applied.split.real(), strict=True)
    ]
    counts = {"offered": applied.offered, "compared": applied.compared}
    return pb.AppliedRollout(model=applied.model, rollout_id=applied.rollout.id, arms=arms, **counts)


def deployment_message(change: Deployment, replica: str) -> pb.Deployment:
    """The contract's message."""
    return pb.Deployment(
        model=change.model,
        version=change.version,
        replica=replica,
        roles=change.roles,
        state=STATES[change.state],
        error=change.error,
        changed_at=timestamp(change.changed_at),
    )


def asset_prediction(
    made: Made, asset: ingest_pb2.Asset, replica: str, partition: int, traceparent: str, captured_at: datetime
) -> Event[pb.PredictionMade]:
    """The event of a prediction on a camera's asset, on the asset's own partition and in its trace."""
    prediction = message(made.id, made.model, made.version, made.role, made.answer, made.latency_ms, replica)
    prediction.asset_id, prediction.camera_id, prediction.historical = asset.id, asset.camera_id, asset.historical
    if made.rollout_id:
        prediction.rollout_id, prediction.pair_id = made.rollout_id, asset.id
    prediction.captured_at.CopyFrom(asset.captured_at)
    prediction.predicted_at.FromDatetime(made.predicted_at)
    if made.answer.found is not None:
        place_detections(prediction, made.answer.found, asset.width, asset.height)
    if asset.HasField("statistics"):
        prediction.features.pixels.CopyFrom(asset.statistics)
    return Event(
        PREDICTION_MADE,
        key=f"camera/{asset.camera_id}",
        value=pb.PredictionMade(prediction=prediction),
        ce_id=made.id,
        ce_time=captured_at,
        traceparent=traceparent,
        partition=partition,
    )


def message(
    identity: str, model: str, version: str, role: str, answer: Answer, latency_ms: float, replica: str
) -> pb.Prediction:
    """The parts of a prediction that model and outputs give."""
    return pb.Prediction(
        id=identity,
        model=model,
        version=version,
        role=role,
        latency_ms=latency_ms,
        scores=[pb.Score(class_name=name, score=score) for name, score in answer.scores],
        features=features(answer),
        replica=replica,
        error=answer.error,
    )


def place_detections(prediction: pb.Prediction, found: Findings, width: int, height: int) -> None:
    """Put a detector's boxes in, in pixels of an image of that size; an error instead where that is not known."""
    if not (width and height):
        prediction.error = "The asset has no width and height, so boxes have no place in it."
        prediction.ClearField("scores")
        return
    prediction.decision_threshold = found.decision_threshold
    prediction.features.detection_count = found.count
    if found.area is not None:
        prediction.features.box_area = found.area
    prediction.detections.extend(
        pb.Detection(
            class_name=one.class_name,
            score=one.score,
            x=one.x * width,
            y=one.y * height,
            width=one.width * width,
            height=one.height * height,
        )
        for one in found.detections
    )


def features(answer: Answer) -> pb.Features:
    """What the model gave; the rest stays absent."""
    return pb.Features(
        max_probability=answer.max_probability,
        margin=answer.margin,
        entropy=answer.entropy,
        energy=answer.energy,
        projections=answer.projections,
        embedding_norm=answer.embedding_norm,
    )


def timestamp(moment: datetime) -> Timestamp:
    """As protobuf has it."""
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp


def config_message(config: ModelConfig) -> model_config_pb2.ModelConfig:
    """What Triton's config.pbtxt would say of a model that came without one."""
    message = model_config_pb2.ModelConfig(
        name=config.name,
        platform=config.platform,
        backend=config.backend,
        max_batch_size=config.max_batch_size,
        default_model_filename=config.filename,
    )
    message.version_policy.latest.num_versions = 1
    message.instance_group.add(name=config.name, kind=model_config_pb2.ModelInstanceGroup.KIND_CPU, count=1)
    if config.dynamic_batching is not None:
        message.dynamic_batching.SetInParent()
    for tensor in config.inputs:
        message.input.add(name=tensor.name, data_type=config_type(tensor.datatype), dims=tensor.dims)
    for tensor in config.outputs:
        message.output.add(name=tensor.name, data_type=config_type(tensor.datatype), dims=tensor.dims)
    return message


def config_type(datatype: str) -> model_config_pb2.DataType.ValueType:
    """The configuration's name of a protocol datatype."""
    return model_config_pb2.DataType.Value("TYPE_STRING" if datatype == "BYTES" else f"TYPE_{datatype}")
