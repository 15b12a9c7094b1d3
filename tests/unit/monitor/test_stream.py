"""The judge on the bus: what it says is said once, also when it is killed anywhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.serving.v1 import serving_pb2
from irisloop.topics import (
    ALERT_RAISED,
    DRIFT_DETECTED,
    PREDICTION_MADE,
    PROBE_REQUESTED,
    RETRAIN_REQUESTED,
)

from services.common.bus import Delivery, Event, MemoryBroker, MemoryBus, Topic
from services.monitor.domain.engine import Engine
from services.monitor.handlers import Judge
from services.monitor.inbound.stream import DriftStream
from tests.unit.monitor.records import event
from tests.unit.monitor.worlds import World, policy

SAID: tuple[Topic[Any], ...] = (DRIFT_DETECTED, ALERT_RAISED, RETRAIN_REQUESTED, PROBE_REQUESTED)


def said(bus: MemoryBus) -> list[tuple[str, bytes]]:
    """Everything the monitor said, with its ids."""
    return [(d.ce_id, d.value.SerializeToString()) for topic in SAID for d in bus.events(topic)]


def started(broker: MemoryBroker) -> tuple[MemoryBus, DriftStream]:
    bus = MemoryBus(broker, service="monitor")
    drift = DriftStream(Judge(policy()), pace=0.0)
    bus.stream(drift.stream())
    return bus, drift


def drifting() -> Iterable[list[Event[Any]]]:
    """A drifting world's records, in batches; labels are drawn as if an incident were open from the onset on."""
    world = World(5, frames=7000, shift=1.5, error_after=0.4, uniform=0.1)
    return [[event(item) for _, _, item in batch] for batch in world.inputs()]


async def play(batches: Iterable[list[Event[Any]]], *, killed_every: int = 0) -> MemoryBus:
    """Feed and settle; a kill leaves the bus and its judge behind and starts others on the same broker."""
    broker = MemoryBroker()
    bus, _ = started(broker)
    for number, batch in enumerate(batches):
        await bus.publish(batch)
        if number % 10 == 9:
            await bus.settle()
        if killed_every and number % killed_every == killed_every - 1:
            bus, _ = started(broker)
    await bus.settle()
    await bus.settle()
    return bus


@pytest.mark.parametrize("killed_every", [3, 17, 41])
async def test_a_killed_judge_goes_on_to_the_bit(killed_every: int) -> None:
    batches = list(drifting())
    assert said(await play(batches, killed_every=killed_every)) == said(await play(batches))


def probed() -> list[list[Event[Any]]]:
    """Records of a world whose classes change places, with what people say of old assets when a judge aside asks."""
    world, engine, batches = World(1, swapped=(2, 7), frames=7600), Engine.new(policy()), []
    for batch in world.inputs():
        batches.append([event(item) for _, _, item in batch])
        world.heard(engine.feed(batch))
    return batches


async def test_a_judge_that_is_killed_while_a_probe_is_held_goes_on_to_the_bit() -> None:
    batches = probed()
    bus = await play(batches, killed_every=23)
    assert said(bus) == said(await play(batches))
    (asked,) = bus.events(PROBE_REQUESTED)
    last = bus.events(DRIFT_DETECTED)[-1].value.incident
    assert (last.probe.id, last.probe.verdict) == (asked.value.probe_id, pb.PROBE_VERDICT_MOVED)
    assert last.state == pb.MONITOR_STATE_CONFIRMED


async def test_a_drift_is_said_with_the_trace_of_the_frame_that_raised_it() -> None:
    bus = await play(drifting())
    drifts = bus.events(DRIFT_DETECTED)
    (request,) = bus.events(RETRAIN_REQUESTED)
    first = drifts[0]
    assert first.value.revision == 1
    assert first.value.incident.state == pb.MONITOR_STATE_ALARM
    frames = {d.value.prediction.asset_id: d.traceparent for d in bus.events(PREDICTION_MADE)}
    said_later: list[Delivery[Any]] = [*drifts, request]
    trigger = frames[first.value.incident.trigger_asset_id]
    assert {d.traceparent.split("-")[1] for d in said_later} == {trigger.split("-")[1]}


async def test_a_prediction_without_a_model_is_a_dead_letter_and_the_rest_is_judged() -> None:
    bus, drift = started(MemoryBroker())
    good = event(next(iter(World(1).inputs()))[0][2])
    broken = serving_pb2.PredictionMade(prediction=serving_pb2.Prediction(camera_id="camera-0", version="1"))
    broken.prediction.scores.add(class_name="class-1", score=1)
    await bus.publish([good, Event(PREDICTION_MADE, "camera/camera-0", broken, "bad", good.ce_time)])
    await bus.settle()
    (letter,) = bus.dead_letters(PREDICTION_MADE)
    assert letter.value == broken.SerializeToString()
    assert drift.waiting_for() == ""
