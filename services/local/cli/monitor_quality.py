"""irisloop monitor quality: what people's labels say of each version, and how far that can be leant on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from services.local.cli.monitor import AsJson, Camera, Model, Since, Until, Version, ask, end, when
from services.local.cli.session import console, show_json, show_table


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quality")(quality)


def quality(
    model: Model,
    version: Version = "",
    camera: Camera = "",
    by: Annotated[str, typer.Option(help="Split by camera or hour.")] = "",
    since: Since = "14d",
    until: Until = "",
    as_json: AsJson = False,
) -> None:
    """Show accuracy by labels, with its interval; of a detector also how well its boxes fit."""
    asked = {"model": model, "version": version, "camera_id": camera, "by": by, "since": when(since), **end(until)}
    found = ask("/api/v1/quality", asked)
    if as_json:
        show_json(found)
        return
    heads = ("version", "role", "camera", "hour (UTC)", "labels", "accuracy", "error of drawn ones, 95 %", "but")
    show_table(heads, [_row(one) for one in found["segments"]], "Nothing is labelled in this time.")
    for one in found["segments"]:
        if "boxes" in one:
            _show_boxes(one)


def _row(one: dict[str, Any]) -> tuple[object, ...]:
    risk = one["risk"]
    drawn = int(risk["labels"])
    error = f"{risk['weighted_error']:.3f} ({risk['low']:.3f} - {risk['high']:.3f})" if drawn else "unknown"
    accuracy = f"{one['accuracy']:.3f}" if int(one["labels"]) else "unknown"
    hour = one.get("hour", "").replace("T", " ").removesuffix("Z")
    place = (one["version"], one["role"], one["camera_id"] or "all", hour or "all")
    return *place, one["labels"], accuracy, error, doubts(risk)


def doubts(risk: dict[str, Any]) -> str:
    """What speaks against leaning on an interval."""
    if not int(risk["labels"]):
        return ""
    told = [f"provisional: about {risk['answered']:.0%} of the draw is answered"] if risk["provisional"] else []
    if not risk["anytime_valid"]:
        told.append(f"not anytime-valid: {risk['corrected']} labels were corrected, or older ones are gone")
    return "; ".join(told)


def _show_boxes(one: dict[str, Any]) -> None:
    boxes = one["boxes"]
    told = ", ".join(
        f"{name} {boxes[field]:.3f}"
        for field, name in (("map", "mAP"), ("map50", "mAP50"), ("map75", "mAP75"), ("mae", "MAE"), ("rmse", "RMSE"))
        if field in boxes
    )
    where = " ".join(filter(None, (one["version"], one["role"], one["camera_id"], one.get("hour", ""))))
    console().print(f"\nBoxes of version {where}: {told or 'none to compare'}; loss {boxes['loss']:.3f}.", markup=False)
    rows = [
        (
            c["class_name"], c["labels"], c["predictions"], _share(c, "precision"), _share(c, "recall"),
            _share(c, "ap"), _share(c, "ap50"), _share(c, "mae"), _share(c, "rmse"),
        )
        for c in boxes["classes"]
    ]  # fmt: skip
    heads = ("class", "drawn", "found", "precision", "recall", "AP", "AP50", "MAE, px", "RMSE, px")
    show_table(heads, rows, "No box was drawn or found.")


def _share(row: dict[str, Any], field: str) -> str:
    return f"{row[field]:.3f}" if field in row else "unknown"
