"""A change that cameras show days apart is one incident, weighed as a whole, against an error that is still known."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.case import Case
from services.monitor.domain.deciding import decide, stake
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Cause, DriftFound, Harm, Outlook, Refusal, Regain, Request, Risk
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.harm import read_labels
from services.monitor.domain.inputs import UNIFORM, Answered
from services.monitor.domain.labels import Joined
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.outlook import condition_of
from services.monitor.domain.policy import Policy
from services.monitor.domain.probe import Probe
from services.monitor.domain.probe_events import ProbeVerdict
from tests.unit.monitor.worlds import World, policy


def impatient() -> Policy:
    """Cameras that alarm at different moments are never near in time."""
    return replace(policy(), fleet=replace(policy().fleet, join_seconds=0.0, settle_seconds=0.0))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_slow_change_is_one_incident_though_its_cameras_alarm_at_different_times(seed: int) -> None:
    world = World(seed, frames=9_000, shift=1.5, ramp=3_000)
    world.run(Engine.new(impatient()))
    found = [f.incident for f in world.findings if isinstance(f, DriftFound)]
    assert len({i.id for i in found}) == 1
    assert found[-1].cameras == tuple(f"camera-{n}" for n in range(4))


def hurting(name: str, cameras: list[str], excess: float, harm: Harm = Harm.CROSSED) -> Case:
    case = Case(name, "m", "1", "", "", 0.0, Cause.SCENE, harm=harm, cameras=cameras)
    case.risk = Risk(0.1, 500, 0.1 + excess, 0.0, 1.0, 100)
    return case


def watching(*cases: Case) -> ModelWatch:
    """Each camera sends ten frames a second."""
    watch = ModelWatch("m", version="1", cases=list(cases))
    for name in ("a", "b", "c"):
        camera = watch.cameras[name] = CameraWatch(name)
        camera.trace.times, camera.trace.frames = [0.0, 1.0], [10, 10]
    return watch


def test_harm_in_several_incidents_is_weighed_together_as_one_run_mends_it() -> None:
    first, second = hurting("i", ["a"], 0.1), hurting("j", ["b"], 0.3)
    found = stake(watching(first, second), first, 0.0, policy())
    assert (found.predictions_a_second, found.excess) == pytest.approx((20.0, 0.2))
    assert found == stake(watching(first, second), second, 0.0, policy())


def test_a_camera_counts_once_and_what_does_not_surely_hurt_or_is_planned_not_at_all() -> None:
    first, twice = hurting("i", ["a"], 0.1), hurting("j", ["a", "b"], 0.2)
    found = stake(watching(first, twice), first, 0.0, policy())
    assert (found.predictions_a_second, found.excess) == pytest.approx((20.0, 0.2))
    planned = hurting("k", ["c"], 0.9)
    planned.plan_id = "p"
    found = stake(watching(first, hurting("l", ["b"], 0.9, Harm.UNKNOWN), planned), first, 0.0, policy())
    assert (found.predictions_a_second, found.excess) == pytest.approx((10.0, 0.1))


def test_what_no_run_is_meant_for_is_not_weighed() -> None:
    first, lost, refused = hurting("i", ["a"], 0.1), hurting("j", ["b"], 0.9), hurting("k", ["c"], 0.9)
    lost.regain = Regain(Outlook.NOT_RECOVERABLE, 0.1, 0.0, 0.2, 150, "run")
    refused.answer = Answered(0.0, "", "", "m", "k", approved=False, by="ann", reason="")
    renamed = hurting("l", ["b", "c"], 0.9)
    renamed.cause = Cause.LABELS
    found = stake(watching(first, lost, refused, renamed), first, 0.0, policy())
    assert (found.predictions_a_second, found.excess) == pytest.approx((10.0, 0.1))


def test_one_request_names_the_cameras_of_all_that_it_mends_and_waits_for_the_last_of_them() -> None:
    first, second, moving = hurting("i", ["a"], 0.3), hurting("j", ["b"], 0.3), hurting("k", ["c"], 0.3)
    first.level_since, second.level_since = 100.0, 160.0
    watch = watching(first, second, moving)
    (request,) = [f for f in decide(watch, first, 200.0, policy()) if isinstance(f, Request)]
    assert (request.cameras, request.labels_since, request.incident_id) == (("a", "b"), 160.0, "i")


def test_what_has_to_settle_is_waited_for_since_the_probe_had_told() -> None:
    case, wait = hurting("i", ["a"], 0.3), policy().shape.level_wait_seconds
    case.detected_at = 100.0
    case.probe = Probe("p", 100.0, 5_000.0, 30, ("x",))
    case.probe.verdict, case.probe.told_at = ProbeVerdict.MOVED, 5_000.0
    watch = watching(case)

    def said(now: float) -> list[str]:
        findings = decide(watch, case, now, policy())
        return [f.reason.partition(":")[0] if isinstance(f, Refusal) else type(f).__name__ for f in findings]

    assert said(100.0 + wait) == ["not_level"]
    assert said(5_000.0 + wait - 1.0) == []
    assert said(5_000.0 + wait) == ["Request"]


def test_an_unnamed_change_of_labels_is_no_other_ones_condition() -> None:
    one, other, named, same = (hurting(name, ["a"], 0.2) for name in "ijkl")
    for case in (one, other, named, same):
        case.cause = Cause.LABELS
    named.class_names, same.class_names = ["x", "y"], ["y", "x"]
    held = [condition_of(a, {}).holds(condition_of(b, {}), 0.2) for a, b in ((one, one), (one, other), (named, same))]
    assert held == [True, False, True]


def labelled(first: int, last: int, wrong: int, origin: str = UNIFORM) -> list[Joined]:
    """A label a second, every `wrong`-th one contradicts the model."""
    return [
        Joined(f"a{n}", "a", float(n), float(n), 1, "1", "x", "y" if n % wrong == 0 else "x", origin, n)
        for n in range(first, last)
    ]


@pytest.mark.parametrize(("anchor", "harm"), [(0.0, Harm.CROSSED), (40.0, Harm.CROSSED)])
def test_few_labels_before_an_undecided_change_do_not_hide_a_later_one_that_surely_hurts(
    anchor: float, harm: Harm
) -> None:
    """Before second 40 little is known; from then to 600 one in ten is wrong, and one in three after."""
    case = Case("i", "m", "1", "", "", 600.0, Cause.SCENE, began_at=600.0, level_since=600.0, cameras=["a"])
    watch = watching(case)
    watch.anchor = anchor
    for end in (700, 760):
        watch.book.entries = {e.asset_id: e for e in [*labelled(0, 600, 10), *labelled(600, end, 3)]}
        read_labels(watch, case, Board(), float(end), policy())
    assert case.harm is harm
