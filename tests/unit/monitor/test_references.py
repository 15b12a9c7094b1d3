"""References by version and camera: a new camera leans on the others, a new version on its time in shadow, and the
pixels on what they were before.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.monitor.domain import snapshot
from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Finding, State
from services.monitor.domain.lineup import FORGOTTEN_S, SLOTS, Kept, keep
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.profile import DAY
from services.monitor.domain.runlength import block_deviation, correlation_time
from services.monitor.domain.snapshot import dump, load
from tests.bench.monitor.starts import Lens, Life, from_nothing, life, seen, without_anchor
from tests.unit.monitor.worlds import EPOCH, policy

KNOWN = 4


def cameras(rho: float = 0.0, cycle: float = 0.0, count: int = KNOWN) -> list[Lens]:
    return [Lens(f"camera-{n}", n, rho, cycle) for n in range(count)]


def see(engine: Engine, lenses: list[Lens], first: int, count: int, every: float = 1.0, **said: str) -> None:
    """Frames `first` to `first + count` of each camera, a frame each `every` seconds."""
    values = {lens.name: lens.frames(first + count, every) for lens in lenses}
    for n in range(first, first + count):
        at = EPOCH + n * every
        engine.feed([("p", True, seen(lens, n, at, values[lens.name][n], **said)) for lens in lenses])


def until_watched(engine: Engine, lens: Lens, first: int, every: float = 1.0, most: int = 3_000) -> CameraWatch:
    """The camera when it is first watched; its first frame is the engine's `first`."""
    values = lens.frames(most, every)
    for n in range(most):
        engine.feed([("p", True, seen(lens, n, EPOCH + (first + n) * every, values[n]))])
        camera = engine.models["m"].cameras.get(lens.name)
        if camera is not None and camera.state >= State.OK:
            return camera
    raise AssertionError(f"{lens.name} was not watched after {most} frames")


def limits(camera: CameraWatch) -> float:
    """How far, in spreads of a frame, the first channel's block means may lie off for one block."""
    assert camera.bank is not None and camera.reference is not None
    step = block_deviation(camera.reference.rho, camera.block)
    return float(camera.bank.threshold()[0] * camera.reference.spread()[0] / camera.reference.deviation[0] * step)


@pytest.mark.parametrize(("rho", "alone", "pooled"), [(0.0, 250, 80), (0.9, 2_250, 760)])
def test_a_camera_that_joins_three_others_is_watched_in_a_third_of_the_frames(
    rho: float, alone: int, pooled: int
) -> None:
    known = int(130 * correlation_time(rho)) + 150
    engine = Engine.new(policy())
    see(engine, cameras(rho), 0, known)
    camera = until_watched(engine, Lens("new", 9, rho), known)
    assert pooled <= camera.frames <= 1.5 * pooled
    assert camera.provisional
    other = Engine.new(from_nothing())
    see(other, cameras(rho), 0, known)
    assert until_watched(other, Lens("new", 9, rho), known).frames >= 0.8 * alone


def test_two_cameras_are_too_few_to_lean_on() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(count=2), 0, 400)
    camera = until_watched(engine, Lens("new", 9), 400)
    assert (camera.frames, camera.provisional) == (250, False)


def test_its_bands_are_wider_until_frames_of_its_own_have_come_and_then_it_has_its_classes() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(), 0, 400)
    lens = Lens("new", 9)
    camera = until_watched(engine, lens, 400)
    early = limits(camera)
    assert camera.reference is not None
    assert len(camera.reference.names) == WIDTH
    assert 5 < camera.reference.lent[:WIDTH].mean() < 50
    for n, row in enumerate(lens.frames(400, 1.0)[camera.frames + 1 :], start=camera.frames + 1):
        engine.feed([("p", True, seen(lens, n, EPOCH + 400 + n, row))])
    assert not camera.provisional
    assert camera.state <= State.WARN
    assert camera.reference.names[WIDTH:] == tuple(
        sorted(camera.reference.names[WIDTH:], key=camera.reference.names.index)
    )
    assert len(camera.reference.names) == WIDTH + 10
    assert not camera.reference.lent.any()
    assert limits(camera) < 0.9 * early
    mature = engine.models["m"].cameras["camera-0"]
    assert limits(mature) < 0.9 * early


