"""The gates: each compares one measured number with one limit and says so in words."""

from __future__ import annotations

from collections.abc import Iterator

from services.registry.domain.model import Evidence, GateResult, Score, VersionState
from services.registry.domain.policy import Policy


def judge(evidence: Evidence, policy: Policy, champion: str) -> tuple[GateResult, ...]:
    """Hold the evidence against the policy's gates, all of them, so that a refusal names every reason.

    `champion` is the version that is live now, or "": a comparison with another one proves nothing.
    """
    return (_same_champion(evidence, champion), *_gates(evidence, policy))


def state_after(gates: tuple[GateResult, ...], policy: Policy) -> VersionState:
    """Refused by any failed gate; else accepted, or waiting where the policy asks for people."""
    if not all(gate.passed for gate in gates):
        return VersionState.REFUSED
    return VersionState.AWAITING_APPROVAL if policy.approvals > 0 else VersionState.ACCEPTED


def _gates(evidence: Evidence, policy: Policy) -> Iterator[GateResult]:
    if not evidence.champion_version:
        yield _first(evidence, policy)
    elif _assets(evidence.challenger.get("new")):
        yield _better_on_new(evidence, policy)
        yield _not_worse("old_in_force", "old condition, labels in force", evidence, policy)
    else:
        yield _not_worse("all", "all held-out assets (there is no new condition)", evidence, policy)
    yield GateResult(
        "parity", evidence.parity <= policy.parity, evidence.parity, policy.parity, "largest ONNX - torch difference"
    )
    limit = max(policy.latency_ms, policy.latency_factor * evidence.champion_latency_ms)
    yield GateResult("latency", evidence.latency_ms <= limit, evidence.latency_ms, limit, "median of one image, ms")


def _same_champion(evidence: Evidence, champion: str) -> GateResult:
    measured = evidence.champion_version
    detail = f"measured against {_named(measured)}, live is {_named(champion)}"
    return GateResult("same_champion", measured == champion, _number(measured), _number(champion), detail)


def _named(version: str) -> str:
    return f"version {version}" if version else "none"


def _number(version: str) -> float:
    return float(version) if version.isdecimal() else 0.0


def _first(evidence: Evidence, policy: Policy) -> GateResult:
    score = evidence.challenger.get("all")
    accuracy = score.accuracy if score else 0.0
    passed = accuracy >= policy.first_accuracy and _assets(score) >= policy.condition_assets
    return GateResult("first_accuracy", passed, accuracy, policy.first_accuracy, _on(score, "all held-out assets"))


def _better_on_new(evidence: Evidence, policy: Policy) -> GateResult:
    score, champion = evidence.challenger["new"], evidence.champion.get("new")
    gain = score.accuracy - champion.accuracy if champion else 0.0
    passed = gain >= policy.better_on_new_by and score.assets >= policy.condition_assets
    detail = f"gain over version {evidence.champion_version}, {_on(score, 'new condition')}"
    return GateResult("better_on_new", passed, gain, policy.better_on_new_by, detail)


def _not_worse(condition: str, words: str, evidence: Evidence, policy: Policy) -> GateResult:
    score, champion = evidence.challenger.get(condition), evidence.champion.get(condition)
    loss = champion.accuracy - score.accuracy if champion and score else 0.0
    measurable = champion is not None and _assets(score) >= policy.condition_assets
    passed = measurable and loss <= policy.not_worse_on_old_by
    detail = f"loss against version {evidence.champion_version}, {_on(score, words)}"
    return GateResult("not_worse_on_old", passed, loss, policy.not_worse_on_old_by, detail)


def _assets(score: Score | None) -> int:
    return score.assets if score else 0


def _on(score: Score | None, words: str) -> str:
    return f"{words}: {_assets(score)} assets, accuracy {score.accuracy:.3f}" if score else f"{words}: not measured"
