"""irisloop monitor incidents and plan: incidents, who has taken them on, and changes announced beforehand."""

from __future__ import annotations

from typing import Annotated

import typer

from services.local.cli.session import console, open_session, show_json, show_table, wait_for

incidents_app = typer.Typer(help="Incidents: list, show, acknowledge, mute.", no_args_is_help=True)
plans_app = typer.Typer(help="Changes announced beforehand: add, list, cancel.", no_args_is_help=True)
Incident = Annotated[str, typer.Argument(help="The incident's id, or its first characters.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]


@incidents_app.command("list")
def list_incidents(
    model: Annotated[str, typer.Option(help="Only this model's.")] = "",
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not over.")] = False,
    limit: Annotated[int, typer.Option(help="At most so many, newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List incidents, newest first."""
    from services.local import incidents

    found = wait_for(incidents.listed(open_session(), model, limit, only_open))
    if as_json:
        show_json([incidents.plain(one) for one in found])
        return
    head = ("incident", "model", "state", "scope", "cause, harm", "since")
    show_table(head, [incidents.row(one) for one in found], "There is no incident.")


@incidents_app.command("show")
def show_incident(incident: Incident, as_json: AsJson = False) -> None:
    """Show an incident with its history."""
    from services.local import incidents

    found = wait_for(incidents.found(open_session(), incident))
    if as_json:
        show_json(incidents.plain(found))
        return
    out = console()
    out.print(f"{found.id}: {found.model} version {found.version}, {incidents.state(found)}")
    out.print(f"scope: {incidents.scope(found.scope)}{incidents.counts(found.scope)}")
    out.print(f"{incidents.judged(found)}; cameras: {', '.join(found.cameras)}")
    show_table(("when", "what", "by", "why"), incidents.history(found), "It has no history.")


@incidents_app.command("acknowledge")
def acknowledge(
    incident: Incident, why: Annotated[str, typer.Option(help="What you are going to do, for the history.")] = ""
) -> None:
    """Say that you have taken an incident on."""
    from services.local import incidents

    console().print(f"{wait_for(incidents.acknowledge(open_session(), incident, why))} is acknowledged.")


@incidents_app.command("mute")
def mute(
    incident: Incident,
    why: Annotated[str, typer.Option(help="The reason, for the history.")],
    until: Annotated[str, typer.Option(help="A time, or as 2h, 3d from now; until it is over when left out.")] = "",
) -> None:
    """Let nobody be told of an incident."""
    from services.local import incidents

    muted = wait_for(incidents.mute(open_session(), incident, why, until))
    console().print(f"{muted} is muted{f' until {until}' if until else ''}.")


@plans_app.command("add")
def add_plan(
    why: Annotated[str, typer.Option(help="What is going to be changed.")],
    ends: Annotated[str, typer.Option(help="A time, or as 2h, 3d from now.")],
    starts: Annotated[str, typer.Option(help="The same; now when left out.")] = "0s",
    camera: Annotated[list[str] | None, typer.Option(help="Id with * and ?; repeat it for more.")] = None,
    label: Annotated[list[str] | None, typer.Option(help="name=value, as site=hall-2; cameras need all.")] = None,
) -> None:
    """Announce a change: what alarms inside it is its doing, nobody is told, and references are rebuilt after it."""
    from services.local import incidents

    plan = wait_for(incidents.plan(open_session(), camera or [], label or [], starts, ends, why))
    console().print(f"Plan {plan} is announced.")


@plans_app.command("list")
def list_plans(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that are not over or cancelled.")] = False,
    as_json: AsJson = False,
) -> None:
    """List announced changes, oldest first."""
    from services.local import incidents

    found = wait_for(incidents.plans(open_session(), only_open))
    if as_json:
        show_json([incidents.plain(one) for one in found])
        return
    head = ("plan", "cameras", "starts", "ends", "by", "why", "")
    show_table(head, [incidents.plan_row(one) for one in found], "No change is announced.")


@plans_app.command("cancel")
def cancel_plan(
    plan: Annotated[str, typer.Argument(help="The plan's id.")],
    why: Annotated[str, typer.Option(help="The reason, for the history.")] = "",
) -> None:
    """Call an announced change off."""
    from services.local import incidents

    wait_for(incidents.cancel(open_session(), plan, why))
    console().print(f"Plan {plan} is cancelled.")


def add_to(app: typer.Typer) -> None:
    """As groups of `irisloop monitor`."""
    app.add_typer(incidents_app, name="incidents")
    app.add_typer(plans_app, name="plan")
