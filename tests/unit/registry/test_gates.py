"""Each gate holds one measured number against one limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.registry.domain.gates import judge, state_after
from services.registry.domain.model import NOT_MEASURED, Evidence, Score, VersionState
from services.registry.domain.policy import Policy

POLICY = Policy()


def side(**accuracies: float) -> dict[str, Score]:
    return {name: Score(name, 400, accuracy) for name, accuracy in accuracies.items()}


GOOD = Evidence(
    challenger=side(all=0.85, new=0.8, old_in_force=0.88),
    champion=side(all=0.75, new=0.6, old_in_force=0.9),
    champion_version="1",
    parity=1e-6,
    latency_ms=1.0,
    champion_latency_ms=1.0,
    report=b"",
)
FIRST = Evidence(side(all=0.9), {}, "", 1e-6, 1.0, 0.0, b"")


def failed(evidence: Evidence, champion: str = "1", policy: Policy = POLICY) -> list[str]:
    gates = judge(evidence, policy, champion)
    names = [gate.gate for gate in gates if not gate.passed]
    assert (state_after(gates, policy) is VersionState.REFUSED) == bool(names)
    return names


def test_a_better_challenger_passes_every_gate() -> None:
    gates = judge(GOOD, POLICY, "1")
    assert [gate.gate for gate in gates] == [
        "same_champion",
        "better_on_new",
        "not_worse_on_old",
        "parity",
        "latency",
    ]
    assert all(gate.passed for gate in gates)
    assert gates[1].measured == pytest.approx(0.2)
    assert gates[2].measured == pytest.approx(0.02)
    assert "version 1" in gates[1].detail and "400 assets" in gates[1].detail


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"challenger": side(new=0.61, old_in_force=0.9)}, "better_on_new"),
        ({"challenger": {**GOOD.challenger, "new": Score("new", 29, 0.9)}}, "better_on_new"),
        ({"champion": side(old_in_force=0.9)}, "better_on_new"),
        ({"challenger": side(new=0.8, old_in_force=0.84)}, "not_worse_on_old"),
        ({"challenger": {**GOOD.challenger, "old_in_force": Score("old_in_force", 29, 0.9)}}, "not_worse_on_old"),
        ({"challenger": side(new=0.8)}, "not_worse_on_old"),
        ({"champion": side(new=0.6)}, "not_worse_on_old"),
        ({"parity": 2e-3}, "parity"),
        ({"parity": float("nan")}, "parity"),
        ({"latency_ms": 21.0}, "latency"),
        ({"latency_ms": float("nan")}, "latency"),
    ],
)
def test_each_gate_alone_refuses(change: dict[str, object], gate: str) -> None:
    assert failed(replace(GOOD, **change)) == [gate]  # type: ignore[arg-type]


def test_limits_themselves_pass() -> None:
    at_the_limits = replace(
        GOOD, challenger=side(new=0.625, old_in_force=0.5), champion=side(new=0.5, old_in_force=0.5625)
    )
    policy = Policy(better_on_new_by=0.125, not_worse_on_old_by=0.0625, parity=1e-6, latency_ms=1.0, latency_factor=0)
    assert failed(at_the_limits, policy=policy) == []


def test_a_slow_model_is_measured_against_a_slow_champion() -> None:
    slow = replace(GOOD, latency_ms=90.0, champion_latency_ms=31.0)
    assert failed(slow) == []
    assert failed(replace(slow, champion_latency_ms=29.0)) == ["latency"]


def test_without_a_new_condition_all_assets_count() -> None:
    plain = replace(GOOD, challenger=side(all=0.71), champion=side(all=0.75))
    assert failed(plain) == []
    assert failed(replace(plain, challenger=side(all=0.69))) == ["not_worse_on_old"]


def test_a_first_version_has_to_reach_an_accuracy_on_enough_assets() -> None:
    assert failed(FIRST, champion="") == []
    assert failed(replace(FIRST, challenger=side(all=0.49)), champion="") == ["first_accuracy"]
    assert failed(replace(FIRST, challenger={"all": Score("all", 29, 0.9)}), champion="") == ["first_accuracy"]


@pytest.mark.parametrize(("champion", "limit"), [("2", 2.0), ("", 0.0)])
def test_a_comparison_with_another_champion_than_the_one_that_is_live_refuses(champion: str, limit: float) -> None:
    gates = judge(GOOD, POLICY, champion)
    assert [(g.gate, g.measured, g.limit) for g in gates if not g.passed] == [("same_champion", 1.0, limit)]
    assert failed(FIRST, champion="1") == ["same_champion"]


def test_a_run_without_a_report_is_refused_whatever_is_live() -> None:
    assert failed(NOT_MEASURED, champion="") == ["first_accuracy"]
    assert "same_champion" in failed(NOT_MEASURED, champion="1")


def test_people_are_asked_only_about_what_passed() -> None:
    policy = Policy(approvals=1)
    assert state_after(judge(GOOD, policy, "1"), policy) is VersionState.AWAITING_APPROVAL
    assert state_after(judge(GOOD, POLICY, "1"), POLICY) is VersionState.ACCEPTED
    assert failed(replace(GOOD, parity=1.0), policy=policy) == ["parity"]