def test_spreads_lean_on_other_cameras_as_far_as_these_are_alike() -> None:
    """Alike cameras count as much as is allowed; cameras whose spreads differ by a factor of three hardly count."""
    worth = []
    for differ in (0.02, 1.1):
        engine = Engine.new(policy())
        see(engine, [replace(lens, differ=differ) for lens in cameras(count=6)], 0, 300)
        see(engine, [replace(Lens("new", 9), differ=differ)], 300, 1)
        pool = engine.models["m"].references.pool
        assert pool is not None
        assert pool.cameras == 6
        worth.append(float(np.median(np.minimum(pool.worth, 100.0))))
    assert worth[0] > 60.0
    assert worth[1] < 3.0


def test_a_camera_that_resembles_itself_more_than_the_others_waits_longer() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(), 0, 400)
    camera = until_watched(engine, Lens("new", 9, rho=0.8), 400)
    assert camera.reference is not None
    assert camera.reference.rho > 0.6
    assert camera.frames >= 40 * correlation_time(0.6)


def test_a_change_of_a_new_camera_is_found_before_it_would_be_watched_alone() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(), 0, 400)
    lens = Lens("new", 9)
    values = lens.frames(250, 1.0)
    values[130:, 0] += 8.0
    for n, row in enumerate(values):
        engine.feed([("p", True, seen(lens, n, EPOCH + 400 + n, row))])
    camera = engine.models["m"].cameras["new"]
    assert camera.frames < 250
    assert camera.state is State.ALARM
    assert camera.evidence(1)[0].channel == "pixels.brightness"


def test_cameras_that_share_the_sun_tell_a_new_one_of_the_cycle() -> None:
    """Six hours after it came the new camera knows what to expect, and not how far the cycle may have gone."""
    every, day = 120.0, 720
    errors, wrong = [], []
    for shared in (True, False):
        engine = Engine.new(policy())
        see(engine, cameras(cycle=1.0 if shared else 0.0), 0, day + 100, every)
        if not shared:
            for n, camera in enumerate(engine.models["m"].cameras.values()):
                assert camera.profile is not None
                camera.profile.weights[1, :] += 2.0 * n  # As if each had its own.
        new = Lens("new", 9, cycle=1.0)
        camera = until_watched(engine, new, day + 100, every)
        assert camera.profile is not None
        later = camera.last_at + 6 * 3_600.0
        errors.append(camera.profile.error(later))
        wrong.append(abs(camera.profile.expected(later)[0] - camera.profile.expected(later - DAY)[0]))
    assert errors[0] < 0.5 * errors[1]


def test_a_new_camera_goes_on_alike_from_a_snapshot_at_any_time() -> None:
    engine, snapshots = Engine.new(policy()), Snapshots()
    see(engine, cameras(), 0, 300)
    lens, written = Lens("new", 9), dict(snapshots.changed(engine))
    values = lens.frames(420, 1.0)
    for n, row in enumerate(values):
        item = seen(lens, n, EPOCH + 300 + n, row)
        if n % 33 == 0:
            written |= dict(snapshots.changed(engine))
            copy = Engine.new(policy())
            rebuild(copy, written)
            assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))
        assert copy.feed([("p", True, item)]) == engine.feed([("p", True, item)])
    assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))
    assert not engine.models["m"].cameras["new"].provisional


def promoted(shadow: float, seed: int = 1) -> tuple[Engine, int]:
    engine, _, said, blind = life(Life(seed, days=9, live=4, shadow=shadow))
    assert not [f for f in said if isinstance(f, DriftFound)]
    assert engine.models["m"].version == "3"
    return engine, blind


def test_a_version_that_was_in_shadow_is_watched_from_its_first_frame_on() -> None:
    _, blind = promoted(shadow=1.0)
    assert blind == 0
    _, without = promoted(shadow=0.0)
    assert without >= 400  # Twice 250, less the thirty by which a new champion is known.


