"""Every topic as a typed constant. Generated from proto/topics.yaml by `make proto`; never edited."""

from __future__ import annotations

from typing import Any, Final

from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus.api import Consumer, Topic

# A topic with `partitions=0` is keyed by camera and takes the deployment's count.
CAMERA_PARTITIONS: Final = {'laptop': 6, 'cluster': 24}

FRAME_CAPTURED: Final[Topic[ingest_pb2.FrameCaptured]] = Topic(
    name='irisloop.ingest.frame.captured.v1',
    message=ingest_pb2.FrameCaptured,
    key='camera_id',
    producer='camera',
    consumers=(Consumer('ingest', 'store-frames', 'shared'),),
    partitions=0,
    retention_ms=86400000,
    retention_bytes=4294967296,
    compacted=False,
    max_message_bytes=8388608,
    log_append_time=True,
)
ASSET_STORED: Final[Topic[ingest_pb2.AssetStored]] = Topic(
    name='irisloop.ingest.asset.stored.v1',
    message=ingest_pb2.AssetStored,
    key='asset.camera_id',
    producer='ingest',
    consumers=(Consumer('serving', 'predict-assets', 'stream'), Consumer('labeling', 'note-assets', 'shared'),),
    partitions=0,
    retention_ms=604800000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
ASSET_DELETED: Final[Topic[ingest_pb2.AssetDeleted]] = Topic(
    name='irisloop.ingest.asset.deleted.v1',
    message=ingest_pb2.AssetDeleted,
    key='camera_id',
    producer='ingest',
    consumers=(Consumer('labeling', 'forget-assets', 'shared'),),
    partitions=0,
    retention_ms=604800000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
FRAME_REJECTED: Final[Topic[ingest_pb2.FrameRejected]] = Topic(
    name='irisloop.ingest.frame.rejected.v1',
    message=ingest_pb2.FrameRejected,
    key='rejection.camera_id',
    producer='ingest',
    consumers=(Consumer('monitor', 'store-rejections', 'shared'),),
    partitions=0,
    retention_ms=604800000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
CAMERA_CHANGED: Final[Topic[ingest_pb2.CameraChanged]] = Topic(
    name='irisloop.ingest.camera.changed.v1',
    message=ingest_pb2.CameraChanged,
    key='camera.id',
    producer='ingest',
    consumers=(Consumer('serving', 'know-cameras', 'every-instance'),),
    partitions=0,
    retention_ms=-1,
    retention_bytes=-1,
    compacted=True,
    max_message_bytes=1048576,
    log_append_time=False,
)
ANNOTATION_CONFIRMED: Final[Topic[labeling_pb2.AnnotationConfirmed]] = Topic(
    name='irisloop.labeling.annotation.confirmed.v1',
    message=labeling_pb2.AnnotationConfirmed,
    key='annotation.camera_id',
    producer='labeling',
    consumers=(Consumer('monitor', 'judge-drift', 'stream'), Consumer('monitor', 'store-annotations', 'shared'),),
    partitions=0,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
DATASET_VERSION_CREATED: Final[Topic[labeling_pb2.DatasetVersionCreated]] = Topic(
    name='irisloop.labeling.dataset-version.created.v1',
    message=labeling_pb2.DatasetVersionCreated,
    key='version.dataset',
    producer='labeling',
    consumers=(Consumer('trainer', 'start-waiting-runs', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
RUN_PROGRESSED: Final[Topic[trainer_pb2.RunProgressed]] = Topic(
    name='irisloop.trainer.run.progressed.v1',
    message=trainer_pb2.RunProgressed,
    key='model',
    producer='trainer',
    consumers=(),
    partitions=1,
    retention_ms=604800000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
RUN_WAITING: Final[Topic[trainer_pb2.RunWaiting]] = Topic(
    name='irisloop.trainer.run.waiting.v1',
    message=trainer_pb2.RunWaiting,
    key='run.model',
    producer='trainer',
    consumers=(),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
RUN_FINISHED: Final[Topic[trainer_pb2.RunFinished]] = Topic(
    name='irisloop.trainer.run.finished.v1',
    message=trainer_pb2.RunFinished,
    key='run.model',
    producer='trainer',
    consumers=(Consumer('registry', 'judge-runs', 'shared'), Consumer('monitor', 'judge-drift', 'stream'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
EVALUATION_FINISHED: Final[Topic[trainer_pb2.EvaluationFinished]] = Topic(
    name='irisloop.trainer.evaluation.finished.v1',
    message=trainer_pb2.EvaluationFinished,
    key='model',
    producer='trainer',
    consumers=(Consumer('registry', 'note-evaluations', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
VERSION_JUDGED: Final[Topic[registry_pb2.VersionJudged]] = Topic(
    name='irisloop.registry.version.judged.v1',
    message=registry_pb2.VersionJudged,
    key='version.model',
    producer='registry',
    consumers=(Consumer('monitor', 'judge-drift', 'stream'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
ALIAS_MOVED: Final[Topic[registry_pb2.AliasMoved]] = Topic(
    name='irisloop.registry.alias.moved.v1',
    message=registry_pb2.AliasMoved,
    key='move.model',
    producer='registry',
    consumers=(),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
ALIASES_PUBLISHED: Final[Topic[registry_pb2.AliasesPublished]] = Topic(
    name='irisloop.registry.aliases.published.v1',
    message=registry_pb2.AliasesPublished,
    key='model',
    producer='registry',
    consumers=(Consumer('serving', 'load-models', 'every-instance'), Consumer('monitor', 'judge-drift', 'stream'),),
    partitions=1,
    retention_ms=-1,
    retention_bytes=-1,
    compacted=True,
    max_message_bytes=1048576,
    log_append_time=False,
)
PREDICTION_MADE: Final[Topic[serving_pb2.PredictionMade]] = Topic(
    name='irisloop.serving.prediction.made.v1',
    message=serving_pb2.PredictionMade,
    key='camera/{prediction.camera_id}, else model/{prediction.model}',
    producer='serving',
    consumers=(Consumer('labeling', 'draw-tasks', 'shared'), Consumer('monitor', 'judge-drift', 'stream'), Consumer('monitor', 'store-predictions', 'shared'),),
    partitions=0,
    retention_ms=604800000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
DEPLOYMENT_CHANGED: Final[Topic[serving_pb2.DeploymentChanged]] = Topic(
    name='irisloop.serving.deployment.changed.v1',
    message=serving_pb2.DeploymentChanged,
    key='{deployment.model}/{deployment.replica}',
    producer='serving',
    consumers=(Consumer('monitor', 'judge-drift', 'stream'), Consumer('registry', 'note-failures', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
DRIFT_DETECTED: Final[Topic[monitor_pb2.DriftDetected]] = Topic(
    name='irisloop.monitor.drift.detected.v1',
    message=monitor_pb2.DriftDetected,
    key='incident.model',
    producer='monitor',
    consumers=(Consumer('labeling', 'draw-drifted', 'shared'), Consumer('serving', 'know-drifts', 'every-instance'), Consumer('monitor', 'store-drifts', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
ALERT_RAISED: Final[Topic[monitor_pb2.AlertRaised]] = Topic(
    name='irisloop.monitor.alert.raised.v1',
    message=monitor_pb2.AlertRaised,
    key='model',
    producer='monitor',
    consumers=(Consumer('monitor', 'store-alerts', 'shared'), Consumer('monitor', 'tell-*', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
RETRAIN_REQUESTED: Final[Topic[monitor_pb2.RetrainRequested]] = Topic(
    name='irisloop.monitor.retrain.requested.v1',
    message=monitor_pb2.RetrainRequested,
    key='model',
    producer='monitor',
    consumers=(Consumer('trainer', 'open-runs', 'shared'), Consumer('monitor', 'store-requests', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
RETRAIN_DECLINED: Final[Topic[monitor_pb2.RetrainDeclined]] = Topic(
    name='irisloop.monitor.retrain.declined.v1',
    message=monitor_pb2.RetrainDeclined,
    key='model',
    producer='monitor',
    consumers=(Consumer('monitor', 'store-refusals', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
CHALLENGER_JUDGED: Final[Topic[monitor_pb2.ChallengerJudged]] = Topic(
    name='irisloop.monitor.challenger.judged.v1',
    message=monitor_pb2.ChallengerJudged,
    key='model',
    producer='monitor',
    consumers=(Consumer('registry', 'note-judgements', 'shared'),),
    partitions=1,
    retention_ms=2592000000,
    retention_bytes=-1,
    compacted=False,
    max_message_bytes=1048576,
    log_append_time=False,
)
SNAPSHOT_TAKEN: Final[Topic[monitor_pb2.SnapshotTaken]] = Topic(
    name='irisloop.monitor.snapshot.taken.v1',
    message=monitor_pb2.SnapshotTaken,
    key='key',
    producer='monitor',
    consumers=(),
    partitions=0,
    retention_ms=-1,
    retention_bytes=-1,
    compacted=True,
    max_message_bytes=8388608,
    log_append_time=False,
)

TOPICS: Final[tuple[Topic[Any], ...]] = (
    FRAME_CAPTURED,
    ASSET_STORED,
    ASSET_DELETED,
    FRAME_REJECTED,
    CAMERA_CHANGED,
    ANNOTATION_CONFIRMED,
    DATASET_VERSION_CREATED,
    RUN_PROGRESSED,
    RUN_WAITING,
    RUN_FINISHED,
    EVALUATION_FINISHED,
    VERSION_JUDGED,
    ALIAS_MOVED,
    ALIASES_PUBLISHED,
    PREDICTION_MADE,
    DEPLOYMENT_CHANGED,
    DRIFT_DETECTED,
    ALERT_RAISED,
    RETRAIN_REQUESTED,
    RETRAIN_DECLINED,
    CHALLENGER_JUDGED,
    SNAPSHOT_TAKEN,
)
