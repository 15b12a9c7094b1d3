"""The daily cycle: it is told from a change, and what is not known of it yet is said."""

from __future__ import annotations

import numpy as np

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import State
from services.monitor.domain.inputs import Seen
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.profile import DAY, DAYS, Profile
from services.monitor.domain.snapshot import dump, load
from tests.unit.monitor.worlds import EPOCH, policy

EVERY = 20.0  # Seconds between two blocks of ten frames.


def learnt(days: float, amplitude: float = 1.0, creep: float = 0.0) -> Profile:
    """Two channels: one with a sine of a day, one without; `creep` is added to both a day."""
    rng = np.random.default_rng(1)
    profile = Profile.begin(np.zeros(2), 0.0)
    for n in range(int(days * DAY / EVERY)):
        at = n * EVERY
        noise = rng.normal(size=2) / np.sqrt(10.0)
        means = noise + creep * at / DAY
        means[0] += amplitude * np.sin(2.0 * np.pi * at / DAY)
        profile.learn(at, means, 10.0, 4000.0)
    return profile


def test_a_cycle_is_known_after_a_day_and_a_channel_without_one_stays_level() -> None:
    profile = learnt(1.0)
    for hour in range(24):
        at = DAY + hour * 3600.0
        cyclic, level = profile.expected(at)
        assert abs(cyclic - np.sin(2.0 * np.pi * hour / 24.0)) < 0.05
        assert abs(level) < 0.05
        assert profile.error(at) < 0.02


def test_how_wrong_it_may_be_grows_with_the_time_since_it_was_last_seen() -> None:
    profile = learnt(0.1)
    errors = [profile.error(0.1 * DAY + 3600.0 * hours) for hours in (0.0, 1.0, 3.0, 6.0)]
    assert errors == sorted(errors)
    assert errors[0] < 0.05
    assert errors[-1] > 0.5


def test_its_error_is_as_large_as_it_says() -> None:
    """Cycles drawn from the prior, seen for a tenth of a day; an hour later nine in ten lie within 1.65 errors."""
    rng = np.random.default_rng(2)
    orders = np.tile(np.arange(1, 5), 2)
    inside = 0
    for _ in range(200):
        truth = Profile.begin(np.zeros(1), 0.0)
        truth.weights[1:, 0] = rng.normal(size=8) / orders
        profile = Profile.begin(np.zeros(1), 0.0)
        for at in np.arange(0.0, 0.1 * DAY, 120.0):
            profile.learn(at, truth.expected(at) + rng.normal(size=1) / np.sqrt(20.0), 20.0, 4000.0)
        at = 0.1 * DAY + 3600.0
        inside += abs(profile.expected(at)[0] - truth.expected(at)[0]) < 1.645 * profile.error(at)
    assert 165 <= inside <= 193


def test_after_some_days_it_is_an_anchor() -> None:
    profile = learnt(DAYS + 0.5)
    before = profile.expected(0.0)
    updates = profile.updates
    for n in range(10_000):
        profile.learn((DAYS + 1.0) * DAY + n * EVERY, np.ones(2), 10.0, 4000.0)
    assert profile.updates == updates
    assert profile.expected(0.0).tolist() == before.tolist()


def test_an_absent_channel_teaches_nothing() -> None:
    profile = learnt(0.01)
    before = profile.expected(0.0)
    profile.learn(900.0, np.array([np.nan, 5.0]), 10.0, 4000.0)
    after = profile.expected(0.0)
    assert after[0] == before[0]
    assert after[1] != before[1]


def frames(count: int, first: int = 0, every: float = 10.0, moved: float = 0.0) -> list[tuple[str, bool, Seen]]:
    """Of one camera, every ten seconds; the first channel goes through a cycle of 2 deviations a day."""
    rng = np.random.default_rng(first + 3)
    found = []
    for n in range(first, first + count):
        features = rng.normal(size=WIDTH)
        features[0] += 2.0 * np.sin(2.0 * np.pi * n * every / DAY) + moved
        key = str(n)
        item = Seen(EPOCH + n * every, key, "", "m", "1", "champion", "c", key, f"class-{n % 3}", 0.9, tuple(features))
        found.append(("p", True, item))
    return found


def test_a_day_and_a_half_with_a_cycle_raises_no_alarm_and_a_step_after_it_does() -> None:
    engine = Engine.new(policy())
    engine.feed(frames(13_000))
    camera = engine.models["m"].cameras["c"]
    assert State.OK <= camera.state <= State.WARN
    assert engine.models["m"].incidents == []
    engine.feed(frames(150, first=13_000, moved=1.5))
    assert camera.state is State.ALARM
    assert camera.evidence(1)[0].channel == "pixels.brightness"


def test_a_camera_goes_on_alike_from_its_snapshot_with_the_profile() -> None:
    engine, snapshots = Engine.new(policy()), Snapshots()
    written: dict[str, bytes] = {}
    for start in range(0, 3_000, 500):
        engine.feed(frames(500, first=start))
        written |= dict(snapshots.changed(engine))
    assert "m/c@profile" in written
    copy = Engine.new(policy())
    rebuild(copy, written)
    for start in range(3_000, 5_000, 500):
        assert copy.feed(frames(500, first=start)) == engine.feed(frames(500, first=start))
    assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))


def test_a_camera_from_before_there_were_profiles_goes_on_from_its_reference() -> None:
    engine, snapshots = Engine.new(policy()), Snapshots()
    engine.feed(frames(2_000))
    written = dict(snapshots.changed(engine))
    del written["m/c@profile"]
    copy = Engine.new(policy())
    rebuild(copy, written)
    camera = copy.models["m"].cameras["c"]
    assert camera.profile is None
    copy.feed(frames(100, first=2_000))
    assert camera.profile is not None
    assert camera.state >= State.OK
    assert load(dump(camera.profile)).weights.tolist() == camera.profile.weights.tolist()
