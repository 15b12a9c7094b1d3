"""Detectors: what a card may say of its outputs, and what becomes of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from irisloop.serving.v1 import serving_pb2

from services.serving.domain.answers import answers
from services.serving.domain.bindings import Binding
from services.serving.domain.detector import DetectorOutputs
from services.serving.domain.features import Answer
from services.serving.domain.notes import Note, described
from services.serving.domain.package import ImageInput, ModelCard, parse_card
from services.serving.errors import BadPackage
from services.serving.outbound.notation import Reading, Writing, grouped
from tests.unit.serving import detectors, tiny
from tests.unit.serving.house import House, asset, serving
from tests.unit.serving.test_repository import made
from tests.unit.serving.test_stream import bind, predicted
from tests.waiting import until

SPEC = DetectorOutputs("b", ("x0", "y0", "x1", "y1"), "s", "l", "pixels")
CARD = ModelCard(("cat", "dog"), ImageInput("i", "NCHW", "uint8", 3, 100, 200), "", False, "", 1.0, 8, detection=SPEC)


def told(boxes: Any, scores: Any, labels: Any, **spec: Any) -> Answer:
    """One image's answer."""
    outputs = {"b": np.array([boxes], dtype=np.float32), "s": np.array([scores]), "l": np.array([labels])}
    (found,) = answers(replace(CARD, detection=replace(SPEC, **spec)), outputs)
    return found


def places(answer: Answer) -> list[tuple[float, ...]]:
    """Of the detections, rounded."""
    assert answer.found is not None, answer.error
    return [tuple(round(v, 4) for v in (d.x, d.y, d.width, d.height)) for d in answer.found.detections]


@pytest.mark.parametrize(
    ("columns", "unit", "row"),
    [
        (("x0", "y0", "x1", "y1"), "pixels", [20, 10, 60, 50]),
        (("y0", "x0", "y1", "x1"), "share", [0.1, 0.1, 0.5, 0.3]),
        (("x", "y", "width", "height"), "pixels", [20, 10, 40, 40]),
        (("cx", "cy", "width", "height"), "share", [0.2, 0.3, 0.2, 0.4]),
        (("-", "x0", "y0", "x1", "y1"), "pixels", [7, 20, 10, 60, 50]),
    ],
)
def test_boxes_are_shares_of_the_image_whatever_their_columns_and_unit(
    columns: tuple[str, ...], unit: str, row: list[float]
) -> None:
    assert places(told([row], [0.9], [1], columns=columns, unit=unit)) == [(0.1, 0.1, 0.2, 0.4)]


def test_the_best_comes_first_padding_is_left_out_and_boxes_end_at_the_edge_of_the_image() -> None:
    answer = told([[0, 0, 20, 10], [-50, 0, 500, 10], [0, 0, 9, 9], [5, 5, 5, 9]], [0.3, 0.8, 0.9, 0.7], [0, 1, -1, 0])
    assert answer.found is not None
    assert [(d.class_name, round(d.score, 3)) for d in answer.found.detections] == [("dog", 0.8), ("cat", 0.3)]
    assert places(answer) == [(0.0, 0.0, 1.0, 0.1), (0.0, 0.0, 0.1, 0.1)]
    assert (answer.found.count, answer.max_probability) == (1, 0.8)
    assert answer.found.area == pytest.approx(0.1)
    assert answer.scores == (("dog", 0.8),)


def test_what_scores_too_little_is_not_told_and_nothing_found_is_an_answer_too() -> None:
    answer = told([[0, 0, 9, 9]], [0.04], [0])
    assert (answer.scores, answer.error, answer.max_probability) == ((), "", 0.0)
    assert answer.found is not None
    assert (answer.found.detections, answer.found.count, answer.found.area) == ((), 0, None)


def test_a_hundred_detections_are_told_and_all_are_counted() -> None:
    answer = told([[0, 0, 9, 9]] * 150, [0.9] * 150, [0] * 150)
    assert answer.found is not None
    assert (len(answer.found.detections), answer.found.count) == (100, 150)


@pytest.mark.parametrize(
    ("boxes", "scores", "labels", "error"),
    [
        ([[0, 0, 9, 9]], [0.9], [2], "class 2"),
        ([[0, 0, 9, 9]], [0.9], [0.5], "class 0.5"),
        ([[0, 0, np.nan, 9]], [0.9], [0], "not finite"),
        ([[0, 0, 9, 9]], [np.nan], [0], "not finite"),
    ],
)
def test_what_the_card_does_not_know_is_an_error_and_never_guessed(
    boxes: Any, scores: Any, labels: Any, error: str
) -> None:
    answer = told(boxes, scores, labels)
    assert error in answer.error
    assert answer.found is None


