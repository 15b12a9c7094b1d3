"""What the judge makes of a blind probe: it asks before it believes that classes changed, and says what it heard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.monitor.domain.case import Case
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, Cause, DriftFound, Harm, Incident, Refusal, Request, State
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.inputs import Labelled
from services.monitor.domain.model import ModelWatch
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.domain.probe import Probe
from services.monitor.domain.probe_events import ProbeEnded, ProbeRequest, ProbeVerdict, Reread
from services.monitor.domain.probing import hear, judge
from tests.unit.monitor.old_answers import OldAnswers
from tests.unit.monitor.rereadings import reread
from tests.unit.monitor.worlds import EPOCH, World, policy

SWAPPED = ("class-2", "class-7")


def with_probe(**fields: float) -> Policy:
    plain = policy()
    return replace(plain, probe=replace(plain.probe, **fields))  # type: ignore[arg-type]


def swapped(seed: int = 1, **fields: object) -> World:
    return World(seed, swapped=(2, 7), frames=12_000, **fields)  # type: ignore[arg-type]


class Forgetful(OldAnswers):
    """Nothing that was answered before the change is left."""

    def note(self, label: Labelled) -> None:
        """Forget it."""


class Stutterer(OldAnswers):
    """Says everything twice, and the same of a probe that nobody asked for."""

    def due(self, now: float) -> list[Reread | ProbeEnded]:
        """Three of each."""
        ready = OldAnswers.due(self, now)
        strange = [replace(one, probe_id="another", ce_id=f"x{one.ce_id}") for one in ready]
        return [*ready, *ready, *strange]


class Hasty(OldAnswers):
    """The end is heard a second before the answers."""

    def ask(self, request: ProbeRequest) -> None:
        """Its time is before theirs."""
        OldAnswers.ask(self, request)
        end = self.waiting.pop()
        self.waiting.insert(0, replace(end, at=request.at + self.delay - 1.0))


def incidents(world: World) -> list[Incident]:
    """Every word about the incident of labels, in order."""
    said = [f.incident for f in world.findings if isinstance(f, DriftFound)]
    wanted = {i.id for i in said if i.cause is Cause.LABELS}
    return [i for i in said if i.id in wanted]


def lines(incident: Incident) -> list[tuple[str, str]]:
    return [(h.what, h.why) for h in incident.history]


def position(world: World, chosen: Callable[[object], bool]) -> int:
    return next(n for n, finding in enumerate(world.findings) if chosen(finding))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_concept_drift_is_confirmed_only_after_old_answers_are_other_now(seed: int) -> None:
    world = swapped(seed)
    world.run()
    (asked,) = [f for f in world.findings if isinstance(f, ProbeRequest)]
    assert (asked.class_names, asked.assets, asked.until) == (SWAPPED, 30, asked.at + 14_400.0)
    assert set(asked.cameras) >= {f"camera-{i}" for i in range(4)}
    assert world.onset - 20 <= world.frame(asked.answered_before) <= world.onset + 1200
    words = incidents(world)
    waiting = [i for i in words if i.probe is not None and i.probe.verdict is ProbeVerdict.ASKED]
    assert {(i.state, i.harm) for i in waiting} == {(State.ALARM, Harm.CROSSED)}
    confirmed = next(i for i in words if i.state is State.CONFIRMED)
    assert confirmed.probe is not None
    assert confirmed.probe.verdict is ProbeVerdict.MOVED
    assert confirmed.probe.suspected == 18
    assert confirmed.probe.suspected_changed >= 13
    assert (confirmed.probe.others, confirmed.probe.others_changed) == (12, 0)
    assert confirmed.class_names == SWAPPED
    (refusal,) = [f for f in world.findings if isinstance(f, Refusal) and f.reason.startswith("awaits_probe")]
    (request,) = [f for f in world.findings if isinstance(f, Request)]
    assert asked.at <= refusal.at < request.at
    assert request.at >= asked.at + world.old.delay


def test_the_history_and_a_notice_name_the_classes_since_when_and_the_answers() -> None:
    world = swapped()
    world.run()
    last = incidents(world)[-1]
    why = "18 of 18 old answers about class-2, class-7 are other now, 0 of 12 about other classes"
    assert ("probe asked", "30 old answers, most about class-2, class-7") in lines(last)
    assert ("probe moved", why) in lines(last)
    assert any(what == "confirmed" and said.endswith(why) for what, said in lines(last))
    (concept,) = [f for f in world.findings if isinstance(f, Alert) and "something else" in f.summary]
    assert (concept.severity, concept.kind) == ("ticket", "escalated")
    assert "classes class-2, class-7 mean something else since 2023-11-14 22:14" in concept.summary


def test_old_answers_that_stand_make_it_the_inputs_and_no_change_of_classes() -> None:
    """The model errs on the new frames of two classes as if they had changed places, and people agree on old ones."""
    world = swapped()
    world.old.read = lambda label, who: label.class_name
    world.run()
    last = incidents(world)[-1]
    assert last.probe is not None
    assert last.probe.verdict is ProbeVerdict.STANDS
    assert (last.cause, last.state, last.class_names) == (Cause.SCENE, State.CONFIRMED, ())
    assert ("cause", "inputs, not labels: the classes mean what they meant before") in lines(last)
    assert not [i for i in incidents(world) if i.cause is Cause.LABELS and i.state is State.CONFIRMED]
    (request,) = [f for f in world.findings if isinstance(f, Request)]
    assert (request.class_names, request.reason.partition(":")[0]) == ((), "scene")
    assert not last.closed_at
    assert len({i.id for i in incidents(world)}) == 1


def test_an_unanswered_probe_lets_labels_decide_at_its_deadline_and_says_so() -> None:
    world = swapped(again=False)
    world.run(Engine.new(with_probe(wait_seconds=10.0)))
    (asked,) = [f for f in world.findings if isinstance(f, ProbeRequest)]
    confirmed = next(i for i in incidents(world) if i.state is State.CONFIRMED)
    (at,) = [h.at for h in confirmed.history if h.what == "confirmed"]
    assert asked.until <= at <= asked.until + 1.0
    assert confirmed.probe is not None
    assert confirmed.probe.verdict is ProbeVerdict.UNDECIDED
    assert confirmed.probe.why.startswith("0 of 30 old assets were answered again")
    assert confirmed.class_names == SWAPPED
    assert [f for f in world.findings if isinstance(f, Request)]


def test_a_probe_that_finds_no_assets_lets_labels_decide_at_once() -> None:
    world = swapped()
    world.old = Forgetful(world.old.read)
    world.run()
    confirmed = next(i for i in incidents(world) if i.state is State.CONFIRMED)
    assert confirmed.probe is not None
    assert confirmed.probe.why == "no asset of class-2, class-7 is left that was answered before the change"


def test_a_policy_without_a_probe_confirms_by_labels_alone() -> None:
    world = swapped(again=False)
    world.run(Engine.new(with_probe(assets=0)))
    assert not [f for f in world.findings if isinstance(f, ProbeRequest)]
    confirmed = next(i for i in incidents(world) if i.state is State.CONFIRMED)
    assert (confirmed.probe, confirmed.class_names) == (None, SWAPPED)


def test_one_annotator_of_three_who_answers_otherwise_is_named_and_left_out() -> None:
    """Old answers stand with everybody but `ben`: nothing is retrained for what he says."""
    world = swapped()

    def says(label: Labelled, who: str) -> str:
        return "class-0" if who == "ben" else label.class_name

    world.old.read, world.old.annotators = says, ("ann", "ben", "cid")
    engine = world.run()
    named = [i for i in incidents(world) if i.probe is not None and i.probe.annotator]
    assert {i.probe.annotator for i in named if i.probe is not None} == {"ben"}
    assert "ben" in engine.models["m"].doubted
    assert any(what == "annotator doubted" and "of 10 old answers" in why for what, why in lines(named[-1]))
    assert not [i for i in incidents(world) if i.cause is Cause.LABELS and i.state is State.CONFIRMED]


def test_repeated_answers_and_answers_of_other_probes_count_once_and_never() -> None:
    world, plain = swapped(), swapped()
    plain.run()
    world.old = Stutterer(world.old.read)
    world.run()
    assert incidents(world) == incidents(plain)


def test_an_end_that_comes_before_the_last_answer_waits_for_it() -> None:
    world = swapped()
    world.old = Hasty(world.old.read)
    world.run()
    confirmed = next(i for i in incidents(world) if i.state is State.CONFIRMED)
    assert confirmed.probe is not None
    assert confirmed.probe.verdict is ProbeVerdict.MOVED


def test_a_judge_put_back_while_a_probe_is_held_goes_on_to_the_bit() -> None:
    world = swapped(2)
    engine, snapshots = Engine.new(policy()), Snapshots()
    written: dict[str, bytes] = {}
    copy: Engine | None = None
    others: list[object] = []
    expected: list[object] = []
    for batch in world.inputs():
        if copy is None and any(f for f in world.findings if isinstance(f, ProbeRequest)):
            case = engine.models["m"].case
            if case is not None and case.probe is not None and len(case.probe.answers) > 10:
                copy = Engine.new(policy())
                rebuild(copy, written)
        said = engine.feed(batch)
        world.heard(said)
        if copy is not None:
            others += copy.feed(batch)
            expected += said
        else:
            written.update(snapshots.changed(engine))
    assert copy is not None
    assert others == expected
    assert any(isinstance(f, Request) for f in expected)
    assert dict(Snapshots().changed(copy)) == dict(Snapshots().changed(engine))


def test_where_classes_moved_and_somebody_is_left_out_the_scope_stays_the_classes() -> None:
    """By hand: ten answers of `ben` about other classes are other, beside those of three who agree."""
    watch = ModelWatch("m", "1")
    case = Case("i", "m", "1", "", "a", EPOCH, Cause.LABELS, harm=Harm.CROSSED, class_names=["coat", "shirt"])
    watch.cases.append(case)
    case.probe = Probe("p", EPOCH, EPOCH + 9.0, 60, ("coat", "shirt"))
    people = ["ann", "cid", "dora"]
    given = [("coat" if n % 2 else "shirt", people[n % 3], True) for n in range(24)]
    given += [("boot", people[n % 3], False) for n in range(18)] + [("boot", "ben", True)] * 10
    for place, (name, who, changed) in enumerate(given):
        hear(reread(place, name, who, changed), watch)
    hear(ProbeEnded(EPOCH + 1.0, "e", "", "m", "p", "answered", len(given), len(given)), watch)
    judge(watch, case, Board(), EPOCH + 2.0, policy())
    assert (case.probe.verdict, case.probe.annotator) == (ProbeVerdict.MOVED, "ben")
    assert list(watch.doubted) == ["ben"]
    assert (str(case.scope), case.harm) == ("class coat, shirt", Harm.CROSSED)
    assert [h.what for h in case.history] == ["probe moved", "annotator doubted"]
