"""Draws: as often as they say, the same in every replay, within their budget, spread over cameras and time."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import pytest

from services.labeling.domain.drawing import DrawPolicy, Rate, draw_arriving, sample, unit
from services.labeling.domain.model import Origin, Prediction, Reference
from tests.unit.labeling.world import SECOND, START


def prediction(number: int, *, camera: str = "gate-1", at: int = 0, margin: float = 0.9) -> Prediction:
    return Prediction(
        Reference(f"p-{number}", "garments", "1", "champion", "coat", 0.9),
        f"asset-{number}",
        camera,
        START + at,
        margin,
    )


def test_numbers_are_uniform_and_of_different_purposes_independent() -> None:
    one = [unit("uniform", f"asset-{n}") for n in range(20_000)]
    two = [unit("uncertainty", f"asset-{n}") for n in range(20_000)]
    assert fmean(one) == pytest.approx(0.5, abs=0.01)
    assert fmean(a * b for a, b in zip(one, two, strict=True)) == pytest.approx(0.25, abs=0.01)
    assert one[:100] == [unit("uniform", f"asset-{n}") for n in range(100)]


@pytest.mark.parametrize("factor", [1.0, 0.4])
def test_as_many_are_drawn_as_the_logged_propensities_say(factor: float) -> None:
    policy = DrawPolicy(uniform_share=0.08, uncertainty_share=0.4)
    predictions = [prediction(n, margin=(n % 100) / 100) for n in range(50_000)]
    draws = [draw_arriving(one, policy, factor, uncertain=True) for one in predictions]
    uniform = [draw for draw in draws if draw is not None and draw.origin is Origin.UNIFORM]
    assert len(uniform) == pytest.approx(0.08 * factor * 50_000, rel=0.06)
    assert {draw.propensity for draw in uniform} == {0.08 * factor}
    # Horvitz-Thompson: the sum of 1/propensity over the drawn is the number of those that could be drawn.
    uncertain = [draw for draw in draws if draw is not None and draw.origin is Origin.UNCERTAINTY]
    assert sum(1 / draw.propensity for draw in uncertain) == pytest.approx(50_000, rel=0.15)
    sure, unsure = Counter[bool](), Counter[bool]()
    for one, draw in zip(predictions, draws, strict=True):
        drawn = draw is not None and draw.origin is Origin.UNCERTAINTY
        (sure if one.margin > 0.5 else unsure)[drawn] += 1
    assert unsure[True] > 4 * sure[True]


def test_the_budget_bounds_tasks_by_event_time_and_never_below_the_floor() -> None:
    policy = DrawPolicy(uniform_share=0.08, uncertainty_share=0.0, tasks_per_second=2.0, uniform_floor=0.01)
    rate = Rate()
    assert rate.factor(policy.tasks_per_second) == 1.0
    for n in range(3_000):
        rate.observe(START + n * SECOND // 100, 0.08)
    assert rate.factor(policy.tasks_per_second) == pytest.approx(0.25, rel=0.02)
    draw = draw_arriving(prediction(7), policy, 1e-9, uncertain=True)
    assert draw is None or draw.propensity == 0.01
    for n in range(200):
        rate.observe(START + 30 * SECOND + n * SECOND // 10, 0.08)
    assert rate.factor(policy.tasks_per_second) == 1.0


def test_a_sample_has_the_inclusion_probabilities_that_it_logs() -> None:
    candidates = [prediction(n, margin=0.1 if n % 4 == 0 else 0.9, at=n * 3 * SECOND) for n in range(400)]
    logged: dict[str, float] = {}
    found: Counter[str] = Counter()
    for round_ in range(400):
        for one, propensity in sample(candidates, 80, f"request/{round_}", uncertainty=0.5):
            logged[one.asset_id] = propensity
            found[one.asset_id] += 1
    unsure = [f"asset-{n}" for n in range(0, 400, 4)]
    share = fmean(found[name] / 400 for name in unsure)
    assert share == pytest.approx(fmean(logged[name] for name in unsure if name in logged), rel=0.05)
    assert share > 1.5 * 80 / 400
    assert sum(found.values()) == 80 * 400


def test_a_sample_prefers_frames_that_are_apart() -> None:
    burst = [prediction(n, camera="gate-1", at=n) for n in range(300)]
    apart = [prediction(1_000 + n, camera="gate-2", at=n * 3 * SECOND) for n in range(30)]
    chosen = sample([*burst, *apart], 30, "request/1")
    assert sum(one.camera_id == "gate-2" for one, _ in chosen) >= 25


def test_when_there_are_few_all_are_taken_and_that_is_certain() -> None:
    candidates = [prediction(n) for n in range(5)]
    assert sample(candidates, 9, "request/1") == [(one, 1.0) for one in candidates]
    assert sample(candidates, 0, "request/1") == []
