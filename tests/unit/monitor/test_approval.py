"""Where the policy says so, a person is asked first: nothing is requested before the answer, and no means no."""

from __future__ import annotations

from dataclasses import replace

import pytest
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import RETRAIN_ANSWERED

from services.common.bus import MemoryBus
from services.common.errors import InvalidMessage, Unavailable
from services.monitor import wire
from services.monitor.commands import Commands
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, Refusal, Request
from services.monitor.domain.inputs import Answered
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.errors import NothingToAnswer
from services.monitor.handlers import Judge
from tests.unit.monitor.worlds import World, policy

ASKED = "awaits_person"


def asking() -> Engine:
    rules = replace(policy(), retrain=replace(policy().retrain, approval=True))
    return Engine.new(rules)


def live(answer: bool | None) -> World:
    """A harmful drift; the person answers two seconds after having been asked."""
    world, engine, due = World(1, shift=1.5, error_after=0.38), asking(), 0.0
    for batch in world.inputs():
        world.heard(engine.feed(batch))
        asked = [f for f in world.of(Refusal) if isinstance(f, Refusal) and f.reason.startswith(ASKED)]
        if asked and not due and answer is not None:
            due = asked[0].at + 2.0
            word = Answered(due, "answer", "", "m", asked[0].incident_id, answer, "ann", "the lens is dirty")
            world.heard(engine.feed([("answers/0", False, word)]))
    world.heard(engine.drain())
    return world


def test_without_an_answer_nothing_is_requested_and_people_are_told_once() -> None:
    world = live(None)
    assert not world.of(Request)
    (alert,) = [f for f in world.of(Alert) if isinstance(f, Alert) and f.severity == "ticket"]
    assert "retraining would pay (the harm costs" in alert.summary
    assert len([f for f in world.of(Refusal) if isinstance(f, Refusal) and f.reason.startswith(ASKED)]) == 1


def test_a_yes_becomes_a_request_and_a_no_is_said() -> None:
    world = live(True)
    (request,) = world.of(Request)
    refusals = [f for f in world.of(Refusal) if isinstance(f, Refusal)]
    asked = next(f for f in refusals if f.reason.startswith(ASKED))
    assert request.at == pytest.approx(asked.at + 2.0, abs=1.0)
    refused = live(False)
    assert not refused.of(Request)
    assert "person_refused: ann: the lens is dirty" in [f.reason for f in refused.of(Refusal) if isinstance(f, Refusal)]


async def test_an_answer_is_an_event_and_only_what_waits_can_be_answered() -> None:
    world, engine = World(1, shift=1.5, error_after=0.38), asking()
    for batch in world.inputs():
        world.heard(engine.feed(batch))
    judge, bus = Judge(engine.policy), MemoryBus(service="monitor")
    judge.restore(dict(Snapshots().changed(engine)))
    waiting = ""
    commands = Commands(judge, bus.publish, lambda: waiting)
    with pytest.raises(InvalidMessage, match="model is empty"):
        await commands.answer(pb.AnswerRetrainRequest(), "local")
    for request in (pb.AnswerRetrainRequest(model="other"), pb.AnswerRetrainRequest(model="m", incident_id="x")):
        with pytest.raises(NothingToAnswer, match="waits for a person"):
            await commands.answer(request, "local")
    waiting = "the judge's state"
    with pytest.raises(Unavailable, match="waits for the judge's state"):
        await commands.answer(pb.AnswerRetrainRequest(model="m", approve=True), "local")
    waiting = ""
    said = await commands.answer(pb.AnswerRetrainRequest(model="m", approve=True), "ann")
    (heard,) = bus.events(RETRAIN_ANSWERED)
    assert heard.value == said
    item = wire.input_of(heard)
    assert isinstance(item, Answered)
    case = engine.models["m"].case
    assert case is not None and (item.incident_id, item.approved, item.by) == (case.id, True, "ann")
    engine.drain()
    for seconds in (5, 10):  # what was heard counts at the next look, a second of event time later
        engine.feed([("answers/0", False, replace(item, at=engine.clock + seconds, ce_id=f"answer-{seconds}"))])
    assert any(isinstance(f, Request) for f in engine.drain())


def test_an_answer_outlives_a_restart() -> None:
    world, engine = World(1, shift=1.5, error_after=0.38), asking()
    for batch in world.inputs():
        world.heard(engine.feed(batch))
    case = engine.models["m"].case
    assert case is not None
    engine.feed([("answers/0", False, Answered(engine.clock, "answer", "", "m", case.id, False, "ann", ""))])
    engine.drain()
    again = Engine.new(engine.policy)
    rebuild(again, dict(Snapshots().changed(engine)))
    restored = again.models["m"].case
    assert restored is not None and restored.answer == case.answer is not None
