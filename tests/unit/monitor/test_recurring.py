"""What was seen before is told as such, and a version that was at home in it is proposed before a retraining."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import yaml

from services.monitor import wire, wire_said
from services.monitor.domain.case import Case
from services.monitor.domain.condition import Condition, near
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import CameraFault, Cause, DriftFound, Finding, Harm, Recurrence, Shape, State
from services.monitor.domain.fault import Fault
from services.monitor.domain.former import CONDITIONS, VERSIONS, Earlier, Former
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.domain.recurring import leave, stored_for
from services.monitor.domain.snapshot import load
from services.monitor.views.explaining import reasons
from tests.bench.monitor.starts import Lens, seen
from tests.unit.monitor.returns import Lights, Phase, course
from tests.unit.monitor.worlds import EPOCH, POLICY_FILE, policy

WAIT = 120.0
BACK = 850
"""When the last light of `course` comes."""


def rules(wait: float = WAIT) -> Policy:
    """As shipped, but with nothing besides the wait that holds a request up."""
    shipped = policy()
    retrain = replace(
        shipped.retrain, stored_wait_seconds=wait, cooldown_seconds=60.0, cooldown_trainings=0.0, labels_between=0
    )
    return replace(shipped, retrain=retrain)


@cache
def judged(last: str, wait: float = WAIT, obeys: bool = False) -> Lights:
    world = Lights(1, course(last), obeys=obeys)
    world.run(rules(wait))
    return world


def unlabelled(*phases: Phase, seed: int = 1) -> tuple[Lights, Engine]:
    world = Lights(seed, phases, labelled=0.0)
    return world, world.run(rules())


def test_a_light_that_comes_back_recurs_and_the_version_of_then_is_proposed_once_before_a_retraining() -> None:
    world = judged("A")
    last = world.incidents()[-1]
    assert (last.version, last.shape) == ("2", Shape.RECURRING)
    assert last.recurs is not None
    assert (last.recurs.version, last.recurs.incident_id) == ("1", "")
    assert EPOCH + 350 <= last.recurs.version_at <= EPOCH + 380
    (refusal,) = world.refusals("stored_model: version 1 ")
    (proposal,) = world.proposals()
    assert proposal.severity == "ticket"
    assert "irisloop models promote m 1;" in proposal.summary
    assert refusal.at == proposal.at
    first, second = world.requests()
    assert first.version == "1"
    assert second.version == "2"
    assert proposal.at + WAIT <= second.at <= proposal.at + WAIT + 2
    assert [h.what for h in last.history].count("recurs") == 1


def test_who_goes_back_needs_no_retraining() -> None:
    world = judged("A", obeys=True)
    assert len(world.requests()) == 1
    _, last = world.incidents()  # Version 1 sees what is normal for it, from its first block on.
    assert (last.shape, last.state) == (Shape.RECURRING, State.OK)
    assert last.history[-1].why == "version 1 is the champion"


def test_a_third_light_does_not_recur() -> None:
    world = judged("C")
    last = world.incidents()[-1]
    assert (last.version, last.harm) == ("2", Harm.CROSSED)
    assert last.shape is not Shape.RECURRING
    assert last.recurs is None
    assert not world.proposals()
    assert [request.version for request in world.requests()] == ["1", "2"]


def test_nothing_is_proposed_where_the_policy_waits_for_nobody() -> None:
    world = judged("A", wait=0.0)
    assert world.incidents()[-1].shape is Shape.RECURRING
    assert not world.proposals()
    assert not world.refusals("stored_model")
    assert world.requests()[-1].at < judged("A").requests()[-1].at


def test_half_way_back_is_not_back() -> None:
    world, _ = unlabelled(*course("B", part=0.5))
    last = world.incidents()[-1]
    assert last.level_since
    assert last.recurs is None


def test_the_shape_does_not_flip() -> None:
    shapes = [f.incident.shape for f in judged("A").findings if isinstance(f, DriftFound) and f.incident.version == "2"]
    first = shapes.index(Shape.RECURRING)
    assert set(shapes[first:]) == {Shape.RECURRING}


@pytest.mark.parametrize(("light", "recurs"), [("B", True), ("C", False)])
def test_a_change_is_told_from_an_earlier_one_of_the_same_version(light: str, recurs: bool) -> None:
    world, engine = unlabelled(Phase(350, "A", "1"), Phase(150, "B", "1"), Phase(500, "A", "1"), Phase(200, light, "1"))
    first, second = world.incidents()
    assert first.history[-1].why == "the channels are as before"
    assert [one.incident_id for one in engine.models["m"].former.conditions] == [first.id]
    assert (second.shape is Shape.RECURRING) is recurs
    assert second.recurs == (Recurrence(first.id, first.began_at) if recurs else None)


def test_a_version_that_was_left_again_while_all_looked_as_usual_is_not_proposed() -> None:
    """Version 2 learnt B and was rolled back from in B: it was not at home there."""
    world, engine = unlabelled(Phase(350, "A", "1"), Phase(150, "B", "1"), Phase(350, "B", "2"), Phase(200, "B", "1"))
    assert [homes.version for homes in engine.models["m"].former.homes] == ["1"]
    last = world.incidents()[-1]
    assert last.version == "1"
    assert last.recurs is not None  # It is the change of before.
    assert (last.recurs.version, last.recurs.incident_id) == ("", world.incidents()[0].id)


def test_a_version_that_was_left_because_another_light_came_is_proposed_when_its_own_is_back() -> None:
    world, _ = unlabelled(*course("A", 150), Phase(350, "A", "1"), Phase(200, "B", "1"))
    assert [i.recurs.version for i in world.incidents() if i.recurs is not None] == ["1", "2"]


def test_pixels_are_no_anchor_for_the_version_that_follows_an_alarm() -> None:
    """What was long normal would raise an alarm of the version that was trained for what came then."""
    engine, lens, said = Engine.new(policy()), Lens("camera-0", 3), list[Finding]()
    values = lens.frames(6_500, 60.0)
    values[5_000:, :3] += 5.0 * values[:5_000, :3].std(axis=0)
    for n, row in enumerate(values):
        said += engine.feed([("p", True, seen(lens, n, EPOCH + n * 60.0, row, "1" if n < 5_300 else "2"))])
    assert {f.incident.version for f in said if isinstance(f, DriftFound)} == {"1"}
    camera = engine.models["m"].cameras["camera-0"]
    assert camera.reference is not None
    assert (len(camera.reference.held), camera.state >= State.OK) == (0, True)


@pytest.mark.parametrize("cut", [BACK + 20, BACK + 100])
def test_an_engine_out_of_pieces_goes_on_alike(cut: int) -> None:
    world, pieces = Lights(1, course("A")), dict[str, bytes]()
    engine, snapshots = Engine.new(rules()), Snapshots()
    for now, batch in enumerate(world.batches()):
        if now % 20 == 0 or now == cut:
            pieces |= dict(snapshots.changed(engine))
        if now == cut:
            engine = Engine.new(rules())
            rebuild(engine, pieces)
        world.hear(engine.feed(batch))
    world.hear(engine.drain())
    assert world.findings == judged("A").findings


def test_homes_are_written_once_and_state_of_before_has_none() -> None:
    world, snapshots, count = Lights(1, course("A", 60), labelled=0.0), Snapshots(), dict[str, int]()
    engine, pieces = Engine.new(rules()), dict[str, bytes]()
    for now, batch in enumerate(world.batches()):
        engine.feed(batch)
        for key, piece in snapshots.changed(engine) if now % 10 == 9 else ():
            pieces[key] = piece
            count[key] = count.get(key, 0) + 1
    whole = count["@keyframe"]
    assert count["m@former/0"] <= whole + 1
    assert count["m@former"] <= whole + 2
    assert sorted(load(pieces["m@former/0"])) == [f"camera-{n}" for n in range(4)]
    old = Engine.new(rules())
    rebuild(old, {key: piece for key, piece in pieces.items() if not key.startswith("m@former")})
    assert old.models["m"].former == Former()
    new = Engine.new(rules())
    rebuild(new, pieces)
    assert [homes.version for homes in new.models["m"].former.homes] == ["1"]
    assert new.models["m"].former.homes[0].cameras.keys() == engine.models["m"].former.homes[0].cameras.keys()


def case(**known: object) -> Case:
    given = {"cause": Cause.SCENE, "cameras": ["gate"], "recurs": Recurrence(version="1", version_at=EPOCH), **known}
    return Case(id="i", model="m", version="2", traceparent="", trigger_asset_id="", detected_at=EPOCH, **given)  # type: ignore[arg-type]


def test_no_stored_version_mends_a_broken_camera_or_knows_new_names() -> None:
    watch = ModelWatch("m", "2")
    assert stored_for(watch, case()) == "1"
    assert stored_for(ModelWatch("m", "1"), case()) == ""
    assert stored_for(watch, case(cause=Cause.LABELS)) == ""
    dark = [CameraFault("gate", Fault.DARK.value, EPOCH, "", "")]
    assert stored_for(watch, case(cause=Cause.CAMERA, faults=dark)) == ""
    named = case(cause=Cause.LABELS, harm=Harm.CROSSED, state=State.CONFIRMED, class_names=["bag", "boot"])
    watch.cases.append(named)
    assert stored_for(watch, case()) == ""


def test_where_classes_changed_their_meaning_no_former_version_is_at_home() -> None:
    _, engine = unlabelled(*course("A", 30))
    watch = engine.models["m"]
    assert watch.former.homes
    watch.cases = [case(cause=Cause.LABELS, harm=Harm.CROSSED, state=State.CONFIRMED, class_names=["bag", "boot"])]
    watch.successor = "3"
    leave(watch, EPOCH + 900)
    assert not watch.former.homes


def test_only_so_much_is_remembered() -> None:
    _, engine = unlabelled(Phase(350, "A", "1"))
    cameras, former = engine.models["m"].cameras, Former()
    for n in range(VERSIONS + 3):
        former.leave(str(n), float(n), cameras, back=False)
    assert [homes.version for homes in former.homes] == [str(n) for n in range(3, VERSIONS + 3)]
    assert sorted(homes.slot for homes in former.homes) == [*range(VERSIONS)]
    former.leave("5", 99.0, cameras, back=False)
    assert [homes.version for homes in former.homes][-1] == "5"
    assert len(former.homes) == VERSIONS
    for n in range(CONDITIONS + 3):
        former.remember(Earlier(str(n), float(n), ("gate",), Condition("1", (), {"a": 1.0}, 0.1)))
    assert [one.incident_id for one in former.conditions] == [str(n) for n in range(3, CONDITIONS + 3)]
    former.forget("2", ["gate"])
    assert len(former.conditions) == CONDITIONS
    former.forget("1", ["gate"])
    assert not former.conditions


def test_doubt_speaks_against_it() -> None:
    assert near(apart=0.5, noise=0.4, size=25.0, tolerance=0.2)
    assert not near(apart=1.6, noise=0.4, size=25.0, tolerance=0.2)
    assert not near(apart=0.5, noise=1.1, size=25.0, tolerance=0.2)
    earlier = Condition("1", (), {"a": 3.0, "b": 0.0}, 0.2)
    assert earlier.is_back(Condition("1", (), {"a": 3.1, "b": 0.3}, 0.2), 0.2)
    assert not earlier.is_back(Condition("2", (), {"a": 3.1, "b": 0.3}, 0.2), 0.2)
    assert not earlier.is_back(Condition("1", (), {"a": 0.0, "b": 3.0}, 0.2), 0.2)
    vague = Condition("1", (), {"a": 1.0, "b": 0.0}, 0.9)
    assert vague.holds(Condition("1", (), {"a": 0.0, "b": 1.0}, 0.9), 0.2)
    assert not vague.is_back(vague, 0.2)


def test_a_wait_that_is_no_number_is_refused() -> None:
    document = yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8"))
    document["retrain"]["stored_wait_seconds"] = "an hour"
    with pytest.raises(ValueError, match=r"retrain\.stored_wait_seconds must be a number of at least 0, not 'an hour'"):
        Policy.read(document)
    del document["retrain"]["stored_wait_seconds"]
    assert Policy.read(document).retrain.stored_wait_seconds == 3600.0


def test_what_recurs_goes_over_the_wire_and_is_said_in_words() -> None:
    incident = replace(judged("A").incidents()[-1], recurs=Recurrence("before", EPOCH, "1", EPOCH + 60.0))
    message = wire.incident_message(incident)
    assert message.recurs.stored_version == "1"
    assert wire_said.incident_of(message).recurs == incident.recurs
    text = "\n".join(reasons(incident))
    assert "Shape: recurring: a condition seen before." in text
    assert "As in incident before, which began 2023-11-14 22:13:20 UTC." in text
    assert "irisloop models promote m 1" in text
    assert not wire.incident_message(replace(incident, recurs=None)).HasField("recurs")


def test_levels_are_of_alarmed_cameras_alone() -> None:
    _, engine = unlabelled(Phase(350, "A", "1"))
    assert not any(camera.levels for camera in engine.models["m"].cameras.values())
    world, engine = unlabelled(Phase(350, "A", "1"), Phase(400, "B", "1"))
    for camera in engine.models["m"].cameras.values():
        assert len(camera.levels) == 24
        assert camera.levels[-1][1].shape == (9,)
        assert np.isfinite(camera.levels[-1][1]).all()
    assert world.incidents()[-1].recurs is None
