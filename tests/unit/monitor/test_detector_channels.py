"""A detector's channels: how much it finds and how large; a classifier's references know nothing of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.labeling.v1 import labeling_pb2 as labeling
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ANNOTATION_CONFIRMED, PREDICTION_MADE

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.monitor import wire, wire_quality
from services.monitor.domain.camera import Beginning, CameraWatch
from services.monitor.domain.channels import DETECTION, FEATURES, WIDTH, group
from services.monitor.domain.events import State
from services.monitor.domain.inputs import Labelled, PredictionOf, Seen
from services.monitor.domain.labels import LabelBook
from services.monitor.domain.pooling import Pool
from services.monitor.domain.quality.boxes import Boxes
from services.monitor.domain.snapshot import dump, load
from tests.unit.monitor.worlds import EPOCH, policy


async def heard(*events: Event) -> list:  # type: ignore[type-arg]
    """What the judge takes of records."""
    broker = MemoryBroker()
    bus = MemoryBus(broker, service="test")
    await bus.publish(list(events))
    return [wire.input_of(delivery) for delivery in bus.events(events[0].topic)]


def prediction(**fields: object) -> Event:  # type: ignore[type-arg]
    made = serving_pb2.Prediction(
        id="p", asset_id="a", camera_id="gate", model="m", version="1", role="champion",
        captured_at=Timestamp(seconds=int(EPOCH)), **fields,  # type: ignore[arg-type]
    )  # fmt: skip
    return Event(PREDICTION_MADE, "gate", serving_pb2.PredictionMade(prediction=made), "p", wire.moment(EPOCH))


async def test_a_detectors_vector_is_two_longer_and_one_that_finds_nothing_is_seen_too() -> None:
    features = serving_pb2.Features(max_probability=0.9, detection_count=3, box_area=0.25)
    scores = [serving_pb2.Score(class_name="car", score=0.9)]
    (seen,) = await heard(prediction(scores=scores, features=features, decision_threshold=0.5))
    assert isinstance(seen, Seen)
    assert (len(seen.features), seen.features[WIDTH:], seen.class_name) == (WIDTH + 2, (3.0, 0.25), "car")
    (nothing,) = await heard(prediction(features=serving_pb2.Features(detection_count=0), decision_threshold=0.5))
    assert (nothing.class_name, nothing.failed, nothing.features[WIDTH]) == ("background", False, 0.0)
    assert math.isnan(nothing.features[WIDTH + 1])
    (classifier,) = await heard(prediction(scores=scores, features=serving_pb2.Features(max_probability=0.9)))
    assert len(classifier.features) == WIDTH


def watch(width: int, shift: float) -> CameraWatch:
    """A camera whose detections become more after 1,500 frames, through a kill after 1,700."""
    rng, rules = np.random.default_rng(3), policy()
    camera = CameraWatch("gate")
    for n in range(3000):
        row = rng.normal(size=width)
        if width > WIDTH:
            row[WIDTH] = rng.poisson(4 if n < 1500 else 4 + shift)
            row[WIDTH + 1] = np.nan if row[WIDTH] == 0 else 0.1 + 0.01 * row[WIDTH + 1]
        camera.take(EPOCH + n, tuple(row.tolist()), n % 2, ("car", "bus"), rules, Beginning())
        if n == 1700:
            camera = load(dump(camera))
    return camera


def test_more_detections_than_ever_are_an_alarm_of_their_channel() -> None:
    camera = watch(WIDTH + 2, 3.0)
    assert camera.state >= State.ALARM
    assert camera.evidence(1)[0].channel == "detection_count"
    assert camera.reference is not None
    assert camera.reference.names[WIDTH : WIDTH + 2] == DETECTION
    known = camera.known()
    assert known is not None
    pool = Pool.of([known])
    assert pool is not None
    assert pool.scale.shape == (WIDTH + 2,)
    assert {group(name) for name in DETECTION} == {"classes"}
    calm = watch(WIDTH + 2, 0.0)
    assert calm.state <= State.WARN


def test_a_classifiers_reference_has_no_channel_of_them() -> None:
    camera = watch(WIDTH, 0.0)
    assert camera.reference is not None
    assert camera.reference.names == (*FEATURES, "class.car", "class.bus")
    assert camera.rows.shape[1] == WIDTH


async def test_a_label_tells_the_judge_how_wrong_a_detectors_frame_was() -> None:
    box = {"x": 0.0, "y": 0.0, "width": 10.0, "height": 10.0}
    found = [serving_pb2.Detection(class_name="car", score=score, **box) for score in (0.9, 0.8)]
    said = labeling.PredictionReference(
        model="m", version="1", role="champion", class_name="car", detections=found, decision_threshold=0.5
    )

    def label(name: str, *labels: labeling.Label) -> Event:  # type: ignore[type-arg]
        annotation = labeling.Annotation(
            asset_id="a", camera_id="gate", labels=labels, annotated_at=Timestamp(seconds=int(EPOCH)), revision=1
        )
        value = labeling.AnnotationConfirmed(annotation=annotation, predictions=[said])
        return Event(ANNOTATION_CONFIRMED, "gate", value, name, wire.moment(EPOCH))

    drawn, empty, vague = await heard(
        label("drawn", labeling.Label(class_name="car", box=labeling.Box(**box))),
        label("empty", labeling.Label(class_name="background")),
        label("vague", labeling.Label(class_name="car")),
    )
    assert drawn.predictions[0].loss == 1 / 3
    assert empty.predictions[0].loss == 1.0
    assert math.isnan(vague.predictions[0].loss)
    book = LabelBook()
    joined = book.join(drawn, "m")
    assert joined is not None
    assert (joined.cost, joined.wrong, joined.confused, joined.outcome) == (1 / 3, True, False, 1 / 3)
    assert not book.join(replace(vague, revision=2), "m").truth  # type: ignore[union-attr]
    assert book.choose(lambda _: True) == []


def test_of_a_classifier_the_classes_tell() -> None:
    said = PredictionOf("m", "1", "champion", "bus", 0.9)
    book = LabelBook()
    joined = book.join(Labelled(EPOCH, "l", "", "a", "gate", EPOCH, 1, "car", "uniform", 0.1, (said,)), "m")
    assert joined is not None
    assert (joined.cost, joined.confused, joined.outcome) == (1.0, True, ("bus", "car"))


def test_what_a_label_draws_is_its_boxes_and_the_boxes_around_its_polygons() -> None:
    box = labeling.Label(class_name="car", box=labeling.Box(x=1, y=2, width=3, height=4))
    ring = labeling.Label(class_name="bus", polygon=labeling.Polygon(points=[5, 9, 8, 1, 2, 4]))
    background, vague = labeling.Label(class_name="background"), labeling.Label(class_name="car")
    drawn = wire_quality.boxes_of(labeling.Annotation(labels=[box, ring, vague]))
    assert drawn is not None
    assert drawn.rows() == [("car", 1.0, 1.0, 2.0, 3.0, 4.0), ("bus", 1.0, 2.0, 1.0, 6.0, 8.0)]
    assert wire_quality.boxes_of(labeling.Annotation(labels=[background])) == Boxes()
    for unknown in ([vague], [vague, background], [], [box] * 1001):
        assert wire_quality.boxes_of(labeling.Annotation(labels=unknown)) is None
    assert wire_quality.boxes_of(labeling.Annotation(labels=[box], withdrawn=True)) is None
