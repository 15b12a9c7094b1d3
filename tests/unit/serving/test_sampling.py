"""Which inputs are kept: the probability that is said is the true one, and whatever finds no room is counted."""

from __future__ import annotations

import io
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from irisloop.ingest.v1 import ingest_pb2
from PIL import Image
from pydantic import ValidationError

from services.common.bus import derive_id
from services.common.metrics import SERVING_INPUTS_MISSED, SERVING_INPUTS_SAMPLED
from services.common.settings import CommonSettings
from services.serving.domain.calls import InferCall
from services.serving.domain.features import answers, confidences
from services.serving.domain.notes import Note, described
from services.serving.domain.package import ImageInput, ModelCard
from services.serving.domain.routes import Version
from services.serving.domain.sampling import (
    Inputs,
    Policy,
    Rule,
    camera_of,
    choose,
    draws,
    policy_of,
    propensity_of,
)
from services.serving.domain.tensors import Region, TensorData
from services.serving.handlers.drifts import Drifts, DriftWord
from services.serving.handlers.pictures import kept_inputs
from services.serving.outbound import sampling as outbound
from services.serving.outbound.notation import grouped, prediction_id
from services.serving.outbound.sampled import Samples, png
from services.serving.outbound.sampling import Sampling
from services.serving.outbound.spool import SpoolReader
from services.serving.settings import ServingSettings
from tests.unit.serving.test_repository import made

IMAGE = ImageInput("x", "NCHW", "uint8", 3, 4, 5)
CARD = ModelCard(("a", "b"), IMAGE, "logits", True, "", 2.0, 8)
IDS = [str(uuid.UUID(int=number)) for number in range(20_000)]


def version(card: ModelCard | None = CARD, image: ImageInput | None = IMAGE) -> Version:
    return replace(made("m", "7", "x"), card=card, image=image)


def missed(reason: str) -> float:
    return float(SERVING_INPUTS_MISSED.labels(reason)._value.get())


# ---- the arithmetic ----


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7, 1.0, 1e-9])
def test_a_single_share_is_the_propensity_to_the_last_bit(share: float) -> None:
    assert propensity_of([share]) == share


def test_the_propensity_is_the_probability_that_any_rule_draws() -> None:
    shares = [0.25, 0.5, 0.125]
    exact = 0.0
    for drawn in product([True, False], repeat=3):
        if any(drawn):
            exact += math.prod(share if one else 1 - share for one, share in zip(drawn, shares, strict=True))
    assert propensity_of(shares) == exact == 1 - 0.75 * 0.5 * 0.875
    assert propensity_of([0.3, 1.0, 0.2]) == 1.0
    assert propensity_of([]) == 0.0


@pytest.mark.parametrize(
    ("unsure", "drifting", "applied"),
    [
        (False, False, [("share", 0.1)]),
        (True, False, [("share", 0.1), ("low_confidence", 0.2)]),
        (False, True, [("share", 0.1), ("drift", 0.3)]),
        (True, True, [("share", 0.1), ("low_confidence", 0.2), ("drift", 0.3)]),
    ],
)
def test_which_rules_apply(unsure: bool, drifting: bool, applied: list[tuple[str, float]]) -> None:
    assert Rule(0.1, 0.2, 0.6, 0.3).shares(unsure=unsure, drifting=drifting) == applied


def test_an_answer_below_the_threshold_or_without_a_number_is_not_sure() -> None:
    assert Rule(low_confidence=0.6).unsure(np.array([0.9, 0.6, 0.59, np.nan])) == [False, False, True, True]


def test_a_share_of_nothing_applies_never() -> None:
    assert Rule(0.0, 0.0, 1.0, 0.0).shares(unsure=True, drifting=True) == []
    assert not Rule(low_confidence=1.0).active
    assert choose(IDS[0], []) is None


def test_the_draw_follows_from_the_id_alone_and_is_the_same_for_ever() -> None:
    found = draws("5ad0b1c2-0000-5000-8000-000000000001")["share"]
    assert found == 0.9112642142562639
    assert choose(IDS[0], [("share", draws(IDS[0])["share"])]) is None
    assert choose(IDS[0], [("share", np.nextafter(draws(IDS[0])["share"], 1.0))]) is not None


