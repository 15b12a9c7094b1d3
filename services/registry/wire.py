"""Registry's values to and from the contracts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.monitor.v1 import monitor_pb2
from irisloop.registry.v1 import registry_pb2
from irisloop.trainer.v1 import trainer_pb2

from services.common.errors import InvalidMessage
from services.registry.domain.model import (
    Arm,
    Candidate,
    Evidence,
    GateResult,
    Model,
    Move,
    Package,
    Rollout,
    Score,
    Stage,
    Version,
    VersionState,
)
from services.registry.domain.rollouts import Judgement
from services.registry.domain.wishes import Wish

STATES = {
    VersionState.ACCEPTED: registry_pb2.VERSION_STATE_ACCEPTED,
    VersionState.REFUSED: registry_pb2.VERSION_STATE_REFUSED,
    VersionState.AWAITING_APPROVAL: registry_pb2.VERSION_STATE_AWAITING_APPROVAL,
}
MOST_PAIRS = 2**62
"""More than this is no count, and no database's number."""
STAGES = {
    Stage.SHADOW: registry_pb2.STAGE_SHADOW,
    Stage.CANARY: registry_pb2.STAGE_CANARY,
    Stage.EXPERIMENT: registry_pb2.STAGE_EXPERIMENT,
    Stage.WATCH: registry_pb2.STAGE_WATCH,
}


def timestamp(at: datetime) -> Timestamp:
    """An aware time as protobuf."""
    message = Timestamp()
    message.FromDatetime(at.astimezone(UTC))
    return message


def time_value(message: Timestamp, field: str) -> datetime:
    """A protobuf time as an aware one. Raises `InvalidMessage` outside the years 1 to 9999."""
    try:
        return message.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidMessage(f"`{field}` is no time between the years 1 and 9999", field=field) from error


def version_message(version: Version) -> registry_pb2.ModelVersion:
    """A version with its gates and its report."""
    candidate = version.candidate
    return registry_pb2.ModelVersion(
        model=candidate.model,
        version=version.name,
        package=package_message(candidate.package),
        run_id=candidate.run_id,
        dataset=candidate.dataset,
        dataset_version=candidate.dataset_version,
        state=STATES[version.state],
        gates=[gate_message(gate) for gate in version.gates],
        report=_report(candidate.evidence),
        registered_at=timestamp(version.registered_at),
        registered_by=candidate.registered_by,
        class_names=candidate.class_names,
    )


def package_message(package: Package) -> trainer_pb2.ModelPackage:
    """A package's digest and signature."""
    return trainer_pb2.ModelPackage(
        digest=package.digest, size_bytes=package.size_bytes, signature=package.signature, key_id=package.key_id
    )


def package_value(message: trainer_pb2.ModelPackage) -> Package:
    """The same, read."""
    return Package(message.digest, message.size_bytes, message.signature, message.key_id)


def gate_message(gate: GateResult) -> registry_pb2.GateResult:
    """One gate's answer."""
    return registry_pb2.GateResult(
        gate=gate.gate, passed=gate.passed, measured=gate.measured, limit=gate.limit, detail=gate.detail
    )


def model_message(model: Model) -> registry_pb2.Model:
    """A model, its aliases sorted by name, and its rollout."""
    aliases = [registry_pb2.Alias(name=name, version=target) for name, target in sorted(model.aliases.items())]
    return registry_pb2.Model(
        name=model.name,
        dataset=model.dataset,
        aliases=aliases,
        created_at=timestamp(model.created_at),
        rollout=rollout_message(model.rollout) if model.rollout else None,
    )


def rollout_message(rollout: Rollout) -> registry_pb2.Rollout:
    """A rollout."""
    return registry_pb2.Rollout(
        id=rollout.id,
        model=rollout.model,
        champion=rollout.champion,
        challenger=rollout.challenger,
        stage=STAGES[rollout.stage],
        arms=[registry_pb2.Arm(name=arm.name, version=arm.version, share=arm.share) for arm in rollout.arms],
        salt=rollout.salt,
        started_at=timestamp(rollout.started_at),
        stage_since=timestamp(rollout.stage_since),
        started_by=rollout.started_by,
        reason=rollout.reason,
        automatic=rollout.automatic,
    )


