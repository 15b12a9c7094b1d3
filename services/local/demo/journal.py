"""What the demo saw: every record of the topics it reads, counted as it came, nothing deduplicated."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.ingest.v1 import ingest_pb2
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.trainer.v1 import trainer_pb2

from services.local.demo.frames import Truth

CHAMPION: Final = "champion"
SHADOW: Final = "shadow"
LIVE_WINDOW: Final = 400


@dataclass(slots=True)
class Journal:
    """Kept by the observer, read by the director and the report.

    `answers[role][frame]` is the class name predicted for that frame, "" for a prediction that failed.
    """

    truth: Truth
    class_names: list[str] = field(default_factory=list)
    assets: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    frame_ids: Counter[str] = field(default_factory=Counter)
    predictions: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: dict[str, dict[int, str]] = field(default_factory=lambda: {CHAMPION: {}, SHADOW: {}})
    versions: dict[str, dict[int, str]] = field(default_factory=lambda: {CHAMPION: {}, SHADOW: {}})
    incidents: dict[str, monitor_pb2.Incident] = field(default_factory=dict)
    drifts: list[monitor_pb2.Incident] = field(default_factory=list)
    alerts: list[monitor_pb2.AlertRaised] = field(default_factory=list)
    requests: list[monitor_pb2.RetrainRequested] = field(default_factory=list)
    declined: list[monitor_pb2.RetrainDeclined] = field(default_factory=list)
    waiting: list[trainer_pb2.RunWaiting] = field(default_factory=list)
    progress: list[trainer_pb2.RunProgressed] = field(default_factory=list)
    runs: list[trainer_pb2.Run] = field(default_factory=list)
    judged: list[registry_pb2.VersionJudged] = field(default_factory=list)
    moves: list[registry_pb2.AliasMove] = field(default_factory=list)
    dataset_versions: list[labeling_pb2.DatasetVersion] = field(default_factory=list)
    live: deque[bool] = field(default_factory=lambda: deque(maxlen=LIVE_WINDOW))

    def note(self, message: Any, ce_id: str) -> None:
        """One record of any topic."""
        match message:
            case ingest_pb2.AssetStored():
                self._note_asset(message.asset, ce_id)
            case ingest_pb2.FrameRejected():
                self.rejections[ce_id] += 1
            case serving_pb2.PredictionMade():
                self._note_prediction(message.prediction, ce_id)
            case labeling_pb2.DatasetVersionCreated():
                self.dataset_versions.append(message.version)
            case monitor_pb2.DriftDetected():
                self.drifts.append(message.incident)
                self.incidents[message.incident.id] = message.incident
            case _:
                self._note_decision(message)

    def _note_decision(self, message: Any) -> None:
        match message:
            case monitor_pb2.AlertRaised():
                self.alerts.append(message)
            case monitor_pb2.RetrainRequested():
                self.requests.append(message)
            case monitor_pb2.RetrainDeclined():
                self.declined.append(message)
            case trainer_pb2.RunWaiting():
                self.waiting.append(message)
            case trainer_pb2.RunProgressed():
                self.progress.append(message)
            case trainer_pb2.RunFinished():
                self.runs.append(message.run)
            case registry_pb2.VersionJudged():
                self.judged.append(message)
            case registry_pb2.AliasMoved():
                self.moves.append(message.move)

    def _note_asset(self, asset: ingest_pb2.Asset, ce_id: str) -> None:
        number = asset.meta.get("frame", "")
        if number.isdecimal():
            self.assets[ce_id] += 1
            self.truth.note_asset(asset.id, int(number))

    def _note_prediction(self, prediction: serving_pb2.Prediction, ce_id: str) -> None:
        number = self.truth.asset.get(prediction.asset_id)
        if number is None or prediction.role not in self.answers:
            return
        self.predictions[prediction.role, ce_id] += 1
        name = prediction.scores[0].class_name if prediction.scores else ""
        self.answers[prediction.role][number] = name
        self.versions[prediction.role][number] = prediction.version
        if prediction.role == CHAMPION:
            self.live.append(self.is_right(CHAMPION, number))

    def is_right(self, role: str, number: int) -> bool:
        """Whether that role's answer to the frame is there and right."""
        name = self.answers[role].get(number, "")
        return name != "" and name == self.class_names[self.truth.label[number]]

    def right(self, role: str, numbers: Iterable[int]) -> tuple[int, int]:
        """(right, all) over the frames; a missing answer is wrong."""
        verdicts = [self.is_right(role, number) for number in numbers]
        return sum(verdicts), len(verdicts)

    def confirmed(self) -> list[monitor_pb2.Incident]:
        """Every word said about a confirmed incident, in order."""
        return [incident for incident in self.drifts if incident.state == monitor_pb2.MONITOR_STATE_CONFIRMED]

    def champions(self) -> list[registry_pb2.AliasMove]:
        """The moves of the champion alias, in order."""
        return [move for move in self.moves if move.alias == CHAMPION]


def utc(stamp: Timestamp) -> datetime:
    """A protobuf time as an aware datetime."""
    return stamp.ToDatetime(tzinfo=UTC)