def test_as_many_are_chosen_as_the_propensity_says_and_weights_give_back_the_whole() -> None:
    rule = Rule(0.3, 0.4, 0.5, 0.1)
    confidence = np.random.default_rng(3).random(len(IDS))
    chosen = [
        (one.propensity, sure)
        for name, sure in zip(IDS, confidence.tolist(), strict=True)
        if (one := choose(name, rule.shares(unsure=sure < 0.5, drifting=sure > 0.9)))
    ]
    expected = [
        propensity_of(s for _, s in rule.shares(unsure=sure < 0.5, drifting=sure > 0.9)) for sure in confidence.tolist()
    ]
    assert len(chosen) == pytest.approx(sum(expected), rel=0.03)
    assert sum(1 / propensity for propensity, _ in chosen) == pytest.approx(len(IDS), rel=0.03)
    unsure = sum(1 / propensity for propensity, sure in chosen if sure < 0.5)
    assert unsure == pytest.approx(float((confidence < 0.5).sum()), rel=0.03)


def test_rules_draw_independently_of_each_other() -> None:
    share, low, drift = np.array([list(draws(name).values()) for name in IDS]).T
    assert np.abs(np.corrcoef([share, low, drift]) - np.eye(3)).max() < 0.03
    assert float(np.mean((share < 0.3) & (low < 0.3))) == pytest.approx(0.09, abs=0.01)


# ---- settings ----


def test_a_model_may_differ_in_a_part_of_its_rule() -> None:
    policy = policy_of(Rule(0.1, 0.2, 0.6, 0.3), ["m:share=0,low_confidence=0.9", "other:share=1"])
    assert policy.rule("m") == Rule(0.0, 0.2, 0.9, 0.3)
    assert policy.rule("other").share == 1
    assert policy.rule("any") == Rule(0.1, 0.2, 0.6, 0.3)


def test_nothing_is_sampled_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert not ServingSettings(common=CommonSettings(home=tmp_path)).sampling.keeps("m")


@pytest.mark.parametrize("entry", ["m", ":share=1", "m:", "m:share", "m:shares=1", "m:share=2", "m:share=nan"])
def test_a_models_entry_that_says_nothing_stops_the_start(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ValidationError, match="sample_models"):
        ServingSettings(common=CommonSettings(home=tmp_path), sample_models=(entry,))


@pytest.mark.parametrize(
    ("model", "camera"), [("clothes", "calls/clothes"), ("a b/c", "calls/a_b_c"), ("x" * 200, 126)]
)
def test_a_models_calls_are_a_camera(model: str, camera: str | int) -> None:
    found = camera_of(model)
    assert camera in (found, len(found))


# ---- what a call brought ----


def test_what_can_be_kept_of_a_call() -> None:
    pixels = np.zeros((2, 3, 4, 5), np.uint8)
    call = InferCall("m", "", [TensorData("x", "UINT8", pixels.shape, raw=pixels.tobytes())])
    shared = InferCall("m", "", [TensorData("x", "UINT8", pixels.shape, region=Region("r", pixels.nbytes))])
    one = version()
    assert kept_inputs(one, call, [], {"x": pixels}).tensor is pixels
    assert kept_inputs(one, call, [b"jpeg"], {"x": pixels}).encoded == [b"jpeg"]
    assert kept_inputs(one, shared, [], {"x": pixels}).missing == "in_shared_memory"
    assert kept_inputs(one, call, [], {"x": pixels.astype(np.float32)}).missing == "not_an_image"
    assert kept_inputs(one, call, [], {"x": pixels, "y": pixels}).missing == "not_an_image"
    assert kept_inputs(version(image=None), call, [], {"x": pixels}).missing == "not_an_image"
    streams = replace(one, config=replace(one.config, decoupled=True))
    assert kept_inputs(streams, call, [], {"x": pixels}).missing == "decoupled"


def test_the_confidence_is_that_of_the_event() -> None:
    scores = np.array([[1.0, 3.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0]], np.float32)
    found = confidences(CARD, scores)
    assert found[:2].tolist() == [one.max_probability for one in answers(CARD, {"logits": scores})[:2]]
    assert np.isnan(found[2:]).all()


