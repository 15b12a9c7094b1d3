"""What rows of analytics say where a message says it otherwise."""

from __future__ import annotations

from datetime import UTC, datetime

from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb

from services.monitor.domain.tables import ANNOTATIONS, COMMANDS
from services.monitor.inbound import rows

AT = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_command_to_go_on_without_records_says_which_in_words() -> None:
    value = pb.CommandGiven(id="c", by="ada", why="retention was too short")
    value.accept_gaps.handler = "monitor.judge"
    value.accept_gaps.gaps.add(topic="irisloop.serving.prediction.made.v1", partition=3, wanted=10, oldest=25)
    lost = "monitor.judge goes on without offsets of irisloop.serving.prediction.made.v1/3 from 10 to 25"

    def why() -> str:
        return str(dict(zip(COMMANDS.names, rows.command(value, AT), strict=True))["why"])

    assert why() == f"retention was too short; {lost}"
    value.why = ""
    assert why() == lost
    value.mute.incident_id = "i"
    assert why() == ""


def test_the_annotation_of_a_detectors_frame_has_no_class_of_its_own() -> None:
    value = labeling_pb2.AnnotationConfirmed()
    value.annotation.labels.add(class_name="car")
    said = value.predictions.add(prediction_id="p", model="m")

    def name() -> str:
        return str(dict(zip(ANNOTATIONS.names, rows.annotation(value, AT), strict=True))["class_name"])

    assert name() == "car"
    said.decision_threshold = 0.5
    assert name() == ""
    said.ClearField("decision_threshold")
    value.annotation.labels.add(class_name="bus")
    assert name() == "", "labels that differ"
