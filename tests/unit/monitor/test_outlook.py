"""Where a run regained less than half of the loss, none is asked for again in that condition, and people are told."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest
from irisloop.labeling.v1 import labeling_pb2
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import VERSION_JUDGED
from irisloop.trainer.v1 import trainer_pb2

from services.common.bus import Event, MemoryBus
from services.monitor import wire, wire_said
from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import Alert, DriftFound, Outlook, Refusal, Regain, Request
from services.monitor.domain.inputs import PredictionOf, RunEnded, Tried, VersionKnown
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.views.explaining import reasons, unknowns
from tests.unit.monitor.worlds import EPOCH, World, policy


def eager() -> Policy:
    """Asks again ten seconds after a run."""
    shipped = policy()
    return replace(
        shipped, retrain=replace(shipped.retrain, cooldown_seconds=10.0, cooldown_trainings=0.0, labels_between=0)
    )


def lived(tried: Tried | None, *, further: float = 0.0, restart: bool = False) -> World:
    """A harmful drift of four cameras; the run of each request is refused by its gates two seconds later. From frame
    6,500 on the pictures move `further`.
    """
    world, engine, owed = World(1, frames=9500, shift=1.5, error_after=0.38), Engine.new(eager()), 0
    after = replace(world, shift=1.5 + further)
    for batch, later in zip(world.inputs(), after.inputs(), strict=True):
        now = engine.clock
        world.heard(engine.feed(later if now >= world.time(6500) else batch))
        after.incident = world.incident
        asked = [f for f in world.of(Request) if isinstance(f, Request)]
        if len(asked) > owed and now >= asked[owed].at + 2.0:
            request, owed = asked[owed], owed + 1
            ended = RunEnded(now + 1, f"run-{owed}", "", "m", request.id, True, "", 1.0, tried)
            judged = VersionKnown(now + 2, f"judged-{owed}", "", "m", f"1.{owed}", request.id, "rejected", 0.3, 200)
            world.heard(engine.feed([("trainer/0", False, ended), ("registry/0", False, judged)]))
            if restart:
                pieces, engine = dict(Snapshots().changed(engine)), Engine.new(eager())
                rebuild(engine, pieces)
    world.heard(engine.drain())
    return world


def asked(world: World) -> list[Request]:
    return [f for f in world.findings if isinstance(f, Request)]


def reasons_of(world: World) -> list[str]:
    return [f.reason for f in world.findings if isinstance(f, Refusal) and f.reason.startswith("not_recoverable")]


POOR, GOOD = Tried(0.34, 0.38, 150), Tried(0.16, 0.38, 150)


@pytest.mark.parametrize("restart", [False, True])
def test_no_second_request_is_made_where_a_run_regained_too_little(restart: bool) -> None:
    world = lived(POOR, restart=restart)
    assert len(asked(world)) == 1
    (refused,) = reasons_of(world)
    assert "16% of the loss" in refused and "clean the lens" in refused
    last = [f for f in world.findings if isinstance(f, DriftFound)][-1].incident
    assert last.regain is not None and (last.regain.outlook, last.regain.by) == (Outlook.NOT_RECOVERABLE, "run")
    (told,) = [f for f in world.findings if isinstance(f, Alert) and "not recoverable by training" in f.summary]
    assert (told.severity, told.kind) == ("ticket", "escalated")
    assert sum(h.what == "tried" for h in last.history) == 1


def test_the_refusal_carries_what_was_regained() -> None:
    world = lived(POOR)
    (refusal,) = [f for f in world.findings if isinstance(f, Refusal) and f.reason.startswith("not_recoverable")]
    assert refusal.numbers is not None
    assert (refusal.numbers.regain_by, refusal.numbers.regain_labels) == ("run", 150)
    assert refusal.numbers.regain == pytest.approx(0.04 / (0.38 - 0.13), abs=0.03)


@pytest.mark.parametrize("tried", [GOOD, None])
def test_it_is_asked_again_where_a_run_regained_enough_or_nothing_is_known(tried: Tried | None) -> None:
    world = lived(tried)
    assert len(asked(world)) >= 2
    assert not reasons_of(world)


def test_it_is_asked_again_once_the_pictures_have_moved_on() -> None:
    world = lived(POOR, further=2.0)
    first, second = asked(world)[:2]
    assert first.at < world.time(6500) <= second.at
    assert len(reasons_of(world)) >= 1


async def heard(judged: registry_pb2.VersionJudged) -> VersionKnown:
    bus = MemoryBus(service="registry")
    await bus.publish([Event(VERSION_JUDGED, "m", judged, str(uuid4()), wire.moment(EPOCH))])
    item = wire.input_of(bus.events(VERSION_JUDGED)[-1])
    assert isinstance(item, VersionKnown)
    return item


async def test_a_report_tells_what_a_run_regained_on_the_new_condition_only() -> None:
    report = trainer_pb2.EvaluationReport()
    for role, new in (("challenger", 0.8), ("champion", 0.6)):
        score = report.scores.add(role=role)
        score.conditions.add(condition="all", assets=400, accuracy=0.85)
        score.conditions.add(condition="new", assets=120, accuracy=new)
    judged = registry_pb2.VersionJudged(version=registry_pb2.ModelVersion(model="m", version="2", report=report))
    judged.request_id = "r"
    tried = (await heard(judged)).tried
    assert tried is not None and tried.assets == 120
    assert (tried.error, tried.champion_error) == pytest.approx((0.2, 0.4))
    del judged.version.report.scores[1].conditions[1]
    assert (await heard(judged)).tried is None


def test_a_label_brings_the_features_of_its_prediction() -> None:
    features = serving_pb2.Features(margin=0.5, projections=range(8))
    features.pixels.brightness = 0.25
    said = labeling_pb2.PredictionReference(model="m", version="1", role="champion", class_name="a", features=features)
    found = wire._prediction_of(said, labeling_pb2.Annotation())
    assert len(found.features) == WIDTH and (found.features[0], found.features[10]) == (0.25, 0.5)
    said.ClearField("features")
    assert wire._prediction_of(said, labeling_pb2.Annotation()) == PredictionOf("m", "1", "champion", "a", 0.0)


def test_what_is_regained_goes_over_the_wire_and_is_said_in_words() -> None:
    world = lived(POOR)
    incident = [f for f in world.findings if isinstance(f, DriftFound)][-1].incident
    message = wire.incident_message(incident)
    assert message.regain.outlook == pb.TRAINING_OUTLOOK_NOT_RECOVERABLE
    assert wire_said.incident_of(message).regain == incident.regain
    assert any("not recoverable by training" in line and "150 held-out assets" in line for line in reasons(incident))
    assert not any("retraining would help" in line for line in unknowns(incident))
    probed = replace(incident, regain=Regain(Outlook.UNKNOWN, 0.3, 0.1, 0.5, 200, "probe"))
    assert any("regains 30.0 % of it" in line and "no less" in line for line in reasons(probed))
    assert any("retraining would help" in line for line in unknowns(probed))
