"""What is broken in a camera, from pictures that are broken in a known way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ingest.domain.pixels import differences, measure
from services.monitor.domain.camera import Beginning, CameraWatch
from services.monitor.domain.case import Case, read_cause
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, CameraFault, Cause, DriftFound, Finding, Harm, Refusal, Request, State
from services.monitor.domain.fault import Fault, beyond_training, diagnose, report, said_of
from services.monitor.domain.inputs import Input, Labelled, PredictionOf, Seen, VersionKnown
from services.monitor.wire import incident_message
from tests.unit.monitor.worlds import EPOCH, policy

BEFORE = 600
AFTER = 200
Frames = NDArray[np.float64]


def scenes(rng: np.random.Generator) -> Frames:
    """Smooth grey pictures [n, 24, 24], 0..1, each of its own light, contrast and layout."""
    count = BEFORE + AFTER
    coarse = 0.5 + rng.uniform(-0.5, 0.5, (count, 6, 6)) * rng.uniform(0.2, 1.0, (count, 1, 1))
    found: Frames = np.kron(coarse, np.ones((4, 4))) * rng.uniform(0.6, 0.9, (count, 1, 1)) + 0.05
    return found


def blurred(frames: Frames) -> Frames:
    found: Frames = np.mean([np.roll(frames, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0)
    return found


def with_dead_pixels(frames: Frames) -> Frames:
    found = frames.copy()
    dead = np.random.default_rng(3).random(frames.shape[1:])
    found[:, dead < 0.04], found[:, dead > 0.96] = 0.0, 1.0
    return found


def noisy(frames: Frames) -> Frames:
    return frames + np.random.default_rng(4).normal(0.0, 0.15, frames.shape)


def pixels_of(frames: Frames) -> list[list[float]]:
    """The nine pixel channels of each frame, as ingest measures them."""
    statistics, thumbnails = measure(np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)[..., None])
    moved = differences(None, [one.tobytes() for one in thumbnails])
    return [[*s[:8], np.nan if d is None else d] for s, d in zip(statistics, moved, strict=True)]


def watched(frames: Frames, embedding: float = 0.0) -> CameraWatch:
    """A camera that saw `frames`; from `BEFORE` on, the embedding has moved so many standard deviations."""
    rng = np.random.default_rng(9)
    camera, rules = CameraWatch("gate-1"), policy()
    for n, pixels in enumerate(pixels_of(frames)):
        row = rng.normal(size=WIDTH)
        row[:9] = pixels
        row[13:] += embedding * (n >= BEFORE)
        if camera.take(float(n), tuple(row), 0, ("a",), rules, Beginning()):
            camera.remember(float(n), f"asset-{n}")
            if camera.state >= State.ALARM and not camera.trigger[0]:
                camera.trigger = (f"asset-{n}", "")
    return camera


def changed(change: str, seed: int) -> CameraWatch:
    frames = scenes(np.random.default_rng(seed))
    good, bad = frames[:BEFORE], frames[BEFORE:]
    match change:
        case "dark":
            bad = 0.5 * bad
        case "blur":
            bad = blurred(bad)
        case "frozen":
            bad = np.repeat(bad[:1], AFTER, axis=0)
        case "stutter":
            bad = np.repeat(bad[::10], 10, axis=0)
        case "dead":
            bad = with_dead_pixels(bad)
        case "noise":
            bad = noisy(bad)
        case "flat":
            bad = np.full_like(bad, 0.4)
    return watched(np.concatenate([good, bad]), embedding=2.0 if change in ("shifted", "noise") else 0.0)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ("dark", Fault.DARK),
        ("blur", Fault.BLUR),
        ("frozen", Fault.FROZEN),
        ("stutter", Fault.FROZEN),
        ("dead", Fault.DEAD_PIXELS),
        ("shifted", Fault.SHIFTED),
        ("flat", Fault.FLAT),
    ],
)
def test_a_broken_camera_is_told_by_how_its_pixels_moved_together(change: str, kind: Fault, seed: int) -> None:
    assert diagnose(changed(change, seed), float(BEFORE)) is kind


@pytest.mark.parametrize("change", ["nothing", "noise"])
def test_what_fits_no_fault_is_not_called_one(change: str) -> None:
    assert diagnose(changed(change, 1), float(BEFORE)) is None


def test_nothing_is_said_before_a_block_has_passed_or_a_reference_is_learnt() -> None:
    assert diagnose(changed("dark", 1), float(BEFORE + AFTER)) is None
    assert diagnose(CameraWatch("new"), 0.0) is None


def test_a_fault_is_shown_by_a_frame_of_before_and_one_of_after() -> None:
    fault = report(changed("dark", 1), float(BEFORE))
    assert fault is not None
    assert (fault.camera_id, fault.kind, fault.since) == ("gate-1", "dark", BEFORE)
    before, after = (int(asset.removeprefix("asset-")) for asset in (fault.before_asset_id, fault.after_asset_id))
    assert BEFORE - 20 <= before < BEFORE < after


def test_frames_to_show_are_remembered_only_while_nothing_is_wrong() -> None:
    camera = changed("dark", 2)
    assert len(camera.sights) <= 24
    assert all(at < BEFORE + 60 for at, _ in camera.sights)


def test_what_is_to_be_mended_is_not_trained_away_and_what_looks_elsewhere_may_be() -> None:
    dark, aside = (CameraFault("gate-1", kind, 1.0, "a", "b") for kind in ("dark", "shifted"))
    assert beyond_training([dark]) and beyond_training([aside, dark])
    assert not beyond_training([aside]) and not beyond_training([])
    assert said_of([dark, aside]) == "gate-1: dark; gate-1: shifted"


def test_the_picture_of_one_camera_of_many_is_a_camera_and_other_things_before_it_are_not() -> None:
    case = Case("i", "m", "1", "", "a", 1.0, Cause.SCENE)
    assert read_cause(case, [changed("dark", 1)], 5, 1) is Cause.CAMERA
    assert read_cause(case, [changed("shifted", 1)], 5, 1) is Cause.CAMERA
    assert read_cause(case, [changed("dark", 1)], 5, 2) is Cause.SCENE
    assert read_cause(case, [changed("dark", 1)], 2, 1) is Cause.SCENE
    other = changed("shifted", 1)
    assert other.bank is not None and other.reference is not None
    other.reference.names = tuple("class.a" if n.startswith("proj") else n for n in other.reference.names)
    assert read_cause(case, [other], 5, 1) is Cause.SCENE


def test_a_broken_camera_among_others_gets_a_ticket_that_names_it_and_no_retraining() -> None:
    engine = Engine.new(policy())
    findings: list[Finding] = []
    for batch in four_cameras(dark=2):
        findings += engine.feed(batch)
    last = [f.incident for f in findings if isinstance(f, DriftFound) and f.incident.faults][-1]
    assert (last.cause, last.harm, last.cameras) == (Cause.CAMERA, Harm.CROSSED, ("gate-2",))
    (fault,) = last.faults
    assert (fault.camera_id, fault.kind) == ("gate-2", "dark")
    assert abs(fault.since - last.began_at) <= 1.0 and abs(last.began_at - EPOCH - BEFORE / 4) <= 10.0
    before, after = (int(asset.split("-")[0]) for asset in (fault.before_asset_id, fault.after_asset_id))
    assert before < BEFORE + 20 < after + 20
    assert ("ticket", "gate-2: dark") in {(f.severity, f.summary) for f in findings if isinstance(f, Alert)}
    assert "camera_fault: gate-2: dark" in {f.reason for f in findings if isinstance(f, Refusal)}
    assert not [f for f in findings if isinstance(f, Request)]
    (message,) = incident_message(last).faults
    assert (message.kind, message.before_asset_id) == ("dark", fault.before_asset_id)
    assert message.since.seconds == int(fault.since)


def four_cameras(dark: int) -> Iterator[list[tuple[str, bool, Input]]]:
    """Four cameras at 4 frames a second; every third frame is labelled at once, and from `BEFORE` on one camera is dark
    and the model wrong on every other of its frames.
    """
    rng = np.random.default_rng(11)
    seen = []
    for camera in range(4):
        frames = scenes(np.random.default_rng(20 + camera))
        frames[BEFORE:] *= 0.5 if camera == dark else 1.0
        seen.append(pixels_of(frames))
    yield [("registry/0", False, VersionKnown(EPOCH - 9, "r", "", "m", "1", "", "accepted", 0.05, 2000))]
    for n in range(BEFORE + AFTER):
        batch: list[tuple[str, bool, Input]] = []
        for camera in range(4):
            wrong = camera == dark and n >= BEFORE and n % 2 == 0
            at, key, name = EPOCH + (n + camera / 4) / 4, f"{n}-{camera}", f"gate-{camera}"
            row = (*seen[camera][n], *rng.normal(size=WIDTH - 9).tolist())
            answer = "abcde"[n % 5]
            batch.append((f"p/{camera}", True, Seen(at, key, "", "m", "1", "champion", name, key, answer, 0.9, row)))
            said = (PredictionOf("m", "1", "champion", answer, 0.9),)
            if n % 3 == 0:
                truth = "abcde"[(n + wrong * (1 + n // 5 % 4)) % 5]
                label = Labelled(at + 0.01, f"l{key}", "", key, name, at, 1, truth, "uniform", 0.3, said)
                batch.append(("l/0", False, label))
        yield batch
