"""Incidents and planned changes as the command line asks the monitor for them, in rows and words for people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.monitor.v1 import monitor_pb2_grpc

from services.common.errors import InvalidMessage
from services.local.cli.session import Session

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_ID: Final = 36
SHORT: Final = 8


async def listed(session: Session, model: str, limit: int, only_open: bool) -> list[pb.Incident]:
    """Newest first."""
    request = pb.ListIncidentsRequest(model=model, limit=limit, open=only_open)
    return list((await _call(session, "ListIncidents", request)).incidents)


async def found(session: Session, beginning: str) -> pb.Incident:
    """The incident whose id begins so. Raises `InvalidMessage` when several do, `NotFound` when none does."""
    if len(beginning) < _ID:
        names = sorted({one.id for one in await listed(session, "", 1000, False) if one.id.startswith(beginning)})
        if len(names) > 1:
            raise InvalidMessage(f"{beginning} is the beginning of {len(names)} incidents", field="incident")
        beginning = names[0] if names else beginning
    answer: pb.GetIncidentResponse = await _call(session, "GetIncident", pb.GetIncidentRequest(id=beginning))
    return answer.incident


async def acknowledge(session: Session, beginning: str, why: str) -> str:
    """Returns the incident's id."""
    id_ = (await found(session, beginning)).id
    await _call(session, "AcknowledgeIncident", pb.AcknowledgeIncidentRequest(id=id_, why=why))
    return id_


async def mute(session: Session, beginning: str, why: str, until: str) -> str:
    """Returns the incident's id."""
    request = pb.MuteIncidentRequest(why=why)
    if until:
        request.until.CopyFrom(stamp_of(until, "--until"))
    request.id = (await found(session, beginning)).id
    await _call(session, "MuteIncident", request)
    return request.id


async def plan(
    session: Session, cameras: Sequence[str], labels: Sequence[str], starts: str, ends: str, why: str
) -> str:
    """Returns the plan's id."""
    request = pb.PlanChangeRequest(cameras=cameras, labels=_labels(labels), why=why)
    request.starts_at.CopyFrom(stamp_of(starts, "--starts"))
    request.ends_at.CopyFrom(stamp_of(ends, "--ends"))
    return str((await _call(session, "PlanChange", request)).plan_id)


async def plans(session: Session, only_open: bool) -> list[pb.PlannedChange]:
    """Oldest first."""
    return list((await _call(session, "ListPlans", pb.ListPlansRequest(open=only_open))).plans)


async def cancel(session: Session, plan_id: str, why: str) -> None:
    """Raises `NotFound`, `Conflict`."""
    await _call(session, "CancelPlan", pb.CancelPlanRequest(plan_id=plan_id, why=why))


async def _call(session: Session, method: str, request: Any) -> Any:
    async with session.stub("monitor", monitor_pb2_grpc.MonitorServiceStub) as stub:
        return await session.call("monitor", getattr(stub, method), request)


def stamp_of(text: str, option: str) -> Timestamp:
    """A time as RFC 3339 (without a zone it is local), or a number with s, m, h or d from now. Raises
    `InvalidMessage`.
    """
    stamp = Timestamp()
    if matched := re.fullmatch(r"(\d+)([smhd])", text):
        stamp.FromDatetime(datetime.now(UTC) + timedelta(seconds=int(matched[1]) * _UNITS[matched[2]]))
        return stamp
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidMessage(f"{option}: {text!r} is no time (2026-03-01T08:00+01:00, or 2h)", field=option) from None
    stamp.FromDatetime(at.astimezone(UTC))
    return stamp


def _labels(pairs: Sequence[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair.strip("="):
            raise InvalidMessage(f"--label: {pair!r} is not name=value", field="label")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}


def row(i: pb.Incident) -> tuple[str, ...]:
    """A line of the list."""
    return i.id[:SHORT], i.model, state(i), scope(i.scope), judged(i), time_of(i.detected_at)


def history(i: pb.Incident) -> list[tuple[str, ...]]:
    """A line for each happening."""
    return [(time_of(h.at), h.what, h.by, h.why) for h in i.history]


def plan_row(p: pb.PlannedChange) -> tuple[str, ...]:
    """A line of the list."""
    who = ", ".join([*p.cameras, *(f"{name}={value}" for name, value in sorted(p.labels.items()))])
    over = "cancelled" if p.HasField("cancelled_at") else ""
    return p.id, who, time_of(p.starts_at), time_of(p.ends_at), p.by, p.why, over


def state(i: pb.Incident) -> str:
    """How sure, who is at it, and whether anybody is told."""
    word = "closed" if i.HasField("closed_at") else pb.MonitorState.Name(i.state).removeprefix("MONITOR_STATE_")
    more = [f"taken on by {i.acknowledged_by}"] if i.acknowledged_by else []
    more += ["old answers awaited"] if i.probe.verdict == pb.PROBE_VERDICT_ASKED and not i.HasField("closed_at") else []
    more += ["planned"] if i.plan_id else ["muted"] if i.muted else []
    return ", ".join([word, *more])


def scope(s: pb.IncidentScope) -> str:
    """As `site hall-2`."""
    return f"{s.kind} {s.value}".strip()


def counts(s: pb.IncidentScope) -> str:
    """What the scope rests on."""
    if not s.inside:
        return ""
    return f" ({s.inside_touched} of {s.inside} inside are touched, {s.outside_touched} of {s.outside} outside)"


def judged(i: pb.Incident) -> str:
    """Cause and harm."""
    cause = pb.DriftCause.Name(i.cause).removeprefix("DRIFT_CAUSE_").lower()
    harm = pb.DriftHarm.Name(i.harm).removeprefix("DRIFT_HARM_").lower()
    return f"{cause}, harm {harm}"


def time_of(stamp: Timestamp) -> str:
    """Local time."""
    return stamp.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def plain(message: Any) -> dict[str, Any]:
    """For programs."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