# ---- to the disk ----


def note(inputs: Inputs, logits: Any = ((2.0, 0.0),), of: Version | None = None, error: str = "") -> Note:
    of = of or version()
    outputs = {} if error else described(of, {"logits": np.array(logits, np.float32)})
    return Note(of, outputs, "direct", 1_780_000_000_000_000_000, 1, "", "", "", error, inputs)


def sampling(folder: Path, rule: Rule, drifting: bool = False, memory: int = 1 << 20) -> Sampling:
    one = Sampling(Policy(rule), lambda _: drifting, folder, 64 << 20, memory)
    one.open()
    return one


def frames(folder: Path) -> list[ingest_pb2.FrameCaptured]:
    records, _ = SpoolReader(folder / "samples").read(1000)
    return [event.value for record in records for event in Samples().events(record)]


def pixels_of(frame: ingest_pb2.FrameCaptured) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(frame.image)))


def test_each_row_draws_for_itself_and_says_which_prediction_it_was(tmp_path: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (200, 3, 4, 5), np.uint8)
    of = version()
    notes = [note(Inputs(tensor=pixels[at : at + 2]), [[2.0, 0.0], [0.0, 0.0]], of) for at in range(0, 200, 2)]
    (group,) = grouped(notes)
    sampling(tmp_path, Rule(0.2, 0.5, 0.6)).take([group])
    found = frames(tmp_path)
    ids = [prediction_id(group.identity, place) for place in range(200)]
    assert 30 < len(found) < 120
    assert {frame.sampled.prediction_id for frame in found} == {
        name
        for place, name in enumerate(ids)
        if draws(name)["share"] < 0.2 or (place % 2 and draws(name)["low_confidence"] < 0.5)
    }
    for frame in found:
        place = ids.index(frame.sampled.prediction_id)
        assert frame.sampled.propensity == (propensity_of([0.2, 0.5]) if place % 2 else 0.2)
        assert (pixels_of(frame) == pixels[place].transpose(1, 2, 0)).all()
        assert (frame.camera_id, frame.content_type) == ("calls/m", "image/png")
        assert (frame.sampled.model, frame.sampled.version) == ("m", "7")


def test_an_encoded_image_goes_as_it_came_and_read_again_bears_the_same_id(tmp_path: Path) -> None:
    jpeg = b"\xff\xd8\xff and so on"
    sampling(tmp_path, Rule(1.0)).take(grouped([note(Inputs([jpeg]))]))
    records, _ = SpoolReader(tmp_path / "samples").read(10)
    (first,), (second,) = Samples().events(records[0]), Samples().events(records[0])
    assert (first.value.image, first.value.content_type) == (jpeg, "image/jpeg")
    assert first.ce_id == second.ce_id == derive_id("sample", first.value.sampled.prediction_id, "0")


def test_drift_chooses_only_while_it_is_reported(tmp_path: Path) -> None:
    rule = Rule(drift_share=1.0)
    sampling(tmp_path, rule, drifting=False).take(grouped([note(Inputs([b"\x89PNG"]))]))
    assert frames(tmp_path) == []
    sampling(tmp_path, rule, drifting=True).take(grouped([note(Inputs([b"\x89PNG"]))]))
    assert [list(frame.sampled.reasons) for frame in frames(tmp_path)] == [["drift"]]


def test_a_model_without_a_card_gives_all_images_of_a_call_under_one_prediction(tmp_path: Path) -> None:
    pixels = np.zeros((3, 3, 4, 5), np.uint8)
    bare = version(card=None)
    sampling(tmp_path, Rule(1.0, 1.0)).take(grouped([note(Inputs(tensor=pixels), of=bare)]))
    found = frames(tmp_path)
    assert len(found) == 3
    assert len({frame.sampled.prediction_id for frame in found}) == 1
    assert {tuple(frame.sampled.reasons) for frame in found} == {("share",)}


def test_a_failed_call_is_not_kept(tmp_path: Path) -> None:
    nothing: Any = None
    sampling(tmp_path, Rule(1.0, 1.0)).take(grouped([note(nothing, error="no")]))
    assert frames(tmp_path) == []


