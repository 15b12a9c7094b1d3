"""Who is missing is counted by event time, and shown as numbers without names."""

from __future__ import annotations

from prometheus_client import REGISTRY

from services.monitor.domain.inputs import Seen
from services.monitor.domain.presence import open_incidents, silent_cameras
from services.monitor.handlers import Judge
from services.monitor.inbound.gauges import Gauges
from tests.unit.monitor.records import Reading
from tests.unit.monitor.worlds import World, policy

LAST = "camera-4"


def judged(frames: int, silent_from: int, shift: float = 0.0) -> Judge:
    """A world at 20 frames a second and camera, of which one camera sends nothing from a frame on."""
    judge, reading = Judge(policy()), Reading()
    for batch in World(5, frames=frames, shift=shift, error_after=0.4, uniform=0.1).inputs():
        kept = [
            item
            for item in batch
            if not (isinstance(item[2], Seen) and item[2].camera_id == LAST and int(item[2].ce_id[1:]) >= silent_from)
        ]
        judge.take(reading.read((where, False, item) for where, _, item in kept))
    judge.rest()
    return judge


def test_a_camera_is_silent_after_a_minute_of_event_time_without_a_frame() -> None:
    judge = judged(9_000, silent_from=4_000)
    assert judge.look(silent_cameras) == []  # 50 seconds
    judge = judged(11_000, silent_from=4_000)
    assert judge.look(silent_cameras) == [("m", LAST)]  # 70 seconds


def test_a_camera_that_sends_rarely_is_given_longer() -> None:
    judge = judged(11_000, silent_from=4_000)

    def slow(engine: object) -> list[tuple[str, str]]:
        trace = engine.models["m"].cameras[LAST].trace  # type: ignore[attr-defined]
        trace.times[:] = [trace.times[-1] - 60.0 * n for n in reversed(range(len(trace.times)))]  # 10 frames a minute
        return silent_cameras(engine)  # type: ignore[arg-type]

    assert judge.look(slow) == []


def test_when_all_are_silent_time_stands_still_and_nobody_is() -> None:
    judge = judged(4_000, silent_from=4_000)
    assert judge.look(silent_cameras) == []


def test_gauges_count_and_are_cleared_with_the_state() -> None:
    judge = judged(11_000, silent_from=4_500, shift=1.5)
    gauges = Gauges()
    clock = judge.look(lambda engine: engine.clock)
    gauges.show(judge, clock)
    counts = judge.look(open_incidents)
    assert counts["crossed"] == 1
    assert REGISTRY.get_sample_value("irisloop_monitor_silent_cameras_count") == 1
    for harm, count in counts.items():
        assert REGISTRY.get_sample_value("irisloop_monitor_open_incidents_count", {"harm": harm}) == count
    gauges.clear()
    assert REGISTRY.get_sample_value("irisloop_monitor_silent_cameras_count") == 0
    assert REGISTRY.get_sample_value("irisloop_monitor_open_incidents_count", {"harm": "crossed"}) is None
    gauges.show(judge, clock)
    assert REGISTRY.get_sample_value("irisloop_monitor_silent_cameras_count") == 1
