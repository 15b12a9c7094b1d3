"""A detector's predictions: drawn also where nothing was found, and suggested with their boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from irisloop.serving.v1 import serving_pb2

from services.common.bus import Event
from services.labeling import codec
from services.labeling.domain.drawing import DrawPolicy
from services.labeling.domain.model import Asset, Detection, Draw, Label, Origin
from services.labeling.errors import UnknownClass
from services.labeling.handlers.tasks import Answer
from services.labeling.inbound.kafka import prediction
from tests.unit.labeling.world import CLASSES, asset, predicted, stored, world

ALL = DrawPolicy(uniform_share=1.0, tasks_per_second=1e6)
BOX = {"x": 4.5, "y": 8.0, "width": 16.0, "height": 32.0}


def detected(one: Asset, *scores: float) -> Event[serving_pb2.PredictionMade]:
    """Serving's event of a detector that found a coat for each score."""
    event = predicted(one)
    made = event.value.prediction
    del made.scores[:]
    made.features.ClearField("margin")
    made.decision_threshold = 0.5
    made.scores.extend(serving_pb2.Score(class_name="coat", score=score) for score in scores[:1] if score >= 0.5)
    made.detections.extend(serving_pb2.Detection(class_name="coat", score=score, **BOX) for score in scores)
    return event


def test_a_detector_is_unsure_where_a_score_comes_near_its_threshold() -> None:
    sure, near, nothing = (prediction(detected(asset("a"), *s).value.prediction) for s in ((0.9,), (0.9, 0.45), ()))
    assert sure is not None
    assert near is not None
    assert nothing is not None
    assert [sure.margin, near.margin, nothing.margin] == pytest.approx([0.4, 0.05, 1.0])
    (found,) = sure.reference.detections
    assert found == Detection("coat", found.score, 4.5, 8.0, 16.0, 32.0)
    assert found.score == pytest.approx(0.9)
    assert (nothing.reference.class_name, nothing.reference.decision_threshold) == ("", 0.5)


async def test_a_task_suggests_the_boxes_and_the_label_names_them(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one = asset("a")
        event = detected(one, 0.9, 0.25)
        await labeling.send(stored(one), event)
        (task,) = await labeling.tasks.lease(1, 10, "", "ann")
        assert not codec.task_message(task, 0.0).HasField("suggestion")  # Drawn at random: it must not be led.
        unsure = replace(task, draw=Draw(Origin.UNCERTAINTY, 0.0))
        suggested = codec.task_message(unsure, 0.0).suggestion
        assert list(suggested.detections) == list(event.value.prediction.detections)
        assert suggested.decision_threshold == 0.5
        await labeling.tasks.answer([Answer(task.id, (Label("coat", (4.0, 8.0, 16.0, 32.0)),))], "ann")
        (said,) = await labeling.confirmed()
        assert list(said.value.predictions[0].detections) == list(event.value.prediction.detections)
        assert said.value.predictions[0].decision_threshold == 0.5
        assert said.value.annotation.labels[0].box.x == 4.0


async def test_a_frame_on_which_nothing_was_found_is_asked_about_and_can_be_answered_with_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, ALL) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one, other = asset("a"), asset("b")
        await labeling.send(stored(one), detected(one), stored(other), predicted(other))
        tasks = {task.asset_id: task for task in await labeling.tasks.lease(2, 10, "", "ann")}
        await labeling.tasks.answer([Answer(tasks[one.id].id, (Label("background"),))], "ann")
        (said,) = await labeling.confirmed()
        assert said.value.predictions[0].HasField("decision_threshold")
        assert [label.class_name for label in said.value.annotation.labels] == ["background"]
        with pytest.raises(UnknownClass):
            await labeling.tasks.answer([Answer(tasks[other.id].id, (Label("background"),))], "ann")
        with pytest.raises(UnknownClass):
            await labeling.tasks.answer([Answer(tasks[one.id].id, (Label("background", (0, 0, 1, 1)),))], "ann")


async def test_a_classifiers_prediction_names_no_boxes(tmp_path: Path) -> None:
    async with world(tmp_path, ALL) as labeling:
        await labeling.datasets.put("garments", CLASSES, ("*",))
        one = asset("a")
        await labeling.send(stored(one), predicted(one))
        (task,) = await labeling.tasks.lease(1, 10, "", "ann")
        await labeling.tasks.answer([Answer(task.id, (Label("coat"),))], "ann")
        (said,) = await labeling.confirmed()
        assert not said.value.predictions[0].HasField("decision_threshold")
