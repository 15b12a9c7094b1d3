"""irisloop monitor: incidents, who has taken them on, and changes announced beforehand."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

import typer
from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from irisloop.monitor.v1 import monitor_pb2 as pb
from irisloop.monitor.v1 import monitor_pb2_grpc

from services.common.errors import InvalidMessage
from services.local.cli.session import Session, console, open_session, show_json, show_table, wait_for

app = typer.Typer(help="Drift: incidents and planned changes.", no_args_is_help=True)
incidents = typer.Typer(help="Incidents: list, show, acknowledge, mute.", no_args_is_help=True)
plans = typer.Typer(help="Changes announced beforehand: add, list, cancel.", no_args_is_help=True)
app.add_typer(incidents, name="incidents")
app.add_typer(plans, name="plan")

Incident = Annotated[str, typer.Argument(help="The incident's id, or its first characters.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SHORT: Final = 8


@incidents.command("list")
def list_incidents(
    model: Annotated[str, typer.Option(help="Only this model's.")] = "",
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first."""
    request = pb.ListIncidentsRequest(model=model, limit=limit, open=open_only)
    found = wait_for(_call("ListIncidents", request)).incidents
    if as_json:
        show_json([_plain(one) for one in found])
        return
    rows = [(i.id[:_SHORT], i.model, _state(i), _words(i.scope), _judged(i), _time(i.detected_at)) for i in found]
    show_table(("incident", "model", "state", "scope", "cause, harm", "since"), rows, "There is no incident.")


@incidents.command("show")
def show_incident(incident: Incident, as_json: AsJson = False) -> None:
    """Show an incident with its history."""
    found = wait_for(_get(open_session(), incident))
    if as_json:
        show_json(_plain(found))
        return
    out = console()
    out.print(f"{found.id}: {found.model} version {found.version}, {_state(found)}")
    out.print(f"scope: {_words(found.scope)}{_counts(found.scope)}")
    out.print(f"{_judged(found)}; cameras: {', '.join(found.cameras)}")
    rows = [(_time(h.at), h.what, h.by, h.why) for h in found.history]
    show_table(("when", "what", "by", "why"), rows, "It has no history.")


@incidents.command("acknowledge")
def acknowledge(
    incident: Incident, why: Annotated[str, typer.Option(help="What you are going to do, for the history.")] = ""
) -> None:
    """Say that you have taken an incident on."""

    async def run(session: Session) -> str:
        found = await _get(session, incident)
        await _call("AcknowledgeIncident", pb.AcknowledgeIncidentRequest(id=found.id, why=why), session)
        return str(found.id)

    console().print(f"{wait_for(run(open_session()))} is acknowledged.")


@incidents.command("mute")
def mute(
    incident: Incident,
    why: Annotated[str, typer.Option(help="The reason, for the history.")],
    until: Annotated[str, typer.Option(help="A time, or as 2h, 3d from now; until it is over when left out.")] = "",
) -> None:
    """Let nobody be told of an incident."""
    request = pb.MuteIncidentRequest(why=why)
    if until:
        request.until.CopyFrom(_stamp(until, "--until"))

    async def run(session: Session) -> str:
        request.id = (await _get(session, incident)).id
        await _call("MuteIncident", request, session)
        return str(request.id)

    console().print(f"{wait_for(run(open_session()))} is muted{f' until {until}' if until else ''}.")


@plans.command("add")
def add_plan(
    why: Annotated[str, typer.Option(help="What is going to be changed.")],
    ends: Annotated[str, typer.Option(help="A time, or as 2h, 3d from now.")],
    starts: Annotated[str, typer.Option(help="The same; now when left out.")] = "0s",
    camera: Annotated[list[str] | None, typer.Option(help="Id with * and ?; repeat it for more.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=value, as site=hall-2; cameras need all.")] = None,
) -> None:
    """Announce a change: what alarms inside it is its doing, nobody is told, and references are rebuilt after it."""
    request = pb.PlanChangeRequest(cameras=camera or [], labels=_labels(label or []), why=why)
    request.starts_at.CopyFrom(_stamp(starts, "--starts"))
    request.ends_at.CopyFrom(_stamp(ends, "--ends"))
    answer = wait_for(_call("PlanChange", request))
    console().print(f"Plan {answer.plan_id} is announced.")


