"""What is broken in a camera, from pictures that are broken in a known way."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.ingest.domain.pixels import differences, measure
from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case, read_cause
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.events import CameraFault, Cause, State
from services.monitor.domain.fault import Fault, beyond_training, diagnose, report, said_of
from tests.unit.monitor.worlds import policy

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
    return np.mean([np.roll(frames, (dy, dx), (1, 2)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)], axis=0)


def with_dead_pixels(frames: Frames) -> Frames:
    found = frames.copy()
    dead = np.random.default_rng(3).random(frames.shape[1:])
    found[:, dead < 0.04], found[:, dead > 0.96] = 0.0, 1.0
    return found


def noisy(frames: Frames) -> Frames:
    return frames + np.random.default_rng(4).normal(0.0, 0.15, frames.shape)


def watched(frames: Frames, embedding: float = 0.0) -> CameraWatch:
    """A camera that saw `frames`; from `BEFORE` on, the embedding has moved so many standard deviations."""
    rng = np.random.default_rng(9)
    statistics, thumbnails = measure(np.rint(np.clip(frames, 0, 1) * 255).astype(np.uint8)[..., None])
    moved = differences(None, [one.tobytes() for one in thumbnails])
    camera, rules = CameraWatch("gate-1"), policy()
    for n, (figures, step) in enumerate(zip(statistics, moved, strict=True)):
        row = rng.normal(size=WIDTH)
        row[:9] = [*figures[:8], np.nan if step is None else step]
        row[13:] += embedding * (n >= BEFORE)
        if camera.take(float(n), tuple(row), 0, ("a",), rules, None):
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
