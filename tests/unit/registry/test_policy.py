"""The policy file is read strictly: what nobody reads cannot be written into it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.common.errors import InvalidMessage
from services.registry.app import build, read_policies
from services.registry.domain.model import Stage
from services.registry.domain.policy import Policy, PolicyStage, parse_policies, policy_for
from services.registry.settings import RegistrySettings

CANARY = {"stage": "canary", "share": 0.5}


def test_the_file_that_comes_with_registry_says_the_defaults() -> None:
    assert read_policies(RegistrySettings().policy) == (Policy(),)
    entry = yaml.safe_load(RegistrySettings().policy.read_text())["policies"][0]
    assert set(entry) == {*Policy.__dataclass_fields__}, "every key stands in the file"


def test_the_first_entry_that_matches_counts() -> None:
    policies = parse_policies({"policies": [{"models": "gate-*", "approvals": 2}, {"models": "*", "parity": 1}]})
    assert policy_for("gate-north", policies).approvals == 2
    assert policy_for("other", policies) == Policy(models="*", parity=1.0)
    assert policy_for("other", policies[:1]) == Policy()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (None, "expected `policies:`"),
        ([], "expected `policies:`"),
        ({"policies": [{}], "extra": 1}, "nothing beside it"),
        ({"policies": []}, "at least one"),
        ({"policies": {"models": "*"}}, "a list"),
        ({"policies": ["*"]}, r"policies\[0\]: expected keys"),
        ({"policies": [{}, {"paritty": 1}]}, r"policies\[1\]: unknown key `paritty`, expected one of models, better"),
        ({"policies": [{3: 1}]}, "unknown key `3`"),
        ({"policies": [{"approvals": True}]}, "approvals: expected int, got True"),
        ({"policies": [{"approvals": 1.5}]}, "approvals: expected int"),
        ({"policies": [{"auto_promote": 1}]}, "auto_promote: expected bool"),
        ({"policies": [{"parity": "small"}]}, "parity: expected float"),
        ({"policies": [{"parity": False}]}, "parity: expected float"),
        ({"policies": [{"latency_ms": -1}]}, "a number from 0 on"),
        ({"policies": [{"latency_ms": float("nan")}]}, "a number from 0 on"),
        ({"policies": [{"models": 3}]}, "models: expected str"),
        ({"policies": [{"watch_pairs": -1}]}, "watch_pairs: expected a number from 0 on"),
        ({"policies": [{"stage_hours": "1"}]}, "stage_hours: expected float"),
    ],
)
def test_a_wrong_entry_is_named(document: Any, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        parse_policies(document)


def test_stages_are_read_in_their_order() -> None:
    stages = [{"stage": "shadow", "pairs": 300}, {"stage": "canary", "share": 0.1, "pairs": 9}, CANARY]
    (policy,) = parse_policies({"policies": [{"stages": stages, "watch_pairs": 50, "stage_hours": 3}]})
    assert policy.stages == (
        PolicyStage(Stage.SHADOW, 0.0, 300),
        PolicyStage(Stage.CANARY, 0.1, 9),
        PolicyStage(Stage.CANARY, 0.5, 0),
    )
    assert (policy.watch_pairs, policy.stage_hours) == (50, 3.0)


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ({"stage": "shadow"}, r"policies\[0\]\.stages: expected a list"),
        (["shadow"], r"stages\[0\]: expected keys and values"),
        ([{"stage": "shadow", "pair": 3}], r"stages\[0\]: unknown key `pair`, expected one of stage, share, pairs"),
        ([{}], r"stages\[0\]\.stage: expected shadow or canary, got None"),
        ([{"stage": "watch"}], r"stages\[0\]\.stage: expected shadow or canary"),
        ([{"stage": ["shadow"]}], r"stages\[0\]\.stage: expected shadow or canary"),
        ([{"stage": "shadow", "share": 0.1}], r"stages\[0\]\.share: a shadow answers nobody"),
        ([{"stage": "canary"}], r"stages\[0\]\.share: expected above 0 and at most 1, got None"),
        ([{"stage": "canary", "share": 0}], r"stages\[0\]\.share: expected above 0"),
        ([{"stage": "canary", "share": 1.5}], r"stages\[0\]\.share: expected above 0"),
        ([{"stage": "canary", "share": True}], r"stages\[0\]\.share: expected above 0"),
        ([{"stage": "canary", "share": float("nan")}], r"stages\[0\]\.share: expected above 0"),
        ([{"stage": "shadow", "pairs": 0}], r"stages\[0\]\.pairs: expected a whole number from 1 on"),
        ([{"stage": "shadow", "pairs": True}], r"stages\[0\]\.pairs: expected a whole number"),
        ([{"stage": "shadow", "pairs": 1.5}], r"stages\[0\]\.pairs: expected a whole number"),
        ([{"stage": "shadow"}, CANARY], r"stages\[0\]\.pairs: expected after how many pairs"),
        ([{**CANARY, "pairs": 3}, CANARY], r"stages\[1\]\.share: expected more than the stage before"),
        ([{**CANARY, "pairs": 3}, {"stage": "shadow"}], r"stages\[1\]\.share: expected more .* a shadow comes first"),
        ([{"stage": "shadow", "pairs": 3}, {"stage": "shadow"}], r"stages\[1\]\.share: expected more"),
    ],
)
def test_a_wrong_stage_is_named_with_its_key(stages: Any, words: str) -> None:
    with pytest.raises(InvalidMessage, match=words):
        parse_policies({"policies": [{"stages": stages}]})


@pytest.mark.parametrize(
    "content", [b"policies: [", b"\xff\xfe\x00", b"policies:\n  - models: '*'\n    paritty: 1\n", b""]
)
def test_a_bad_file_is_named_at_the_start(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(content)
    with pytest.raises(InvalidMessage) as caught:
        build(RegistrySettings(policy=file))
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidMessage, match=r"gone\.yaml cannot be read"):
        read_policies(tmp_path / "gone.yaml")