def test_what_is_seen_in_shadow_is_said_of_nobody_and_learnt_anew_after_a_change() -> None:
    engine = Engine.new(policy())
    lens = Lens("camera-0", 1)
    values = lens.frames(1_200, 1.0)
    values[600:, 3] += 6.0
    said = []
    for n, row in enumerate(values):
        shadow = seen(lens, n, EPOCH + n, row, "2", "shadow")
        said += engine.feed([("p", True, seen(lens, n, EPOCH + n, values[n] if n < 600 else values[n - 600])),
                             ("p", True, shadow)])  # fmt: skip
    (kept,) = engine.models["m"].kept
    camera = kept.references.cameras["camera-0"]
    assert (kept.version, camera.state) == ("2", State.OK)
    assert camera.reference is not None
    assert abs(camera.reference.centre[3] - values[700:, 3].mean()) < 0.3
    assert engine.models["m"].cameras["camera-0"].state <= State.WARN
    assert said == [f for f in said if type(f).__name__ == "Assessed"]


def test_a_clients_own_calls_and_the_champions_version_in_another_role_build_no_reference() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(count=1), 0, 50)
    see(engine, cameras(count=1), 50, 50, version="2", role="direct")
    see(engine, cameras(count=1), 100, 50, version="1", role="canary")
    assert engine.models["m"].kept == []


def test_few_versions_are_kept_and_the_champion_before_is_one_of_them() -> None:
    engine = Engine.new(policy())
    one = cameras(count=1)
    for n, version in enumerate(("1", "2", "3", "4", "5")):
        see(engine, one, 100 * n, 100, version=version)
        for place, other in enumerate(("7", "8", "9")):
            see(engine, one, 100 * n + 50 + 10 * place, 2, version=other, role="shadow")
    kept = engine.models["m"].kept
    assert {k.version for k in kept} == {"4", "7", "8"}
    assert [k.version for k in kept if k.was_champion] == ["4"]
    assert {k.slot for k in kept} == set(range(SLOTS))


def test_a_version_that_waits_gives_way_only_when_it_has_been_silent_for_long() -> None:
    kept: list[Kept] = []
    places = [keep(kept, version, at) for at, version in enumerate(("7", "8", "9", "7", "9"))]
    assert [place and place.version for place in places] == ["7", "8", None, "7", None]
    assert keep(kept, "8", 3.0 + FORGOTTEN_S) is places[1]
    taken = keep(kept, "9", 3.0 + FORGOTTEN_S)
    assert taken is not None
    assert [(one.version, one.slot) for one in kept] == [("8", 1), ("9", 0)]


def test_a_rollback_finds_the_references_that_were() -> None:
    engine = Engine.new(policy())
    one = cameras(count=1)
    see(engine, one, 0, 400)
    before = engine.models["m"].cameras["camera-0"]
    see(engine, one, 400, 100, version="2")
    assert engine.models["m"].cameras["camera-0"].state is State.LEARNING
    see(engine, one, 500, 40, version="1")
    assert engine.models["m"].cameras["camera-0"] is before
    assert before.state is State.OK
    assert len(before.trace.times) < 10  # What it saw before the other version came is not kept.


def moved_by(engine: Engine, lenses: list[Lens], first: int, count: int, by: float, version: str) -> list[str]:
    """Ids of the incidents that are said of frames so far from those of before."""
    rows = {lens.name: lens.frames(first + count, 1.0) + by for lens in lenses}
    found: list[Finding] = []
    for n in range(first, first + count):
        frames = [seen(lens, n, EPOCH + n, rows[lens.name][n], version=version) for lens in lenses]
        found += engine.feed([("p", True, frame) for frame in frames])
    return [f.incident.id for f in found if isinstance(f, DriftFound) and f.revision == 1]


def test_an_alarm_does_not_outlive_a_rollback_and_a_new_departure_is_found_anew() -> None:
    engine, two = Engine.new(policy()), cameras(count=2)
    see(engine, two, 0, 400, version="1")
    said = moved_by(engine, two, 400, 200, 4.0, "1")
    assert len(said) == 1
    before = engine.models["m"].cameras["camera-0"]
    assert before.state >= State.ALARM
    see(engine, two, 600, 100, version="2")
    assert (before.state, before.trace.times, before.trace.pinned) == (State.OK, [], False)
    assert moved_by(engine, two, 700, 200, 0.0, "1") == []
    assert engine.models["m"].cameras["camera-0"] is before
    assert engine.models["m"].cases == []
    anew = moved_by(engine, two, 900, 200, 4.0, "1")
    assert len(anew) == 1
    assert set(anew).isdisjoint(said)


