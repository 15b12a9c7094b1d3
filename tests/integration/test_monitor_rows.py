"""What analytics keep of incidents, decisions and commands is what the events say, in an earlier table as well."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import clickhouse_connect
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.topics import (
    ALERT_RAISED,
    COMMAND_GIVEN,
    DRIFT_DETECTED,
    RETRAIN_ANSWERED,
    RETRAIN_DECLINED,
    RETRAIN_REQUESTED,
)

from services.common.bus import Event, MemoryBus
from services.monitor import wire
from services.monitor.domain.events import Numbers
from services.monitor.domain.tables import DRIFTS, TABLES
from services.monitor.inbound import analytics
from services.monitor.outbound.clickhouse import ClickHouse

AT = 1_728_000_000.0
NUMBERS = pb.DecisionNumbers(
    excess=0.25, predictions_a_second=2.5, horizon_days=14, cost_of_error=0.5, cost_of_harm=1e6, cost_of_run=250,
    requests_today=1, budget_a_day=4, cooldown_left=60, labels_since=120, labels_between=300, trained_seconds=7200,
    regain=0.75, regain_low=0.5, regain_high=0.875, regain_labels=90, regain_by="run",
)  # fmt: skip


async def stored(folder: Path, *events: Event[Any]) -> ClickHouse:
    """The warehouse after these."""
    warehouse = ClickHouse(folder / "clickhouse", "", keep_days=3_650)
    await warehouse.open()
    bus = MemoryBus(service="monitor")
    analytics.subscribe(bus, warehouse)
    await bus.publish(events)
    await bus.settle()
    return warehouse


async def row(warehouse: ClickHouse, table: str, *columns: str) -> tuple[Any, ...]:
    """The only row of a table; times in seconds since 1970."""
    names = ", ".join(f"`{name}`" for name in columns)
    (found,) = await warehouse.query(f"SELECT {names} FROM {table}")
    return tuple(_seconds(value) for value in found)


def _seconds(value: Any) -> Any:
    if isinstance(value, list):
        return [_seconds(one) for one in value]
    return value.timestamp() if hasattr(value, "timestamp") else value


def incident() -> pb.Incident:
    """With every field."""
    i = pb.Incident(
        id="i", model="m", version="3", state=pb.MONITOR_STATE_CONFIRMED, cause=pb.DRIFT_CAUSE_CAMERA,
        harm=pb.DRIFT_HARM_CROSSED, shape=pb.DRIFT_SHAPE_SUDDEN, cameras=["gate", "yard"], class_names=["shirt"],
        trigger_asset_id="asset", acknowledged_by="ann", muted=True, plan_id="plan",
        risk=pb.RiskEvidence(
            baseline_error=0.1, baseline_labels=50, current_error=0.4, current_error_low=0.3, current_error_high=0.5,
            current_labels=40,
        ),
        scope=pb.IncidentScope(
            kind="site", value="hall-2", inside=5, inside_touched=4, outside=9, outside_touched=1
        ),
        probe=pb.IncidentProbe(
            id="p", verdict=pb.PROBE_VERDICT_STANDS, suspected=18, suspected_changed=2, others=12, others_changed=1,
            annotator="bob", why="2 of 18", asked_at=wire.stamp(AT + 4), until=wire.stamp(AT + 5),
        ),
        regain=pb.TrainingRegain(
            outlook=pb.TRAINING_OUTLOOK_NOT_RECOVERABLE, share=0.25, share_low=0.125, share_high=0.5, labels=90,
            by="run",
        ),
        recurs=pb.IncidentRecurrence(
            incident_id="before", incident_began_at=wire.stamp(AT + 6), stored_version="1",
            stored_until=wire.stamp(AT + 7),
        ),
    )  # fmt: skip
    for number, name in enumerate(("began_at", "detected_at", "acknowledged_at", "muted_until")):
        getattr(i, name).CopyFrom(wire.stamp(AT + number))
    i.history.add(at=wire.stamp(AT), what="opened", by="monitor", why="it's new")
    i.history.add(at=wire.stamp(AT + 2), what="acknowledged", by="ann", why="")
    i.faults.add(camera_id="gate", kind="blur", since=wire.stamp(AT - 5), before_asset_id="b", after_asset_id="a")
    i.evidence.add(
        channel="margin", camera_id="gate", detector="cusum", statistic=9.5, threshold=8.0, reference_mean=0.7,
        current_mean=0.5, shift_sigma=-1.5,
    )  # fmt: skip
    return i


async def test_a_drift_is_kept_with_its_scope_history_faults_and_evidence(tmp_path: Path) -> None:
    drift = pb.DriftDetected(incident=incident(), revision=7)
    async with await stored(tmp_path, Event(DRIFT_DETECTED, "m", drift, "d", wire.moment(AT))) as warehouse:
        found = dict(zip(DRIFTS.names, await row(warehouse, "drifts", *DRIFTS.names), strict=True))
    assert found == {
        "incident_id": "i", "revision": 7, "model": "m", "version": "3", "state": "confirmed", "cause": "camera",
        "harm": "crossed", "shape": "sudden", "began_at": AT, "detected_at": AT + 1, "level_since": 0.0,
        "closed_at": 0.0, "cameras": ["gate", "yard"], "class_names": ["shirt"], "baseline_error": 0.1,
        "current_error": 0.4, "current_labels": 40, "baseline_labels": 50, "current_error_low": 0.3,
        "current_error_high": 0.5, "trigger_asset_id": "asset", "scope_kind": "site", "scope_value": "hall-2",
        "scope_inside": 5, "scope_inside_touched": 4, "scope_outside": 9, "scope_outside_touched": 1,
        "acknowledged_at": AT + 2, "acknowledged_by": "ann", "muted": 1, "muted_until": AT + 3, "plan_id": "plan",
        "history.at": [AT, AT + 2], "history.what": ["opened", "acknowledged"], "history.by": ["monitor", "ann"],
        "history.why": ["it's new", ""], "faults.camera_id": ["gate"], "faults.kind": ["blur"],
        "faults.since": [AT - 5], "faults.before_asset_id": ["b"], "faults.after_asset_id": ["a"],
        "evidence.channel": ["margin"], "evidence.camera_id": ["gate"], "evidence.detector": ["cusum"],
        "evidence.statistic": [9.5], "evidence.threshold": [8.0], "evidence.reference_mean": [0.7],
        "evidence.current_mean": [0.5], "evidence.shift_sigma": [-1.5], "probe_id": "p", "probe_verdict": "stands",
        "probe_suspected": 18, "probe_suspected_changed": 2, "probe_others": 12, "probe_others_changed": 1,
        "probe_annotator": "bob", "probe_why": "2 of 18", "probe_asked_at": AT + 4, "probe_until": AT + 5,
        "regain_outlook": "not_recoverable", "regain_share": 0.25, "regain_share_low": 0.125,
        "regain_share_high": 0.5, "regain_labels": 90, "regain_by": "run",
        "recurs_incident_id": "before", "recurs_incident_began_at": AT + 6, "recurs_stored_version": "1",
        "recurs_stored_until": AT + 7,
    }  # fmt: skip


def test_every_field_of_an_incident_has_a_column() -> None:
    """One that is added to the contract has to be kept, too."""
    renamed = {"id": "incident_id"}
    for field in pb.Incident.DESCRIPTOR.fields:
        if field.message_type is None or field.message_type.name == "Timestamp":
            assert renamed.get(field.name, field.name) in DRIFTS.names
            continue
        start = {"risk": "", "scope": "scope_", "probe": "probe_", "regain": "regain_", "recurs": "recurs_"}.get(
            field.name, f"{field.name}."
        )
        for inner in field.message_type.fields:
            assert f"{start}{inner.name}" in DRIFTS.names, (field.name, inner.name)


def test_a_decision_has_the_numbers_of_the_contract() -> None:
    assert {f.name for f in fields(Numbers)} == {f.name for f in pb.DecisionNumbers.DESCRIPTOR.fields}


async def test_decisions_are_kept_with_the_numbers_that_they_were_weighed_with(tmp_path: Path) -> None:
    asked = pb.RetrainRequested(
        request_id="r", model="m", version="3", incident_id="i", labels_since=wire.stamp(AT), labels_wanted=300,
        requested_at=wire.stamp(AT + 1), expires_at=wire.stamp(AT + 2), reason="pays", class_names=["shirt"],
        cameras=["gate"], numbers=NUMBERS,
    )  # fmt: skip
    declined = pb.RetrainDeclined(id="n", model="m", reason="cooldown", declined_at=wire.stamp(AT + 3))
    async with await stored(
        tmp_path,
        Event(RETRAIN_REQUESTED, "m", asked, "r", wire.moment(AT)),
        Event(RETRAIN_DECLINED, "m", declined, "n", wire.moment(AT)),
    ) as warehouse:
        numbers = ", ".join(f"numbers_{field.name}" for field in fields(Numbers))
        found = await warehouse.query(
            f"SELECT id, weighed, version, cameras, class_names, toUnixTimestamp(expires_at), {numbers} "
            "FROM decisions ORDER BY decided_at"
        )
    said = [getattr(NUMBERS, field.name) for field in fields(Numbers)]
    assert found[0] == ("r", 1, "3", ["gate"], ["shirt"], int(AT + 2), *said)
    assert found[1] == ("n", 0, "", [], [], 0, *(type(value)() for value in said))


async def test_what_people_command_and_answer_is_kept(tmp_path: Path) -> None:
    common: dict[str, Any] = {"by": "ann", "why": "known", "given_at": wire.stamp(AT)}
    plan = pb.PlanChange(
        plan_id="p", cameras=["gate-*"], labels={"site": "b", "hall": "2"}, starts_at=wire.stamp(AT + 5),
        ends_at=wire.stamp(AT + 9),
    )  # fmt: skip
    given = [
        pb.CommandGiven(id="1", **common, acknowledge=pb.Acknowledge(incident_id="i")),
        pb.CommandGiven(id="2", **common, mute=pb.Mute(incident_id="i", until=wire.stamp(AT + 7))),
        pb.CommandGiven(id="3", **common, plan=plan),
        pb.CommandGiven(id="4", **common, cancel=pb.CancelPlan(plan_id="p")),
    ]
    answer = pb.RetrainAnswered(
        id="5", model="m", incident_id="i", approved=True, answered_by="bob", reason="do", answered_at=wire.stamp(AT)
    )
    async with await stored(
        tmp_path,
        *(Event(COMMAND_GIVEN, one.id, one, one.id, wire.moment(AT)) for one in given),
        Event(RETRAIN_ANSWERED, "m", answer, "5", wire.moment(AT)),
    ) as warehouse:
        found = await warehouse.query(
            "SELECT id, command, by, why, model, incident_id, plan_id, toUnixTimestamp(given_at) - {at:Int64}, "
            "toUnixTimestamp(starts_at), toUnixTimestamp(ends_at), cameras, labels.name, labels.value "
            "FROM commands ORDER BY id",
            {"at": int(AT)},
        )
    none: tuple[Any, ...] = ([], [], [])
    assert found == [
        ("1", "acknowledge", "ann", "known", "", "i", "", 0, 0, 0, *none),
        ("2", "mute", "ann", "known", "", "i", "", 0, 0, int(AT + 7), *none),
        (
            "3",
            "plan",
            "ann",
            "known",
            "",
            "",
            "p",
            0,
            int(AT + 5),
            int(AT + 9),
            ["gate-*"],
            ["hall", "site"],
            ["2", "b"],
        ),
        ("4", "cancel", "ann", "known", "", "", "p", 0, 0, 0, *none),
        ("5", "approve", "bob", "do", "m", "i", "", 0, 0, 0, *none),
    ]


async def test_a_table_of_an_earlier_version_gets_the_new_columns_and_keeps_its_rows(tmp_path: Path) -> None:
    old = clickhouse_connect.get_client(interface="chdb", path=str(tmp_path / "clickhouse"))
    old.command(
        "CREATE TABLE alerts (topic LowCardinality(String), partition UInt16, offset UInt64, id String, "
        "model LowCardinality(String), incident_id String, severity LowCardinality(String), summary String, "
        "raised_at DateTime64(6, 'UTC')) ENGINE = MergeTree PARTITION BY toYYYYMMDD(raised_at) "
        "ORDER BY (topic, partition, offset) TTL toDateTime(raised_at) + INTERVAL 3650 DAY"
    )
    old.command(f"INSERT INTO alerts VALUES ('{ALERT_RAISED.name}', 0, 4, 'old', 'm', 'i', 'page', 's', {AT:.0f})")
    old.close()
    alert = pb.AlertRaised(id="new", model="m", incident_id="i", severity="page", summary="s", kind="opened")
    async with await stored(tmp_path, Event(ALERT_RAISED, "m", alert, "new", wire.moment(AT + 86_400))) as warehouse:
        assert await warehouse.query("SELECT id, kind FROM alerts ORDER BY id") == [("new", "opened"), ("old", "")]
        for table in TABLES:
            described = await warehouse.query(f"DESCRIBE TABLE {table.name}")
            derived = [name for name, _ in table.derived]
            assert [row[0] for row in described] == ["topic", "partition", "offset", *table.names, *derived]
