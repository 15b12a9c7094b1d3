"""What the judge says about worlds whose truth is known."""

from __future__ import annotations

import pytest

from services.monitor.domain.events import Alert, Cause, DriftFound, Harm, Refusal, Request, Shape, State
from tests.unit.monitor.worlds import World

SEEDS = (1, 2, 3)


def incidents(world: World) -> list[DriftFound]:
    return [f for f in world.findings if isinstance(f, DriftFound)]


def requests(world: World) -> list[Request]:
    return [f for f in world.findings if isinstance(f, Request)]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_sudden_harmful_drift_is_confirmed_and_retraining_asked_for_once(seed: int) -> None:
    world = World(seed, shift=1.5, error_after=0.38)
    world.run()
    (request,) = requests(world)
    last = incidents(world)[-1].incident
    assert (last.state, last.harm, last.cause, last.shape) == (State.CONFIRMED, Harm.CROSSED, Cause.SCENE, Shape.SUDDEN)
    assert last.cameras == tuple(f"camera-{i}" for i in range(4))
    assert abs(world.frame(last.began_at) - world.onset) <= 60
    assert 0 <= world.frame(request.labels_since) - world.onset <= 120
    assert [f.severity for f in world.findings if isinstance(f, Alert)] == ["page"]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_request_waits_until_a_ramp_is_over(seed: int) -> None:
    world = World(seed, shift=2.5, ramp=1500, error_after=0.4)
    world.run()
    (request,) = requests(world)
    assert incidents(world)[-1].incident.shape is Shape.INCREMENTAL
    assert world.frame(request.at) >= world.onset + 1400
    assert abs(world.frame(request.labels_since) - world.onset - 1500) <= 250


@pytest.mark.parametrize("seed", SEEDS)
def test_a_drift_that_costs_nothing_is_called_harmless_and_wakes_nobody(seed: int) -> None:
    world = World(seed, shift=1.5, frames=12_000)
    world.run()
    after = [d.incident for d in incidents(world) if world.frame(d.incident.began_at) > world.onset - 100]
    assert after[0].state is State.ALARM
    assert any(i.harm is Harm.NONE and i.closed_at for i in after)
    assert not requests(world)
    assert "page" not in {f.severity for f in world.findings if isinstance(f, Alert)}
    assert any(f.reason.startswith("harmless") for f in world.findings if isinstance(f, Refusal))


@pytest.mark.parametrize("seed", SEEDS)
def test_swapped_class_names_are_found_by_labels_alone_and_named(seed: int) -> None:
    world = World(seed, swapped=(2, 7), frames=12_000)
    world.run()
    (request,) = requests(world)
    last = incidents(world)[-1].incident
    assert (last.cause, last.harm, last.state) == (Cause.LABELS, Harm.CROSSED, State.CONFIRMED)
    assert request.class_names == last.class_names == ("class-2", "class-7")
    assert request.cameras == last.cameras == tuple(f"camera-{i}" for i in range(4))
    assert world.onset - 20 <= world.frame(request.labels_since) <= world.onset + 1200


@pytest.mark.parametrize("seed", SEEDS)
def test_a_quiet_world_is_left_alone(seed: int) -> None:
    world = World(seed, frames=10_000)
    engine = world.run()
    assert not requests(world)
    assert not any(d.incident.state is State.CONFIRMED for d in incidents(world))
    assert engine.models["m"].state() in (State.OK, State.WARN, State.ALARM)
    assert engine.models["m"].seen == 10_000


def test_a_change_that_labels_cannot_decide_ends_and_the_next_is_held_against_the_error_before_it() -> None:
    little = World(7, shift=1.5, error_after=0.185, frames=30_000, budget=9_000)
    engine = little.run()
    watch = engine.models["m"]
    assert [f.reason.partition(":")[0] for f in little.findings if isinstance(f, Refusal)] == ["undecided"]
    assert not requests(little)
    assert not watch.cases
    assert abs(little.frame(watch.anchor) - little.onset) <= 250
    assert {camera.state for camera in watch.cameras.values()} <= {State.OK, State.WARN}
    more = World(7, shift=3.0, onset=0, error_after=0.3, frames=6_000, first=30_000)
    more.run(engine)
    (request,) = requests(more)
    found = next(i.incident for i in incidents(more) if i.incident.id == request.incident_id and i.incident.risk)
    assert found.risk is not None
    assert found.risk.baseline_error < 0.15
