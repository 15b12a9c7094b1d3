"""One incident a cause: what the engine says of a small fleet whose truth is known, and what people do about it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from struct import pack, unpack_from
from typing import Final

import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, Assessed, DriftFound, Finding, Harm, Incident, Request, State
from services.monitor.domain.events import Cause as Why
from services.monitor.domain.inputs import Commanded, Order
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.probe_events import ProbeVerdict
from services.monitor.domain.snapshot import load
from tests.unit.monitor.fleets import Cause, Fleet
from tests.unit.monitor.worlds import policy

LIGHT: Final = {"pixels.brightness": 2.0, "pixels.red": 2.0, "pixels.green": 2.0, "pixels.blue": 2.0}
FOG: Final = {"pixels.contrast": -2.5, "pixels.sharpness": -2.5, "pixels.brightness": 1.0, "max_probability": -1.5}


def two_causes(seed: int = 1) -> Fleet:
    """Another light at site-1, then fog on one camera of site-2, harmful."""
    fleet = Fleet(seed, cameras=20, sites=4, frames=900)
    light = Cause("light", fleet.of_site(1), 400, channels=LIGHT)
    fleet.causes = (light, Cause("fog", (6,), 450, channels=FOG, error=0.6))
    return fleet


@pytest.fixture(scope="module")
def judged() -> Fleet:
    fleet = two_causes()
    fleet.run()
    return fleet


def alerts(findings: Sequence[Finding], incident: Incident) -> list[tuple[str, str]]:
    return [(f.kind, f.severity) for f in findings if isinstance(f, Alert) and f.incident_id == incident.id]


def command(order: Order, subject: str, at: float, id_: str = "c1", **more: object) -> Commanded:
    return Commanded(at, f"ce-{id_}", "", id_, order, "ada", "seen to", subject, **more)  # type: ignore[arg-type]


def test_two_causes_are_two_incidents_with_their_own_scopes(judged: Fleet) -> None:
    light, fog = judged.incidents()
    assert (str(light.scope), light.cause, light.harm) == ("site site-1", Why.SCENE, Harm.NONE)
    assert light.cameras == tuple(sorted(f"camera-{c}" for c in judged.of_site(1)))
    assert (str(fog.scope), fog.cause, fog.harm) == ("camera camera-6", Why.CAMERA, Harm.CROSSED)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_a_camera_that_stirs_in_a_way_of_its_own_beside_a_broken_one_is_no_part_of_the_fault(seed: int) -> None:
    """Half a minute after the fault, and not opposite to it: time alone does not put them together."""
    fleet = Fleet(seed, cameras=5, sites=1, frames=1400, gap=0.125)
    stirs = {"pixels.blue": 1.2, "pixels.brightness": 0.8}
    fleet.causes = (Cause("fog", (2,), 1000, channels=FOG), Cause("stirs", (0,), 1060, channels=stirs))
    fleet.run()
    fault, other = fleet.incidents()
    assert (fault.cameras, fault.cause) == (("camera-2",), Why.CAMERA)
    assert other.cameras == ("camera-0",)


def test_each_incident_is_told_of_once_when_it_opens_hurts_and_closes(judged: Fleet) -> None:
    light, fog = judged.incidents()
    assert alerts(judged.findings, light) == [("opened", "ticket"), ("closed", "ticket")]
    told = alerts(judged.findings, fog)
    assert told.count(("escalated", "page")) == 1
    assert len(told) == len(set(told))
    opened = next(f for f in judged.findings if isinstance(f, Alert) and f.incident_id == light.id)
    assert opened.summary.startswith("site site-1: ")


def test_an_incidents_history_says_what_happened_in_order(judged: Fleet) -> None:
    light, _ = judged.incidents()
    what = [line.what for line in light.history]
    assert (what[0], what[-1]) == ("opened", "closed")
    assert [line.at for line in light.history] == sorted(line.at for line in light.history)
    assert {line.by for line in light.history} == {"monitor"}


def test_every_change_of_a_cameras_assessment_is_said_with_its_labels(judged: Fleet) -> None:
    said = [f for f in judged.findings if isinstance(f, Assessed) and f.camera_id == "camera-6"]
    words = [(f.state, f.incident_id) for f in said]
    assert all(one != other for one, other in pairwise(words))
    fog = judged.incidents()[1]
    (alarm,) = [f for f in said if f.incident_id == fog.id]
    assert (alarm.state, dict(alarm.labels)) == (State.ALARM, {"firmware": "1.0", "site": "site-2"})
    assert alarm.steps >= 20 * policy().fleet.run_length / 6  # at most six cameras alarmed at once


def test_people_acknowledge_and_mute_and_a_repeat_changes_nothing(judged: Fleet) -> None:
    light, fog = judged.incidents()
    at = next(f.at for f in judged.findings if isinstance(f, DriftFound) and f.incident.id == fog.id) + 60.0
    orders = (
        command(Order.ACKNOWLEDGE, fog.id, at),
        replace(command(Order.ACKNOWLEDGE, fog.id, at + 1), by="bob"),
        command(Order.MUTE, fog.id, at + 2, "c2"),
        command(Order.ACKNOWLEDGE, "no such incident", at + 3, "c3"),
    )
    fleet = two_causes()
    fleet.commands = orders
    fleet.run()
    same, handled = fleet.incidents()
    assert same == light
    assert (handled.acknowledged_by, handled.acknowledged_at) == ("ada", at)
    lines = [(h.what, h.by, h.why) for h in handled.history if h.by != "monitor"]
    assert lines == [("acknowledged", "ada", "seen to"), ("muted", "ada", "seen to")]
    assert handled.harm is Harm.CROSSED
    assert alerts(fleet.findings, handled) == []


def test_a_mute_that_has_run_out_tells_what_is_still_true(judged: Fleet) -> None:
    _, fog = judged.incidents()
    opened = next(f.at for f in judged.findings if isinstance(f, DriftFound) and f.incident.id == fog.id)
    page = next(f.at for f in judged.findings if isinstance(f, Alert) and f.severity == "page")
    fleet = two_causes()
    fleet.commands = (command(Order.MUTE, fog.id, opened + 60.0, until=page + 3600.0),)
    fleet.run()
    later = [f.at for f in fleet.findings if isinstance(f, Alert) and f.severity == "page"]
    assert page + 3600.0 <= later[0] <= page + 3600.0 + fleet.gap


def test_what_alarms_inside_a_planned_change_is_its_doing_and_normal_afterwards() -> None:
    fleet = two_causes()
    begin, end = fleet.time(390), fleet.time(500)
    site = (("site", "site-1"),)
    fleet.commands = (command(Order.PLAN, "plan-1", fleet.time(300), since=begin, until=end, labels=site),)
    engine = fleet.run()
    planned, fog = fleet.incidents()
    assert (planned.plan_id, planned.cameras) == (
        "plan-1",
        tuple(sorted(f"camera-{c}" for c in fleet.of_site(1))),
    )
    assert 0.0 <= planned.closed_at - end <= fleet.gap
    assert [(h.what, h.by) for h in planned.history][:1] == [("planned", "ada")]
    assert alerts(fleet.findings, planned) == []
    assert str(fog.scope) == "camera camera-6"
    rebuilt = [engine.models["m"].cameras[f"camera-{c}"].learning_since for c in fleet.of_site(1)]
    assert all(at >= end for at in rebuilt)
    assert len(fleet.incidents()) == 2


def test_a_cancelled_plan_excuses_nothing() -> None:
    fleet = two_causes()
    plan = command(Order.PLAN, "plan-1", fleet.time(300), since=fleet.time(390), until=fleet.time(800))
    fleet.commands = (plan, command(Order.CANCEL, "plan-1", fleet.time(310), "c2"))
    fleet.run()
    assert [i.plan_id for i in fleet.incidents()] == ["", ""]


def test_one_annotator_who_errs_is_named_and_nothing_is_retrained() -> None:
    fleet = Fleet(3, 20, 4, 1400, labelled=0.1, wrong={2: 0.3}, wrong_from=300)
    fleet.run()
    assert not [f for f in fleet.findings if isinstance(f, Request)]
    assert not [f for f in fleet.findings if isinstance(f, Alert) and f.severity == "page"]
    assert "annotator annotator-2" in [str(i.scope) for i in fleet.incidents()]


def test_a_change_of_labels_names_its_classes() -> None:
    fleet = Fleet(4, 20, 4, 900, labelled=0.1)
    fleet.causes = (Cause("swap", tuple(range(20)), 400, swapped=(2, 7)),)
    fleet.run()
    (incident,) = [i for i in fleet.incidents() if i.cause is Why.LABELS]
    assert (incident.scope.kind, incident.class_names) == ("class", ("class-2", "class-7"))
    assert incident.scope.value == "class-2, class-7"
    assert incident.probe is not None
    assert incident.probe.verdict is ProbeVerdict.MOVED


def test_a_fleet_put_back_from_its_pieces_goes_on_to_the_bit() -> None:
    cut = 470  # Both incidents are open.
    fleet = two_causes()
    plan = command(Order.PLAN, "p", fleet.time(300), since=fleet.time(390), until=fleet.time(700), cameras=("x",))
    fleet.commands = (plan,)
    engine, snapshots = Engine.new(policy()), Snapshots()
    written: dict[str, bytes] = {}
    copy: Engine | None = None
    others: list[Finding] = []
    expected: list[Finding] = []
    for number, batch in enumerate(fleet.batches()):
        if number == cut:
            copy = Engine.new(policy())
            rebuild(copy, written)
        said = engine.feed(batch)
        fleet.findings += said
        if copy is not None:
            others += copy.feed(batch)
            expected += said
        elif number % 5 == 0 or number == cut - 1:
            written.update(snapshots.changed(engine))
    assert others == expected
    assert any(isinstance(f, DriftFound) for f in others)
    assert copy is not None
    assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))


def test_a_snapshot_of_a_monitor_that_knew_one_incident_is_read_with_its_incident_open() -> None:
    fleet = two_causes()
    engine = Engine.new(policy())
    for number, batch in enumerate(fleet.batches()):
        fleet.findings += engine.feed(batch)
        if number == 448:  # Between the two causes.
            break
    pieces = dict(Snapshots().changed(engine))
    ours = load(pieces["m"])[0].cases[0]
    pieces["m"] = _as_before(pieces["m"])
    del pieces["@fleet"]
    old = Engine.new(policy())
    rebuild(old, pieces)
    (case,) = old.models["m"].cases
    assert (case.id, case.alarmed, case.cameras) == (ours.id, ours.cameras, ours.cameras)


def _as_before(piece: bytes) -> bytes:
    """A model's piece as codec 1 had it: `case` for `cases`, and nothing of what came with the fleet."""
    raw = zlib.decompress(piece)
    length, count = unpack_from("<II", raw)
    begin = 8 + 4 * count
    plain = json.loads(raw[begin : begin + length])
    fields = plain[0]["c"][1]
    (case,) = fields.pop("cases")
    for name in ("alarmed", "scope", "history", "widened_at", "last_alarm_at", "understood", "probe"):
        del case["c"][1][name]
    fields["case"] = case
    text = json.dumps(plain).encode()
    return zlib.compress(pack("<II", len(text), count) + raw[8:begin] + text + raw[begin + length :])
