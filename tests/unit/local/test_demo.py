"""The demo's own parts: what it shows the cameras, what it counts, and what it calls a broken promise."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from irisloop.ingest.v1 import ingest_pb2
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from PIL import Image

from services.local.demo.client import Calls
from services.local.demo.frames import Frame, FrameSource, Truth
from services.local.demo.journal import CHAMPION, SHADOW, Journal
from services.local.demo.plot import draw as draw_plot
from services.local.demo.producer import Sent
from services.local.demo.report import Facts, broken_promises, document
from services.local.demo.scenario import CAMERAS, HEALTHY_FRAMES, MENDABLE, Family, Scenario, draw, fog_contrast
from services.local.demo.statistics import Share

CLASSES = ["bag", "coat"]
ONSET = 1_600
LAST = 6_000
START = datetime(2026, 1, 1, tzinfo=UTC)


def source(scenario: Scenario) -> FrameSource:
    images = np.random.default_rng(1).integers(0, 256, (50, 28, 28), dtype=np.uint8)
    return FrameSource(images, np.arange(50) % 2, scenario, 1)


@pytest.mark.parametrize("family", list(Family))
def test_a_seed_draws_the_same_scenario_again(family: Family) -> None:
    assert draw(family, 5, 10) == draw(family, 5, 10)
    assert len(draw(family, 5, 10).cameras) == (0 if family is Family.NONE else 4)


def test_random_draws_only_what_retraining_can_mend() -> None:
    drawn = [draw(Family.RANDOM, seed, 10) for seed in range(40)]
    assert {scenario.family for scenario in drawn} == set(MENDABLE)
    assert all(HEALTHY_FRAMES - 400 <= scenario.onset < HEALTHY_FRAMES + 800 for scenario in drawn)


def test_fog_comes_over_its_ramp_and_halves_the_contrast() -> None:
    fog = draw(Family.FOG, 1, 10)
    camera = sorted(fog.cameras)[0]
    still = sorted(set(CAMERAS) - fog.cameras)[0]
    image = np.tile(np.array([[40, 200]], np.uint8), (28, 14))
    rng = np.random.default_rng(0)
    assert (fog.picture(image, camera, fog.onset - 1, rng) == image).all()
    assert (fog.picture(image, still, fog.onset + 5_000, rng) == image).all()
    full = fog.picture(image, camera, fog.onset + fog.ramp, rng)
    assert full.std() < 0.5 * image.std()
    assert abs(float(full.mean()) - float(image.mean())) < 1.0
    assert 0.4 < fog.progress(fog.onset + fog.ramp // 2) < 0.6


def test_relabel_leaves_the_pixels_and_swaps_two_names() -> None:
    relabel = draw(Family.RELABEL, 3, 10)
    assert relabel.swapped is not None
    first, second = relabel.swapped
    camera, after = sorted(relabel.cameras)[0], relabel.onset
    image = np.zeros((28, 28), np.uint8)
    assert (relabel.picture(image, camera, after, np.random.default_rng(0)) == image).all()
    assert relabel.truth(first, camera, after) == second
    assert relabel.truth(first, camera, after - 1) == first


def test_annotators_call_an_old_frame_by_the_names_of_today_and_its_answer_is_judged_by_those_of_its_time() -> None:
    relabel = draw(Family.RELABEL, 3, 10)
    assert relabel.swapped is not None
    first, second = relabel.swapped
    camera, unchanged = sorted(relabel.cameras)[0], (set(CAMERAS) - relabel.cameras).pop()
    truth = Truth(relabel)
    for number, place in ((7, camera), (8, unchanged)):
        truth.note_sent(Frame(number, place, b"", first, False, first), START)
        truth.note_asset(f"asset-{number}", number)
    assert (truth.label_of("asset-7"), truth.label_of("asset-8")) == (first, first)
    truth.note_sent(Frame(relabel.onset, camera, b"", second, True, first), START)
    assert (truth.label_of("asset-7"), truth.label_of("asset-8")) == (second, first)
    assert truth.label[7] == first
    assert truth.label_of("somebody else's") is None


def test_frames_are_pngs_and_no_image_comes_twice_before_all_have_come() -> None:
    frames = source(draw(Family.NONE, 1, 2))
    first = [frames.next() for _ in range(100)]
    assert len({frame.png for frame in first}) == 100
    assert [frame.number for frame in first] == list(range(100))
    assert Image.open(io.BytesIO(first[0].png)).size == (28, 28)


def test_an_image_that_comes_again_is_other_bytes_and_the_same_picture() -> None:
    frames = source(draw(Family.NONE, 1, 2))
    seen = [frames.next() for _ in range(300)]
    assert len({frame.png for frame in seen}) == 300
    first, again = (np.asarray(Image.open(io.BytesIO(seen[place].png))).astype(int) for place in (0, 100))
    assert np.abs(first - again).sum() == 1


def test_fog_on_digits_is_thicker_since_digits_bear_more() -> None:
    assert draw(Family.FOG, 1, 10, fog_contrast("mnist-digits")).contrast < draw(Family.FOG, 1, 10).contrast


def test_a_wilson_interval_holds_the_share() -> None:
    share = Share(90, 100)
    assert share.low < share.value < share.high
    assert (round(share.low, 3), round(share.high, 3)) == (0.826, 0.945)
    assert Share(0, 0).value == 0.0


def test_calls_are_counted_on_both_sides_of_a_swap() -> None:
    calls = Calls()
    for version in ("1", "1", "1", "2", "2"):
        calls.note_answer(version)
    calls.note_failure("away", excused=True)
    assert (calls.calls, calls.failures, calls.excused) == (6, 1, 1)
    assert [(swap.calls_before, swap.calls_after) for swap in calls.swaps] == [(3, 2)]


def played(family: Family = Family.FOG, recovered: float = 0.88) -> Facts:
    """A run as the journal would have seen it: right answers by share, the new champion from the evaluation on."""
    cameras = frozenset(sorted(CAMERAS)[:4])
    scenario = Scenario(family, ONSET, 0, cameras if family in MENDABLE else frozenset())
    truth = Truth()
    journal = Journal(truth, CLASSES)
    first = 3_900
    for number in range(LAST):
        camera = sorted(CAMERAS)[number % 5]
        truth.label[number], truth.camera[number] = number % 2, camera
        truth.captured_at[number] = START + timedelta(seconds=number)
        if number >= ONSET and camera in scenario.cameras:
            truth.changed.add(number)
        asset = ingest_pb2.Asset(id=f"asset-{number}", camera_id=camera, meta={"frame": str(number)})
        journal.note(ingest_pb2.AssetStored(asset=asset), f"stored-{number}")
        mended = number >= first and family in MENDABLE
        share = recovered if mended else (0.9 if number < ONSET or family not in MENDABLE else 0.65)
        predict(journal, number, CHAMPION, share, "2" if mended else "1")
        if mended:
            predict(journal, number, SHADOW, 0.65, "1")
    journal.moves.append(registry_pb2.AliasMove(id="1", alias=CHAMPION, to_version="1"))
    if family in MENDABLE:
        mend(journal)
    facts = Facts(scenario, 1, {"name": "made"}, {}, journal, Sent(frames=LAST), Calls(), accepted=LAST)
    facts.onset_at = START + timedelta(seconds=ONSET)
    facts.evaluation, facts.runs_after_onset = (first, LAST), int(family in MENDABLE)
    return facts


def predict(journal: Journal, number: int, role: str, share: float, version: str) -> None:
    right = (number * 37) % 100 < share * 100
    name = CLASSES[number % 2] if right else CLASSES[1 - number % 2]
    made = serving_pb2.Prediction(id=f"{role}-{number}", asset_id=f"asset-{number}", role=role, version=version)
    made.scores.add(class_name=name, score=0.8)
    journal.note(serving_pb2.PredictionMade(prediction=made), f"{role}-{number}")


def mend(journal: Journal) -> None:
    incident = monitor_pb2.Incident(
        id="i", state=monitor_pb2.MONITOR_STATE_CONFIRMED, cause=monitor_pb2.DRIFT_CAUSE_SCENE,
        harm=monitor_pb2.DRIFT_HARM_CROSSED, shape=monitor_pb2.DRIFT_SHAPE_SUDDEN,
    )  # fmt: skip
    incident.detected_at.FromDatetime(START + timedelta(seconds=ONSET + 100))
    journal.note(monitor_pb2.DriftDetected(incident=incident), "d")
    journal.note(monitor_pb2.RetrainRequested(request_id="r"), "r")


def test_a_run_that_mends_itself_keeps_every_promise(tmp_path: Path) -> None:
    facts = played()
    assert broken_promises(facts) == []
    report = document(facts)
    assert report["drift"]["detected_frame"] == ONSET + 101
    assert (report["drift"]["cause"], report["drift"]["harm"]) == ("scene", "crossed")
    assert report["predictions"] == {"expected": 8_100, "unique": 8_100, "repeated": 0}
    assert draw_plot(facts, tmp_path / "plot.png").stat().st_size > 10_000


def test_what_is_lost_doubled_or_not_recovered_is_named() -> None:
    facts = played(recovered=0.7)
    journal = facts.journal
    journal.predictions[CHAMPION, "champion-7"] += 1
    facts.accepted -= 1
    facts.calls.note_failure("away", excused=False)
    words = " | ".join(broken_promises(facts))
    for expected in ("accepted + rejected", "1 predictions came twice", "1 client calls failed", "recovered accuracy"):
        assert expected in words


def test_a_harmless_run_must_leave_everything_alone() -> None:
    facts = played(Family.HARMLESS)
    assert broken_promises(facts) == []
    facts.journal.note(monitor_pb2.AlertRaised(id="a", severity="page"), "a")
    facts.journal.note(monitor_pb2.RetrainRequested(request_id="r"), "r")
    words = " | ".join(broken_promises(facts))
    assert "1 retrain requests, expected none" in words
    assert "1 pages, expected none" in words