def test_an_output_of_another_shape_is_named() -> None:
    with pytest.raises(BadPackage, match="'b'"):
        answers(CARD, {"b": np.zeros((1, 3, 5)), "s": np.zeros((1, 3)), "l": np.zeros((1, 3))})
    with pytest.raises(BadPackage, match="'s'"):
        answers(CARD, {"b": np.zeros((1, 3, 4)), "s": np.zeros((1, 2)), "l": np.zeros((1, 3))})


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("outputs", {"outputs": {"boxes": "b", "detections": "d"}}),
        ("outputs.scores", {"outputs": {"boxes": "b", "labels": "l"}}),
        ("outputs.labels", {"classes": ["a", "b"], "outputs": {"boxes": "b", "scores": "s"}}),
        ("detection", {"detection": None}),
        ("detection.columns", {"detection": {"unit": "pixels"}}),
        ("detection.columns", {"detection": {"unit": "pixels", "columns": ["x0", "y0", "width", "height"]}}),
        ("detection.columns", {"detection": {"unit": "pixels", "columns": ["x0", "y0", "x1", "x1"]}}),
        ("detection.unit", {"detection": {"columns": ["x0", "y0", "x1", "y1"]}}),
        ("detection.decision_threshold", {"detection": {**detectors.card()["detection"], "decision_threshold": 0.01}}),
        ("detection.score_threshold", {"detection": {**detectors.card()["detection"], "score_threshold": 2}}),
        ("detection.first_label", {"detection": {**detectors.card()["detection"], "first_label": 5}}),
    ],
)
def test_a_wrong_field_of_a_detectors_card_is_named(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BadPackage) as refusal:
        parse_card(json.dumps({**detectors.card(), **changes}).encode())
    assert refusal.value.field == field


async def publish(house: House, files: dict[str, bytes]) -> None:
    """The champion is a package of these files."""
    package = await tiny.store(house.objects, house.home, files)
    await house.publish(tiny.aliases(1, champion=("1", package)))
    await until(lambda: 1 in house.revisions())


@pytest.mark.parametrize(
    "files",
    [
        detectors.package_files(),
        detectors.package_files(together=True),
        detectors.package_files(together=True, batch=1),
    ],
    ids=["three outputs", "one output", "one image at a time"],
)
async def test_an_assets_boxes_are_told_in_pixels_of_the_stored_image(tmp_path: Path, files: dict[str, bytes]) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        await publish(house, files)
        for number, place in enumerate(((10, 6, 30, 20), (0, 0, 80, 40), (70, 30, 10, 10))):
            stored = asset(number, await house.objects.put(detectors.picture(*place)))
            stored.value.asset.width, stored.value.asset.height = 80, 40
            await house.publish(stored)
        dark = asset(3, await house.objects.put(detectors.picture(0, 0, 0, 0, level=0)))
        dark.value.asset.width, dark.value.asset.height = 80, 40
        await house.publish(dark)
        told = {one.asset_id: one for one in await predicted(house, 4)}
    boxes = [(one.x, one.y, one.width, one.height) for n in range(3) for one in told[f"asset-{n}"].detections]
    assert boxes == [(10, 6, 30, 20), (0, 0, 80, 40), (70, 30, 10, 10)]
    first = told["asset-0"]
    assert [d.class_name for d in first.detections] == ["lamp"]
    assert first.detections[0].score == pytest.approx(200 / 255)
    assert (first.scores[0].class_name, first.decision_threshold, first.features.detection_count) == ("lamp", 0.5, 1)
    assert first.features.box_area == pytest.approx(30 * 20 / (80 * 40))
    found_nothing = told["asset-3"]
    assert (len(found_nothing.detections), len(found_nothing.scores), found_nothing.error) == (0, 0, "")
    assert found_nothing.HasField("decision_threshold")
    assert found_nothing.features.detection_count == 0
    assert not found_nothing.features.HasField("box_area")


async def test_a_classifiers_event_tells_of_no_detections(tmp_path: Path) -> None:
    await bind(tmp_path, Binding("clothes", "champion", ("*",)))
    async with serving(tmp_path) as house:
        await publish(house, tiny.package_files(0))
        await house.publish(asset(1, await house.objects.put(detectors.picture(0, 0, 9, 9))))
        (one,) = await predicted(house, 1)
    assert not one.HasField("decision_threshold")
    assert not one.features.HasField("detection_count")
    assert serving_pb2.Prediction.DESCRIPTOR.fields_by_name["detections"].number == 17


def test_a_clients_call_of_a_detector_is_told_in_pixels_of_the_tensor(tmp_path: Path) -> None:
    version = replace(made("m", "1", "x"), card=CARD)
    batched = replace(version, config=replace(version.config, max_batch_size=8))
    outputs = {
        "b": np.array([[[20, 10, 60, 50]], [[0, 0, 200, 100]]], np.float32),
        "s": np.array([[0.75], [0.5]], np.float32),
        "l": np.array([[1], [0]]),
        "other": np.zeros(2),
    }
    notes = [Note(batched, described(batched, outputs), "direct", 10**9, 2_000_000, "") for _ in range(2)]
    (group,) = grouped(notes)
    events = Reading(tmp_path).events(Writing(tmp_path, "serving-0").record(group))
    told = [event.value.prediction for event in events]
    assert [[(d.class_name, d.x, d.y, d.width, d.height) for d in one.detections] for one in told] == [
        [("dog", 20, 10, 40, 40)],
        [("cat", 0, 0, 200, 100)],
    ] * 2
    single = replace(version, config=replace(version.config, max_batch_size=0))
    assert described(single, outputs) == {}
    (event,) = Reading(tmp_path).events(
        Writing(tmp_path, "serving-0").record(grouped([Note(single, {}, "direct", 10**9, 1, "")])[0])
    )
    assert not event.value.prediction.HasField("decision_threshold")
