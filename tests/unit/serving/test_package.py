"""model.json, read strictly: what is wrong is named by its field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.serving.domain.package import parse_card
from services.serving.errors import BadPackage
from tests.unit.serving.tiny import card


def test_a_card_is_read() -> None:
    found = parse_card(json.dumps(card(run_id="run-7", temperature=1.5, something_new=1)).encode())
    assert (found.classes, found.scores, found.logits, found.embedding) == (
        ("coat", "bag", "shoe"),
        "logits",
        True,
        "embedding",
    )
    assert (found.temperature, found.max_batch, found.run_id) == (1.5, 8, "run-7")
    assert found.image.shape(5) == (5, 1, 4, 4)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("format", {"format": 2}),
        ("task", {"task": "segmentation"}),
        ("classes", {"classes": ["one"]}),
        ("classes", {"classes": ["same", "same"]}),
        ("outputs", {"outputs": {}}),
        ("outputs", {"outputs": {"logits": "a", "probabilities": "b"}}),
        ("outputs.embedding", {"outputs": {"logits": "a", "embedding": 3}}),
        ("temperature", {"temperature": 0}),
        ("temperature", {"temperature": float("nan")}),
        ("max_batch_size", {"max_batch_size": 0}),
        ("input", {"input": None}),
        ("input.channels", {"input": {**card()["input"], "channels": 2}}),
        ("input.layout", {"input": {**card()["input"], "layout": "CHWN"}}),
        ("input.height", {"input": {**card()["input"], "height": True}}),
    ],
)
def test_a_wrong_field_is_named(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(BadPackage) as refusal:
        parse_card(json.dumps(card(**changes)).encode())
    assert refusal.value.field == field


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"\xff\xfe", b" " * (2 << 20)])
def test_what_is_no_card_is_refused(data: bytes) -> None:
    with pytest.raises(BadPackage):
        parse_card(data)
