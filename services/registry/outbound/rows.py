"""Rows of registry's tables to and from its values."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from irisloop.trainer.v1 import trainer_pb2
from sqlalchemy import Row

from services.registry import wire
from services.registry.domain.model import (
    Arm,
    Candidate,
    GateResult,
    Move,
    Package,
    Rollout,
    Stage,
    Version,
    VersionState,
)


def version_row(version: Version) -> dict[str, Any]:
    """A version as a row."""
    candidate, package = version.candidate, version.candidate.package
    gates = [[g.gate, g.passed, g.measured, g.limit, g.detail] for g in version.gates]
    return {
        "model": candidate.model,
        "number": version.number,
        "state": version.state.value,
        "digest": package.digest,
        "size_bytes": package.size_bytes,
        "signature": package.signature,
        "key_id": package.key_id,
        "run_id": candidate.run_id,
        "request_id": candidate.request_id,
        "dataset": candidate.dataset,
        "dataset_version": candidate.dataset_version,
        "class_names": json.dumps(candidate.class_names),
        "gates": json.dumps(gates),
        "report": candidate.evidence.report if candidate.evidence else b"",
        "registered_at": naive(version.registered_at),
        "registered_by": candidate.registered_by,
    }


def version_value(row: Row[Any]) -> Version:
    """A row as a version."""
    report = trainer_pb2.EvaluationReport.FromString(row.report) if row.report else None
    candidate = Candidate(
        model=row.model,
        package=Package(row.digest, row.size_bytes, row.signature, row.key_id),
        run_id=row.run_id,
        request_id=row.request_id,
        dataset=row.dataset,
        dataset_version=row.dataset_version,
        class_names=tuple(json.loads(row.class_names)),
        registered_by=row.registered_by,
        evidence=wire.evidence_value(report) if report else None,
    )
    gates = tuple(GateResult(*gate) for gate in json.loads(row.gates))
    return Version(row.number, candidate, VersionState(row.state), gates, aware(row.registered_at))


def move_row(move: Move) -> dict[str, Any]:
    """A move as a row."""
    return {
        "id": move.id,
        "model": move.model,
        "alias": move.alias,
        "from_version": move.from_version,
        "to_version": move.to_version,
        "moved_by": move.moved_by,
        "reason": move.reason,
        "moved_at": naive(move.moved_at),
    }


def move_value(row: Row[Any]) -> Move:
    """A row as a move."""
    return Move(
        row.id,
        row.model,
        row.alias,
        row.from_version,
        row.to_version,
        row.moved_by,
        row.reason,
        aware(row.moved_at),
    )


def naive(at: datetime) -> datetime:
    """An aware time as the tables keep it: UTC, without saying so."""
    return at.astimezone(UTC).replace(tzinfo=None)


def aware(at: datetime) -> datetime:
    """A time of the tables as an aware one."""
    return at.replace(tzinfo=UTC)


def rollout_row(rollout: Rollout) -> dict[str, Any]:
    """A rollout as a row."""
    return {
        "model": rollout.model,
        "id": rollout.id,
        "champion": rollout.champion,
        "challenger": rollout.challenger,
        "stage": rollout.stage.value,
        "arms": json.dumps([[arm.name, arm.version, arm.share] for arm in rollout.arms]),
        "started_at": naive(rollout.started_at),
        "stage_since": naive(rollout.stage_since),
        "started_by": rollout.started_by,
        "reason": rollout.reason,
        "automatic": rollout.automatic,
        "pairs_before": rollout.pairs_before,
        "pairs": rollout.pairs,
    }


def rollout_value(row: Row[Any]) -> Rollout:
    """A row as a rollout."""
    return Rollout(
        id=row.id,
        model=row.model,
        champion=row.champion,
        challenger=row.challenger,
        stage=Stage(row.stage),
        arms=tuple(Arm(*arm) for arm in json.loads(row.arms)),
        started_at=aware(row.started_at),
        stage_since=aware(row.stage_since),
        started_by=row.started_by,
        reason=row.reason,
        automatic=bool(row.automatic),
        pairs_before=row.pairs_before,
        pairs=row.pairs,
    )
