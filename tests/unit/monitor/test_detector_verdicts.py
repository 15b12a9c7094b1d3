"""Harm of a detector: the loss of each frame lies between 0 and 1, and verdicts come as they do for classifiers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from services.monitor.domain.events import Alert, Cause, DriftFound, Harm, Request, Shape, State
from services.monitor.domain.inputs import Labelled
from tests.unit.monitor.worlds import World


@dataclass(slots=True)
class Detecting(World):
    """A detector's losses are spread evenly over 0 to twice the error; no two classes are ever confused."""

    def label(self, at: float, n: int, origin: str, truth: int, chance: np.ndarray) -> Labelled:
        made = World.label(self, at, n, origin, truth, chance)
        error = self.error_before + (self.error_after - self.error_before) * self.drifted(n)
        (said,) = made.predictions
        return replace(made, predictions=(replace(said, loss=float(2.0 * error * chance[0])),))


def test_a_drift_that_costs_a_detector_boxes_is_confirmed_and_a_retraining_asked_for_once() -> None:
    world = Detecting(1, shift=1.5, error_after=0.38)
    engine = world.run()
    (request,) = [f for f in world.findings if isinstance(f, Request)]
    last = [f for f in world.findings if isinstance(f, DriftFound)][-1].incident
    assert (last.state, last.harm, last.cause, last.shape) == (State.CONFIRMED, Harm.CROSSED, Cause.SCENE, Shape.SUDDEN)
    assert last.risk is not None
    assert 0.3 < last.risk.current_error < 0.45
    assert 0.1 < last.risk.baseline_error < 0.16
    assert request.class_names == ()
    assert engine.models["m"].labels.pairs == {}


def test_a_detector_that_errs_as_ever_is_left_alone() -> None:
    world = Detecting(2, frames=10_000)
    engine = world.run()
    assert not [f for f in world.findings if isinstance(f, Request | Alert)]
    baseline = engine.models["m"].labels.baseline()
    assert abs(baseline.error - 0.13) < 0.03
    assert any(isinstance(outcome, float) for outcome in engine.models["m"].labels.recent)


def test_losses_that_rise_alone_raise_the_alarm_of_labels() -> None:
    world = Detecting(3, frames=16_000, error_after=0.4, cameras=5)
    engine = world.run()
    found = [f.incident for f in world.findings if isinstance(f, DriftFound)]
    assert found
    assert found[0].cause is Cause.LABELS
    assert engine.models["m"].labels.pairs == {}