def test_a_channel_that_is_held_to_an_anchor_does_not_learn() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(count=1), 0, 400)
    camera = engine.models["m"].cameras["camera-0"]
    reference = camera.reference
    assert reference is not None
    width = len(reference.deviation)
    reference.held = np.arange(width) < 3
    known, frames = reference.deviation.copy(), reference.frames
    camera._take_in(camera.last_at, camera.expected(camera.last_at)[0] + 1.0, np.full(width, 4.0), frames + 1_000)
    assert reference.frames > frames
    assert reference.deviation[:3].tolist() == known[:3].tolist()
    assert (reference.deviation[3:] > known[3:]).all()


def test_versions_that_wait_go_on_alike_from_a_snapshot_and_take_over() -> None:
    engine, snapshots, written = Engine.new(policy()), Snapshots(), dict[str, bytes]()
    copy = engine
    for number, (_, batch) in enumerate(Life(3, days=6, live=3, shadow=1.0).batches()):
        if number % 911 == 0:
            written |= dict(snapshots.changed(engine))
            copy = Engine.new(policy())
            rebuild(copy, written)
            assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))
        if copy is not engine:
            assert copy.feed(batch) == engine.feed(batch)
    assert {k.version for k in copy.models["m"].kept} == {"1", "3"}
    assert copy.models["m"].version == "2"


def test_slow_creep_is_seen_although_a_new_version_comes_each_fourth_day() -> None:
    """A fortieth of a spread a day: with everything learnt anew each time it is not seen."""
    one = Life(2, days=18, creep=0.025)
    _, alarms, said, _ = life(one)
    assert alarms[0] > 8.0
    (first, *_) = [f for f in said if isinstance(f, DriftFound)]
    assert first.incident.evidence[0].channel == "pixels.brightness"
    with without_anchor():
        assert life(one)[1] == []
    assert life(replace(one, creep=0.0))[1] == []


def test_a_change_that_was_accepted_is_no_longer_held_against_a_camera() -> None:
    engine = life(Life(4, days=5, live=99))[0]
    camera = engine.models["m"].cameras["camera-0"]
    assert camera.anchor() is not None
    camera.state = State.ALARM
    assert camera.anchor() is None  # What moves is no anchor.
    camera.state = State.OK
    camera.relearn()
    assert camera.anchor() is None


def test_a_model_of_before_versions_were_kept_is_read() -> None:
    engine = Engine.new(policy())
    see(engine, cameras(count=1), 0, 300)
    watch = engine.models["m"]
    blobs: list[bytes] = []
    plain = snapshot._plain(replace(watch, kept=[]), blobs)
    content = plain["c"][1]
    references = content.pop("references")["c"][1]
    del content["kept"]
    content |= {"cameras": references["cameras"], "classes": references["classes"], "pooled": None}
    old = snapshot._value(plain, blobs)
    assert list(old.cameras) == ["camera-0"]
    assert old.references.classes == watch.references.classes
    assert old.kept == []
    assert dump(old.cameras["camera-0"]) == dump(watch.cameras["camera-0"])
    assert load(dump(old)).version == "1"


def test_a_camera_that_began_anew_does_not_find_blocks_of_before_in_its_snapshot() -> None:
    engine, snapshots = Engine.new(policy()), Snapshots()
    see(engine, cameras(count=1), 0, 900)
    written = dict(snapshots.changed(engine))
    engine.models["m"].cameras["camera-0"].relearn()
    see(engine, cameras(count=1), 900, 300)
    written |= dict(snapshots.changed(engine))
    copy = Engine.new(policy())
    rebuild(copy, written)
    trace = engine.models["m"].cameras["camera-0"].trace
    assert copy.models["m"].cameras["camera-0"].trace.times == trace.times
    assert len(trace.times) == 30
