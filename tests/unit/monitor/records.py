"""Inputs to the judge as the records that other services would write, and as what is read of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from irisloop.labeling.v1 import labeling_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ANNOTATION_CONFIRMED, PREDICTION_MADE, PROBE_ANSWERED, PROBE_ENDED, VERSION_JUDGED

from services.common.bus import Event
from services.monitor import wire
from services.monitor.domain.channels import FEATURES
from services.monitor.domain.inputs import Input, Labelled, Seen, VersionKnown
from services.monitor.domain.probe_events import ProbeEnded, Reread
from services.monitor.domain.ticks import Arrival


def event(item: Input) -> Event[Any]:
    """The record that other services would write."""
    at = wire.moment(item.at)
    if isinstance(item, Seen):
        names = dict(zip(FEATURES, item.features, strict=True))
        features = serving_pb2.Features(
            projections=[v for k, v in names.items() if k.startswith("projections.")],
        )
        for key, number in names.items():
            if key.startswith("pixels."):
                setattr(features.pixels, key.removeprefix("pixels."), number)
            elif "." not in key:
                setattr(features, key, number)
        prediction = serving_pb2.Prediction(
            id=item.ce_id,
            asset_id=item.asset_id,
            camera_id=item.camera_id,
            model=item.model,
            version=item.version,
            role=item.role,
            captured_at=wire.stamp(item.at),
            scores=[serving_pb2.Score(class_name=item.class_name, score=item.score)],
            features=features,
        )
        trace = f"00-{item.ce_id.encode().hex():0>32}-00f067aa0ba902b7-01"
        value = serving_pb2.PredictionMade(prediction=prediction)
        return Event(PREDICTION_MADE, f"camera/{item.camera_id}", value, item.ce_id, at, trace)
    if isinstance(item, Labelled):
        annotation = labeling_pb2.Annotation(
            id=item.ce_id,
            asset_id=item.asset_id,
            camera_id=item.camera_id,
            captured_at=wire.stamp(item.captured_at),
            annotated_at=wire.stamp(item.at),
            revision=item.revision,
            labels=[labeling_pb2.Label(class_name=item.class_name)],
        )
        (said,) = item.predictions
        reference = labeling_pb2.PredictionReference(
            prediction_id="p", model=said.model, version=said.version, role=said.role, class_name=said.class_name
        )
        origin = labeling_pb2.TaskOrigin.Value(f"TASK_ORIGIN_{item.origin.upper()}")
        confirmed = labeling_pb2.AnnotationConfirmed(
            annotation=annotation, draw=labeling_pb2.Draw(origin=origin, propensity=0.05), predictions=[reference]
        )
        return Event(ANNOTATION_CONFIRMED, item.camera_id, confirmed, item.ce_id, at)
    if isinstance(item, Reread):
        return Event(PROBE_ANSWERED, item.model, _answered(item), item.ce_id, at)
    if isinstance(item, ProbeEnded):
        reason = labeling_pb2.ProbeEnd.Value(f"PROBE_END_{item.reason.upper()}")
        ended = labeling_pb2.ProbeEnded(
            probe_id=item.probe_id, model=item.model, reason=reason, drawn=item.drawn, answered=item.answered
        )
        return Event(PROBE_ENDED, item.model, ended, item.ce_id, at)
    assert isinstance(item, VersionKnown)
    judged = registry_pb2.VersionJudged(version=registry_pb2.ModelVersion(model=item.model, version=item.version))
    score = judged.version.report.scores.add(role="challenger", version=item.version)
    score.conditions.add(condition="all", assets=item.assets, accuracy=1 - item.error)
    return Event(VERSION_JUDGED, item.model, judged, item.ce_id, at)


def _answered(item: Reread) -> labeling_pb2.ProbeAnswered:
    return labeling_pb2.ProbeAnswered(
        probe_id=item.probe_id,
        model=item.model,
        asset_id=item.asset_id,
        class_before=item.class_before,
        class_now=item.class_now,
        annotated_before_by=item.annotator_before,
        annotated_now_by=item.annotator_now,
        annotated_now_at=wire.stamp(item.at),
        propensity=item.propensity,
        revision=item.revision,
    )


@dataclass
class Reading:
    """Numbers the records of each source as they are read."""

    offsets: dict[str, int] = field(default_factory=dict)

    def read(self, items: Iterable[tuple[str, bool, Input]]) -> list[Arrival]:
        """(source, whether it holds others back, input) as arrivals."""
        found = []
        for source, holds, item in items:
            offset = self.offsets.get(source, 0)
            self.offsets[source] = offset + 1
            found.append(Arrival(item.at, item.ce_id, f"{source}/0", offset, item, holds=holds))
        return found
