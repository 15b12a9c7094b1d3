"""A rollout on the bus: aliases, predictions and errors in, judgements out with ids that a repetition shares."""

from __future__ import annotations

from typing import Any

from irisloop.registry.v1 import registry_pb2
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import ALIASES_PUBLISHED, CHALLENGER_JUDGED, PREDICTION_MADE

from services.common.bus import Event, MemoryBroker, MemoryBus
from services.common.metrics import MONITOR_CHALLENGER_PAIRS
from services.monitor import wire
from services.monitor.handlers import Judge
from services.monitor.inbound.stream import DriftStream
from tests.unit.monitor.worlds import EPOCH, policy


def rollout() -> Event[Any]:
    value = registry_pb2.AliasesPublished(model="m", revision=1)
    value.rollout.id, value.rollout.champion, value.rollout.challenger = "r1", "1", "2"
    value.rollout.stage = registry_pb2.STAGE_SHADOW
    value.rollout.started_at.CopyFrom(wire.stamp(EPOCH))
    return Event(ALIASES_PUBLISHED, "m", value, "aliases", wire.moment(EPOCH))


def prediction(n: int, version: str) -> Event[Any]:
    """The challenger fails on every image that the champion answers."""
    at = EPOCH + 1 + n
    one = serving_pb2.Prediction(
        id=f"p{n}/{version}",
        asset_id=f"a{n}",
        camera_id="c",
        model="m",
        version=version,
        role="champion" if version == "1" else "shadow",
        captured_at=wire.stamp(at),
        pair_id=f"a{n}",
        rollout_id="r1",
    )
    if version == "1":
        one.scores.add(class_name="x", score=0.9)
    else:
        one.error = "cannot be computed"
    return Event(PREDICTION_MADE, "camera/c", serving_pb2.PredictionMade(prediction=one), one.id, wire.moment(at))


async def said() -> list[tuple[str, Any]]:
    bus = MemoryBus(MemoryBroker(), service="monitor")
    bus.stream(DriftStream(Judge(policy()), pace=0.0).stream())
    await bus.publish([rollout(), *(prediction(n, version) for n in range(40) for version in "12")])
    await bus.settle()
    await bus.settle()
    assert bus.dead_letters(PREDICTION_MADE) == bus.dead_letters(ALIASES_PUBLISHED) == []
    return [(d.ce_id, d.value) for d in bus.events(CHALLENGER_JUDGED)]


async def test_a_judgement_is_said_with_its_numbers_and_the_same_again_after_a_replay() -> None:
    first = await said()
    assert [one.verdict for _, one in first] == ["worse"]
    (judged,) = [one for _, one in first]
    tests = {test.name: test for test in judged.tests}
    assert (judged.rollout_id, judged.champion, judged.challenger) == ("r1", "1", "2")
    assert tests["errors"].rejected
    assert tests["errors"].e_value >= 1 / tests["errors"].alpha
    assert tests["errors"].outcomes == judged.pairs
    assert judged.coverage > 0.9
    assert MONITOR_CHALLENGER_PAIRS.labels("m")._value.get() == judged.pairs
    assert await said() == first
