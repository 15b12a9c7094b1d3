"""Cameras that fall silent or flood are incidents: one a cause, told once, over when they send as usual."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, DriftFound, Finding, Incident, State
from services.monitor.domain.fleet.absence import FLOODING, SILENT
from services.monitor.domain.inputs import Commanded, Order, Seen
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.presence import silent_cameras
from services.monitor.views import explaining, words
from tests.unit.monitor.fleets import Batch, Fleet
from tests.unit.monitor.worlds import policy

CUT = 420  # Frames of each camera before some fall silent: all have a reference then.
FRAMES = 900


def fleet(**more: object) -> Fleet:
    return Fleet(3, cameras=12, sites=3, frames=FRAMES, gap=1.0, labelled=0.0, **more)  # type: ignore[arg-type]


def without(batches: Iterable[Batch], cameras: Iterable[int], since: int = CUT, until: int = FRAMES) -> Iterator[Batch]:
    """Frames of some cameras are lost for a while."""
    names = {f"camera-{c}" for c in cameras}
    for number, batch in enumerate(batches):
        lost = names if since < number <= until else set()
        yield [one for one in batch if not (isinstance(one[2], Seen) and one[2].camera_id in lost)]


def heard(batches: Iterable[Batch], engine: Engine | None = None) -> list[Finding]:
    engine = engine or Engine.new(policy())
    findings = [finding for batch in batches for finding in engine.feed(batch)]
    return findings + engine.drain()


def incidents(findings: Iterable[Finding]) -> list[Incident]:
    return list({f.incident.id: f.incident for f in findings if isinstance(f, DriftFound)}.values())


def alerts(findings: Iterable[Finding]) -> list[tuple[str, str, str]]:
    return [(f.kind, f.severity, f.summary) for f in findings if isinstance(f, Alert)]


def test_a_site_that_falls_silent_is_one_incident_with_the_site_as_its_scope() -> None:
    small = fleet()
    findings = heard(without(small.batches(), small.of_site(1)))
    (found,) = incidents(findings)
    assert str(found.scope) == "site site-1"
    assert found.cameras == tuple(sorted(f"camera-{c}" for c in small.of_site(1)))
    assert {(fault.kind, fault.camera_id) for fault in found.faults} == {(SILENT, name) for name in found.cameras}
    assert small.time(CUT - 1) - 1.0 <= found.began_at <= small.time(CUT)
    assert 60.0 < found.detected_at - found.began_at <= 115.0
    assert found.state is State.WARN and found.closed_at == 0.0
    assert alerts(findings) == [("opened", "ticket", "site site-1: no frames any more")]


def test_it_is_over_when_they_send_again_and_told_so_once() -> None:
    small = fleet()
    findings = heard(without(small.batches(), [5], until=CUT + 250))
    (found,) = incidents(findings)
    assert (str(found.scope), found.state) == ("camera camera-5", State.OK)
    assert 0.0 <= found.closed_at - small.time(CUT + 250) <= 15.0
    assert [kind for kind, _, _ in alerts(findings)] == ["opened", "closed"]


def test_who_took_it_on_stays_known_and_a_muted_one_ends_in_silence() -> None:
    small = fleet()
    opened = next(f for f in heard(without(small.batches(), [5])) if isinstance(f, DriftFound))
    at = opened.at + 5.0
    orders = [
        Commanded(at, "ce-1", "", "c1", Order.ACKNOWLEDGE, "ada", "on my way", opened.incident.id),
        Commanded(at + 1.0, "ce-2", "", "c2", Order.MUTE, "ada", "", opened.incident.id),
    ]
    batches = list(without(small.batches(), [5], until=CUT + 250))
    place = int(at - small.time(0)) + 2
    batches[place:place] = [[("commands/0", False, order)] for order in orders]
    findings = heard(batches)
    (found,) = incidents(findings)
    assert (found.acknowledged_at, found.acknowledged_by, found.state) == (at, "ada", State.OK)
    assert [(h.what, h.by) for h in found.history] == [
        ("opened", "monitor"), ("acknowledged", "ada"), ("muted", "ada"), ("closed", "monitor"),
    ]  # fmt: skip
    assert [kind for kind, _, _ in alerts(findings)] == ["opened"]


def test_to_take_one_on_or_mute_it_is_said_as_a_revision_each() -> None:
    small = fleet()
    opened = next(f for f in heard(without(small.batches(), [5])) if isinstance(f, DriftFound))
    orders = [
        Commanded(opened.at + 30.0, "ce-1", "", "c1", Order.ACKNOWLEDGE, "ada", "", opened.incident.id),
        Commanded(opened.at + 90.0, "ce-2", "", "c2", Order.MUTE, "ada", "", opened.incident.id),
    ]
    batches = list(without(small.batches(), [5]))
    for number, order in reversed(list(enumerate(orders))):
        place = int(order.at - small.time(0)) + 2
        batches.insert(place, [(f"commands/{number}", False, order)])
    said = [f for f in heard(batches) if isinstance(f, DriftFound)]
    assert [(f.revision, f.incident.acknowledged_by, f.incident.muted_until > 0.0) for f in said] == [
        (1, "", False), (2, "ada", False), (3, "ada", True),
    ]  # fmt: skip


@pytest.mark.parametrize("told", [True, False])
def test_when_another_version_takes_over_what_was_told_is_over_once(told: bool) -> None:
    small = fleet()
    swap = CUT + (200 if told else 70)
    batches = [
        [(w, h, replace(one, version="2") if isinstance(one, Seen) and number > swap else one) for w, h, one in batch]
        for number, batch in enumerate(without(small.batches(), [5]))
    ]
    engine = Engine.new(policy())
    findings = heard(batches, engine)
    said = [f for f in findings if isinstance(f, DriftFound)]
    assert [f.incident.state for f in said] == ([State.WARN, State.OK] if told else [])
    assert [kind for kind, _, _ in alerts(findings)] == (["opened", "closed"] if told else [])
    assert engine.models["m"].absences == []
    if told:
        assert said[-1].incident.history[-1].why == "camera camera-5: over, version 2 is the champion"


def test_cameras_that_fall_silent_at_other_times_are_incidents_of_their_own() -> None:
    small = fleet()
    batches = without(without(small.batches(), [1]), [2], since=CUT + 150)
    assert [str(i.scope) for i in incidents(heard(batches))] == ["camera camera-1", "camera camera-2"]


def test_while_all_are_silent_nothing_is_said() -> None:
    small = fleet()
    known = list(without(small.batches(), range(12)))
    later = Commanded(small.time(FRAMES), "ce", "", "c", Order.CANCEL, "ada", "", "no plan")
    assert incidents(heard([*known, [("commands/0", False, later)]])) == []


def of_two_models(silent_since: int, all_since: int = FRAMES, sites: Iterable[int] = (1,)) -> list[Batch]:
    """A second model sees the cameras of some sites; from a frame on nothing comes of the first, from another on
    nothing at all. An order that is given at the end lets time go on.
    """
    small = fleet()
    names = {f"camera-{c}" for site in sites for c in small.of_site(site)}
    found: list[Batch] = []
    for number, batch in enumerate(small.batches()):
        frames = [one for one in batch if isinstance(one[2], Seen)]
        second = [
            (w, h, replace(one, model="other", ce_id=f"{one.ce_id}/other"))
            for w, h, one in frames
            if isinstance(one, Seen) and one.camera_id in names
        ]
        kept = [one for one in batch if one not in frames or number <= silent_since]
        found.append([*kept, *second] if number <= all_since else [one for one in kept if one not in frames])
    later = Commanded(small.time(FRAMES), "ce", "", "c", Order.CANCEL, "ada", "", "no plan")
    return [*found, [("commands/0", False, later)]]


def test_cameras_of_which_nothing_comes_while_those_of_another_model_send_are_an_incident() -> None:
    engine = Engine.new(policy())
    findings = heard(of_two_models(CUT), engine)
    (found,) = incidents(findings)
    small = fleet()
    silent = sorted(f"camera-{c}" for site in (0, 2) for c in small.of_site(site))
    assert (found.model, sorted(found.cameras)) == ("m", silent)
    assert [kind for kind, _, _ in alerts(findings)] == ["opened"]
    assert sorted(silent_cameras(engine)) == [("m", name) for name in silent]


def test_cameras_that_were_bound_to_another_model_are_not_silent() -> None:
    engine = Engine.new(policy())
    assert incidents(heard(of_two_models(CUT, sites=(0, 1, 2)), engine)) == []
    assert silent_cameras(engine) == []


def test_when_all_models_fall_silent_together_or_within_a_minute_nothing_is_said() -> None:
    for apart in (0, 50):
        engine = Engine.new(policy())
        assert incidents(heard(of_two_models(CUT, CUT + apart), engine)) == []
        assert silent_cameras(engine) == []


def test_what_was_announced_beforehand_is_no_incident() -> None:
    small = fleet()
    since, until = small.time(CUT - 5), small.time(FRAMES)
    plan = Commanded(small.time(CUT - 10), "ce", "", "plan", Order.PLAN, "ada", "moved", "plan", since, until,
                     labels=(("site", "site-1"),))  # fmt: skip
    small.commands = (plan,)
    assert incidents(heard(without(small.batches(), small.of_site(1)))) == []


def flooded(batches: Iterable[Batch], camera: int, times: int, since: int, until: int) -> Iterator[Batch]:
    """A camera sends so many frames for one."""
    for number, batch in enumerate(batches):
        more = list(batch)
        for where, holds, item in batch:
            if isinstance(item, Seen) and item.camera_id == f"camera-{camera}" and since < number <= until:
                copies = (
                    replace(item, ce_id=f"{item.ce_id}/{n}", at=item.at + 0.8 * n / times) for n in range(1, times)
                )
                more += [(where, holds, copy) for copy in copies]
        yield more


def floods(findings: Iterable[Finding]) -> list[Incident]:
    return [i for i in incidents(findings) if any(fault.kind == FLOODING for fault in i.faults)]


def test_a_camera_that_floods_is_an_incident_until_it_sends_as_usual() -> None:
    small = fleet()
    findings = heard(flooded(small.batches(), 4, 12, CUT, CUT + 200))
    (found,) = floods(findings)  # The same picture twelve times over is a change of its own.
    assert str(found.scope) == "camera camera-4"
    assert small.time(CUT) < found.detected_at < small.time(CUT + 110)
    assert small.time(CUT + 200) < found.closed_at < small.time(CUT + 320)
    told = [f.summary for f in findings if isinstance(f, Alert) and f.incident_id == found.id]
    assert told[0] == "camera camera-4: more than 5 times the usual frames"
    assert floods(heard(flooded(small.batches(), 4, 3, CUT, CUT + 200))) == []


def test_people_read_who_is_silent_and_what_would_end_it() -> None:
    small = fleet()
    engine = Engine.new(policy())
    (found,) = incidents(heard(without(small.batches(), small.of_site(1)), engine))
    assert words.headline(found) == "site site-1: silent"
    (why,) = explaining.reasons(found)
    assert why.startswith("Presence: silent on camera-1, camera-4, camera-7, camera-10 since ")
    assert list(explaining.clears(engine, engine.models["m"], found)) == [
        "Frames: each of its cameras sends as usual again."
    ]
    assert list(explaining.unknowns(found)) == []


def test_it_goes_on_alike_from_a_snapshot_while_it_is_open() -> None:
    small = fleet()
    batches = list(without(small.batches(), small.of_site(1), until=CUT + 250))
    engine, written, snapshots = Engine.new(policy()), dict[str, bytes](), Snapshots()
    for batch in batches[: CUT + 180]:
        engine.feed(batch)
    written.update(snapshots.changed(engine))
    again = Engine.new(policy())
    rebuild(again, written)
    assert len(again.models["m"].absences) == 1
    assert heard(batches[CUT + 180 :], again) == heard(batches[CUT + 180 :], engine)
