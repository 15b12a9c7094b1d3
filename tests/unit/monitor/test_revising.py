"""A verdict on harm is held to the labels that it rests on: when these are corrected, it is revised, once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, DriftFound, Finding, Harm, Request, State
from services.monitor.domain.harm import by_labels, counts
from services.monitor.domain.inputs import Input, Labelled, PredictionOf
from services.monitor.domain.labels import Joined
from services.monitor.domain.pieces import Snapshots, rebuild
from tests.unit.monitor.worlds import EPOCH, World

LATER = EPOCH + 400.0


def corrections(engine: Engine, chosen: Callable[[Joined], bool], truth: Callable[[Joined], str]) -> list[Labelled]:
    """Second revisions of the chosen labels, later than all else; "" takes one back."""
    book = engine.models["m"].book
    found = []
    for place, e in enumerate(e for e in book.entries.values() if chosen(e)):
        said = engine.models["m"].version
        label = Labelled(
            LATER + place / 1000, f"c/{e.asset_id}", "", e.asset_id, e.camera_id, e.captured_at, e.revision + 1,
            truth(e), "other", 0.0, (_said(e, said),), "reviewer",
        )  # fmt: skip
        found.append(label)
    return found


def _said(e: Joined, version: str) -> PredictionOf:
    return PredictionOf("m", version, "champion", e.predicted, 0.9)


def hear(engine: Engine, labels: list[Labelled], at: float = LATER + 30.0) -> list[Finding]:
    """Take them, and let event time go on."""
    items: list[tuple[str, bool, Input]] = [("labels/0", False, label) for label in labels]
    findings = engine.feed(items)
    last = replace(labels[-1], at=at, ce_id=f"end/{at}", asset_id="nobody", predictions=())
    return [*findings, *engine.feed([("labels/0", False, last)]), *engine.drain()]


def harmful() -> tuple[World, Engine]:
    world = World(1, shift=1.5, error_after=0.38)
    engine = world.run()
    assert engine.models["m"].cases[0].harm is Harm.CROSSED
    return world, engine


def revisions(findings: list[Finding]) -> list[DriftFound]:
    return [f for f in findings if isinstance(f, DriftFound)]


def test_when_the_labels_that_crossed_were_wrong_the_verdict_is_revised_once_and_says_that_its_ground_is_gone() -> None:
    world, engine = harmful()
    watch = engine.models["m"]
    request, said = watch.ledger.open, [f for f in world.findings if isinstance(f, DriftFound)][-1]
    assert request is not None
    fixed = corrections(engine, lambda e: e.wrong and world.frame(e.captured_at) >= world.onset, lambda e: e.predicted)
    found = hear(engine, fixed)
    revised = revisions(found)[0]
    assert revised.incident.id == said.incident.id
    assert revised.revision == said.revision + 1
    assert revised.incident.harm is not Harm.CROSSED
    (line,) = [line for line in revised.incident.history if line.what == "revised"]
    assert f"request {request.id} stays open, and its ground is gone" in line.why
    assert watch.ledger.open == request
    assert not [f for f in found if isinstance(f, Request)]
    told = [f for f in found if isinstance(f, Alert) and f.kind == "revised"]
    assert [(f.severity, f.incident_id) for f in told] == [("ticket", said.incident.id)]
    again = hear(engine, [replace(one, at=one.at + 60) for one in fixed], LATER + 200)
    assert not [f for f in revisions(again) if f.incident.harm is Harm.CROSSED]
    assert not [f for f in again if isinstance(f, Alert) and f.kind == "revised"]


def test_labels_that_are_taken_back_leave_it_unknown() -> None:
    world, engine = harmful()
    found = hear(engine, corrections(engine, lambda e: world.frame(e.captured_at) >= world.onset, lambda _: ""))
    assert revisions(found)[0].incident.harm is Harm.UNKNOWN
    assert revisions(found)[0].incident.state is State.ALARM


def test_a_few_corrections_that_do_not_turn_the_evidence_say_nothing() -> None:
    world, engine = harmful()
    after = [
        e for e in engine.models["m"].book.entries.values() if e.wrong and world.frame(e.captured_at) >= world.onset
    ]
    few = {e.asset_id for e in after[:2]}
    found = hear(engine, corrections(engine, lambda e: e.asset_id in few, lambda e: e.predicted))
    assert not revisions(found)
    assert engine.models["m"].cases[0].harm is Harm.CROSSED


def test_a_verdict_that_the_labels_since_bear_out_stands_and_rests_on_these() -> None:
    world, engine = harmful()
    watch = engine.models["m"]
    incident = watch.cases[0].id
    decided = watch.grounds[incident].number
    fixed = corrections(
        engine,
        lambda e: e.wrong and e.first < decided and world.frame(e.captured_at) >= world.onset,
        lambda e: e.predicted,
    )
    assert len(fixed) > 5
    assert watch.book.count > decided + 100
    assert not revisions(hear(engine, fixed))
    assert watch.cases[0].harm is Harm.CROSSED
    ground = watch.grounds[incident]
    assert (ground.corrected, ground.number) == (0, watch.book.count)
    assert ground.verdict(engine.policy.harm) is Harm.CROSSED


@pytest.mark.parametrize("killed", [False, True])
def test_a_harmless_verdict_that_is_over_is_revised_too_also_after_a_kill(killed: bool) -> None:
    world = World(2, shift=1.5, frames=12_000)
    engine = world.run()
    closed = next(
        f for f in world.findings if isinstance(f, DriftFound) and f.incident.harm is Harm.NONE and f.incident.closed_at
    )
    if killed:
        written = dict(Snapshots().changed(engine))
        engine = Engine.new(engine.policy)
        rebuild(engine, written)
    since = closed.incident.began_at
    cameras = closed.incident.cameras
    turned = corrections(
        engine, lambda e: e.captured_at >= since and e.camera_id in cameras and not e.wrong, lambda _: "class-none"
    )
    found = hear(engine, turned[: len(turned) // 2])
    (revised,) = [f for f in revisions(found) if f.incident.id == closed.incident.id]
    assert (revised.revision, revised.incident.harm) == (closed.revision + 1, Harm.CROSSED)
    assert revised.incident.closed_at == closed.incident.closed_at
    assert revised.incident.history[-1].what == "revised"
    assert [f.kind for f in found if isinstance(f, Alert)] == ["revised"]
    assert engine.models["m"].incidents[-1].harm is Harm.CROSSED


def test_new_labels_alone_revise_nothing() -> None:
    world, engine = harmful()
    ground = engine.models["m"].grounds[engine.models["m"].cases[0].id]
    assert (ground.corrected, ground.harm) == (0, Harm.CROSSED)
    assert ground.verdict(engine.policy.harm) is Harm.CROSSED
    assert not [f for f in world.findings if isinstance(f, Alert) and f.kind == "revised"]


def test_what_labels_say_of_an_incident_is_the_same_when_it_is_judged_and_when_it_is_revised() -> None:
    """A verdict that is held to the same labels stands; it falls exactly when these would not have given it."""
    _, engine = harmful()
    watch = engine.models["m"]
    case, rules = watch.cases[0], engine.policy
    assert by_labels(watch, case, counts(watch, case), rules) is Harm.CROSSED
    fixed = corrections(engine, lambda e: e.wrong, lambda e: e.predicted)
    for part in (len(fixed) // 20, len(fixed)):
        said = revisions(hear(engine, fixed[:part], LATER + 30.0 + part))
        agreed = by_labels(watch, case, counts(watch, case), rules) is Harm.CROSSED
        assert bool(said) is not agreed
        assert (case.harm is Harm.CROSSED) is agreed
