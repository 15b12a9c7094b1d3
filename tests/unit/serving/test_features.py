"""Features against plain formulas, row by row."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.serving.domain.features import answers, directions
from services.serving.domain.package import ImageInput, ModelCard

IMAGE = ImageInput("image", "NCHW", "uint8", 1, 4, 4)


def card(*, logits: bool = True, embedding: str = "e", temperature: float = 1.0, classes: int = 7) -> ModelCard:
    names = tuple(f"class-{number}" for number in range(classes))
    return ModelCard(names, IMAGE, "s", logits, embedding, temperature, 8)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first example imports numpy's parts
@given(
    st.lists(st.floats(-50, 50, width=32), min_size=2, max_size=12),
    st.floats(0.1, 10),
)
def test_features_are_what_the_contract_says(row: list[float], temperature: float) -> None:
    (answer,) = answers(
        card(temperature=temperature, embedding="", classes=len(row)), {"s": np.array([row], dtype=np.float32)}
    )
    exact = [math.exp(value / temperature - max(row) / temperature) for value in row]
    chances = sorted((value / sum(exact) for value in exact), reverse=True)
    assert answer.max_probability == pytest.approx(chances[0], abs=1e-6)
    assert answer.margin == pytest.approx(chances[0] - chances[1], abs=1e-6)
    assert answer.entropy == pytest.approx(-sum(p * math.log(p) for p in chances if p > 0), abs=1e-5)
    energy = -(max(row) + math.log(sum(math.exp(value - max(row)) for value in row)))
    assert answer.energy == pytest.approx(energy, abs=1e-4)
    assert [score for _, score in answer.scores] == pytest.approx(chances[:5], abs=1e-6)
    best = int(answer.scores[0][0].removeprefix("class-"))
    assert exact[best] == pytest.approx(max(exact), abs=1e-9)


def test_a_model_of_probabilities_without_embedding_leaves_features_absent() -> None:
    (answer,) = answers(card(logits=False, embedding="", classes=2), {"s": np.array([[0.25, 0.75]])})
    assert answer.scores == (("class-1", 0.75), ("class-0", 0.25))
    assert (answer.energy, answer.projections, answer.embedding_norm) == (None, (), None)
    assert answer.margin == pytest.approx(0.5)


def test_the_embedding_is_projected_on_eight_orthonormal_directions() -> None:
    embedding = np.arange(32, dtype=np.float32).reshape(2, 16)
    found = answers(card(), {"s": np.zeros((2, 7)), "e": embedding})
    basis = directions(16)
    assert basis.T @ basis == pytest.approx(np.eye(8), abs=1e-12)
    for row, answer in enumerate(found):
        assert answer.projections == pytest.approx((embedding[row] @ basis).tolist(), rel=1e-6)
        assert answer.embedding_norm == pytest.approx(np.linalg.norm(embedding[row]), rel=1e-6)


def test_the_directions_never_change_since_references_are_built_on_them() -> None:
    assert directions(16)[0, 0] == pytest.approx(0.38406322, abs=1e-6)
    assert directions(3).shape == (3, 3)


def test_a_row_that_is_not_finite_is_an_error_and_leaves_the_others_alone() -> None:
    bad, good = answers(card(embedding=""), {"s": np.array([[np.nan] * 7, [1.0] + [0.0] * 6])})
    assert (bad.error != "", bad.scores, bad.entropy) == (True, (), None)
    assert (good.error, good.scores[0][0]) == ("", "class-0")