def test_what_is_no_image_or_too_large_is_counted_only_when_it_was_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbound, "LARGEST", 10)
    before = missed("not_an_image"), missed("too_large")
    cases: Sequence[Inputs] = [Inputs(missing="not_an_image"), Inputs([b"\xff\xd8\xff" * 10])]
    sampling(tmp_path, Rule(0.0, 1.0, 0.5)).take(grouped([note(one) for one in cases]))
    assert (missed("not_an_image"), missed("too_large")) == before
    sampling(tmp_path, Rule(1.0)).take(grouped([note(one) for one in cases]))
    assert (missed("not_an_image"), missed("too_large")) == (before[0] + 1, before[1] + 1)
    assert frames(tmp_path) == []


def test_inputs_that_find_no_room_in_memory_are_left_and_the_note_stays(tmp_path: Path) -> None:
    one = sampling(tmp_path, Rule(1.0), memory=10)
    notes = [one.admit(note(Inputs([b"\x89PNG....."[:6]]))) for _ in range(3)]
    assert [note.inputs.missing for note in notes if note.inputs] == [None, "no_memory", "no_memory"]
    before = missed("no_memory")
    one.take(grouped(notes))
    one.release(notes)
    assert missed("no_memory") == before + 2
    assert len(frames(tmp_path)) == 1
    again = one.admit(note(Inputs([b"\x89PNG"])))
    assert again.inputs is not None
    assert again.inputs.missing is None


def test_a_disk_that_takes_nothing_is_counted_and_stops_nobody(tmp_path: Path) -> None:
    one = sampling(tmp_path, Rule(1.0))
    (tmp_path / "samples").rename(tmp_path / "gone")
    before = missed("no_disk")
    one.take(grouped([note(Inputs([b"\x89PNG"])) for _ in range(4)]))
    assert missed("no_disk") == before + 4


def test_what_was_published_and_refused_is_counted_once(tmp_path: Path) -> None:
    one = sampling(tmp_path, Rule(1.0))
    one.take(grouped([note(Inputs([b"\x89PNG"])) for _ in range(5)]))
    reader = SpoolReader(tmp_path / "samples")
    _, place = reader.read(5)
    before = SERVING_INPUTS_SAMPLED._value.get(), missed("refused")
    reader.acknowledge(place, 4, 1)
    one.look()
    one.look()
    assert (SERVING_INPUTS_SAMPLED._value.get(), missed("refused")) == (before[0] + 4, before[1] + 1)


@pytest.mark.parametrize(("layout", "shape"), [("NCHW", (3, 4, 5)), ("NHWC", (4, 5, 3)), ("NCHW", (1, 4, 5))])
def test_pixels_come_back_as_they_were(layout: str, shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    found = np.asarray(Image.open(io.BytesIO(png(pixels, layout))))
    wanted = pixels.transpose(1, 2, 0) if layout == "NCHW" else pixels
    assert (found.reshape(wanted.shape) == wanted).all()


# ---- drift ----


def test_a_model_drifts_from_the_first_word_of_an_incident_to_its_last() -> None:
    drifts = Drifts()
    assert not drifts.drifting("m")
    drifts.note([DriftWord("1", "m", 1, over=False), DriftWord("2", "m", 1, over=False)])
    assert drifts.drifting("m")
    assert not drifts.drifting("other")
    drifts.note([DriftWord("1", "m", 2, over=True)])
    assert drifts.drifting("m")
    drifts.note([DriftWord("2", "m", 3, over=True), DriftWord("2", "m", 2, over=False)])
    assert not drifts.drifting("m")


async def test_choosing_costs_a_call_a_few_microseconds(tmp_path: Path) -> None:
    """The bound is loose: it is to notice work that does not belong there, such as encoding."""
    pixels = np.zeros((1, 3, 4, 5), np.uint8)
    of = version()
    notes = [note(Inputs(tensor=pixels), of=of) for _ in range(2_000)]
    one = sampling(tmp_path, Rule(0.01, 0.1))
    began = time.thread_time()  # of the processor, not of the clock: others may have it meanwhile
    one.take(grouped(notes))
    assert (time.thread_time() - began) / len(notes) < 500e-6