def wish_value(request: registry_pb2.PutRolloutRequest) -> Wish:
    """What is asked for. Raises `InvalidMessage` for a stage that there is not."""
    stage = next((stage for stage, number in STAGES.items() if number == request.stage), None)
    if stage is None:
        raise InvalidMessage(f"`stage` is shadow, canary or experiment, got {request.stage}", field="stage")
    arms = tuple(Arm(arm.name, arm.version, arm.share) for arm in request.arms)
    return Wish(stage, request.challenger, request.share, arms, request.automatic, request.reason)


def judgement_value(message: monitor_pb2.ChallengerJudged) -> Judgement:
    """Monitor's word on a rollout; the tests that rejected are part of the reason."""
    tests = [f"{one.name} e={one.e_value:.4g} (limit {1 / one.alpha:.4g})" for one in message.tests if _decided(one)]
    return Judgement(
        model=message.model,
        rollout_id=message.rollout_id,
        verdict=message.verdict,
        pairs=min(message.pairs, MOST_PAIRS),
        labelled_pairs=message.labelled_pairs,
        mean_difference=message.mean_difference,
        reason="; ".join(words for words in (message.reason, *tests) if words),
        stage_since=time_value(message.stage_since, "stage_since") if message.HasField("stage_since") else None,
        stage_pairs=min(message.stage_pairs, MOST_PAIRS),
    )


def _decided(test: monitor_pb2.SequentialTest) -> bool:
    return test.rejected and test.alpha > 0


def move_message(move: Move) -> registry_pb2.AliasMove:
    """One line of history."""
    return registry_pb2.AliasMove(
        id=move.id,
        model=move.model,
        alias=move.alias,
        from_version=move.from_version,
        to_version=move.to_version,
        moved_by=move.moved_by,
        reason=move.reason,
        moved_at=timestamp(move.moved_at),
    )


def aliases_message(
    model: Model, versions: Sequence[tuple[str, Version]], of_rollout: Sequence[Version]
) -> registry_pb2.AliasesPublished:
    """The whole alias map and the rollout, with everything that is needed to load each version."""
    aliases = [registry_pb2.PublishedAlias(name=name, version=version_message(version)) for name, version in versions]
    return registry_pb2.AliasesPublished(
        model=model.name,
        revision=model.revision,
        aliases=aliases,
        rollout=rollout_message(model.rollout) if model.rollout else None,
        rollout_versions=[version_message(version) for version in of_rollout],
    )


def candidate_of_run(run: trainer_pb2.Run) -> Candidate:
    """What a successful run offers."""
    return Candidate(
        model=run.model,
        package=package_value(run.package),
        run_id=run.id,
        request_id=run.request_id,
        dataset=run.dataset,
        dataset_version=run.dataset_version,
        class_names=tuple(run.class_names),
        registered_by=run.requested_by or "trainer",
        evidence=evidence_value(run.report),
    )


def evidence_value(report: trainer_pb2.EvaluationReport) -> Evidence:
    """What the gates look at, taken out of trainer's report."""
    challenger = _model_score(report, "challenger")
    champion = _model_score(report, "champion")
    return Evidence(
        challenger=_scores(challenger.conditions),
        champion=_scores(champion.conditions),
        champion_version=champion.version,
        parity=report.parity_max_difference,
        latency_ms=challenger.latency_ms,
        champion_latency_ms=champion.latency_ms,
        report=report.SerializeToString(),
    )


def _model_score(report: trainer_pb2.EvaluationReport, role: str) -> trainer_pb2.ModelScore:
    return next((score for score in report.scores if score.role == role), trainer_pb2.ModelScore())


def _scores(conditions: Iterable[trainer_pb2.ConditionScore]) -> dict[str, Score]:
    return {c.condition: Score(c.condition, c.assets, c.accuracy) for c in conditions if c.assets}


def _report(evidence: Evidence | None) -> trainer_pb2.EvaluationReport | None:
    return trainer_pb2.EvaluationReport.FromString(evidence.report) if evidence else None