@plans.command("list")
def list_plans(
    open_only: Annotated[bool, typer.Option("--open", help="Only those that are not over or cancelled.")] = False,
    as_json: AsJson = False,
) -> None:
    """List announced changes, oldest first."""
    found = wait_for(_call("ListPlans", pb.ListPlansRequest(open=open_only))).plans
    if as_json:
        show_json([_plain(one) for one in found])
        return
    rows = [
        (p.id, _who(p), _time(p.starts_at), _time(p.ends_at), p.by, p.why, "cancelled" if p.cancelled_by else "")
        for p in found
    ]
    show_table(("plan", "cameras", "starts", "ends", "by", "why", ""), rows, "No change is announced.")


@plans.command("cancel")
def cancel_plan(
    plan: Annotated[str, typer.Argument(help="The plan's id.")],
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "",
) -> None:
    """Call an announced change off."""
    wait_for(_call("CancelPlan", pb.CancelPlanRequest(plan_id=plan, why=why)))
    console().print(f"Plan {plan} is cancelled.")


async def _call(method: str, request: Any, session: Session | None = None) -> Any:
    session = session or open_session()
    async with session.stub("monitor", monitor_pb2_grpc.MonitorServiceStub) as stub:
        return await session.call("monitor", getattr(stub, method), request)


async def _get(session: Session, beginning: str) -> pb.Incident:
    """The incident whose id begins so. Raises `InvalidMessage` when several do, `NotFound` when none does."""
    if len(beginning) < 36:
        listed = (await _call("ListIncidents", pb.ListIncidentsRequest(limit=1000), session)).incidents
        found = sorted({one.id for one in listed if one.id.startswith(beginning)})
        if len(found) > 1:
            raise InvalidMessage(f"{beginning} is the beginning of {len(found)} incidents", field="incident")
        beginning = found[0] if found else beginning
    answer: pb.GetIncidentResponse = await _call("GetIncident", pb.GetIncidentRequest(id=beginning), session)
    return answer.incident


def _stamp(text: str, option: str) -> Timestamp:
    """A time as RFC 3339, or a number with s, m, h or d from now."""
    stamp = Timestamp()
    if found := re.fullmatch(r"(\d+)([smhd])", text):
        stamp.FromDatetime(datetime.now(UTC) + timedelta(seconds=int(found[1]) * _UNITS[found[2]]))
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


def _state(i: pb.Incident) -> str:
    state = "closed" if i.HasField("closed_at") else pb.MonitorState.Name(i.state).removeprefix("MONITOR_STATE_")
    more = [f"taken on by {i.acknowledged_by}"] if i.acknowledged_by else []
    more += ["planned"] if i.plan_id else ["muted"] if i.muted else []
    return ", ".join([state, *more])


def _words(scope: pb.IncidentScope) -> str:
    return f"{scope.kind} {scope.value}".strip()


def _counts(scope: pb.IncidentScope) -> str:
    within = f" ({scope.inside_touched} of {scope.inside} touched" if scope.inside else ""
    return f"{within}, {scope.outside_touched} of {scope.outside} outside)" if within else ""


def _judged(i: pb.Incident) -> str:
    cause = pb.DriftCause.Name(i.cause).removeprefix("DRIFT_CAUSE_").lower()
    harm = pb.DriftHarm.Name(i.harm).removeprefix("DRIFT_HARM_").lower()
    return f"{cause}, harm {harm}"


def _who(plan: pb.PlannedChange) -> str:
    return ", ".join([*plan.cameras, *(f"{name}={value}" for name, value in sorted(plan.labels.items()))])


def _time(stamp: Timestamp) -> str:
    return stamp.ToDatetime(tzinfo=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(message: Any) -> dict[str, Any]:
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
