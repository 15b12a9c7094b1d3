"""irisloop monitor: how models and cameras stand, why there was an alarm, pictures, and a report as one page."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from services.local.cli.session import answer_of, console, open_session, show_json, show_table, wait_for
from services.local.errors import LocalError

app = typer.Typer(
    help="Monitor: status, history, explain, quality, plot, report; policy, backtest, rebuild.", no_args_is_help=True
)
Model = Annotated[str, typer.Option("--model", help="The model's name.")]
AnyModel = Annotated[str, typer.Option("--model", help="Only this model.")]
Camera = Annotated[str, typer.Option("--camera", help="Only this camera.")]
Since = Annotated[
    str, typer.Option("--since", help="Begin: a time (2026-05-01T08:00Z) or how long ago (90m, 24h, 7d).")
]
Until = Annotated[str, typer.Option("--until", help="End, written like --since; now when it is left out.")]
AsJson = Annotated[bool, typer.Option("--json", help="For programs.")]
Version = Annotated[str, typer.Option("--version", help="Only this version.")]
_AGO: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DRAWING_S: Final = 120.0


class Kind(StrEnum):
    """What is plotted."""

    CHANNELS = "channels"
    QUALITY = "quality"
    CONFUSION = "confusion"
    CALIBRATION = "calibration"


@app.command("status")
def status(model: AnyModel = "", as_json: AsJson = False) -> None:
    """Show how each model and camera stands, and which channels are furthest from normal."""
    found = ask("/api/v1/status", {"model": model})
    if as_json:
        show_json(found)
        return
    rows = [
        (
            m["model"],
            m["version"],
            camera["camera_id"],
            _word(camera["state"]),
            camera["predictions"],
            _furthest(camera),
        )
        for m in found["models"]
        for camera in m["cameras"]
    ]
    for m in found["models"]:
        console().print(_sentence(m))
    show_table(
        ("model", "version", "camera", "state", "predictions", "furthest channel"), rows, "No camera is watched yet."
    )


@app.command("history")
def history(
    model: AnyModel = "",
    since: Since = "30d",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many of the newest.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List alarms, the newest first: cause, harm and shape, and how they ended."""
    found = ask("/api/v1/incidents", {"model": model, "since": when(since), "limit": limit})
    if as_json:
        show_json(found)
        return
    rows = [
        (
            i["id"], i["model"], i["version"], _short(i["detected_at"]), _short(i.get("closed_at", "")) or "open",
            _word(i["state"]) if "closed_at" not in i else "over", _word(i["cause"]), _word(i["harm"]),
            _word(i["shape"]), " ".join(i["cameras"]),
        )
        for i in found["incidents"]
    ]  # fmt: skip
    if not rows:
        require_known(model)
    heads = ("id", "model", "version", "alarm (UTC)", "end", "state", "cause", "harm", "shape", "cameras")
    show_table(heads, rows, "There was no alarm.")


@app.command("explain")
def explain(
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="The id of an incident, or of an alert about it.")],
    as_json: AsJson = False,
) -> None:
    """Say why there was an alarm: channels, since when, frames before and after, what would clear it."""
    found = ask(f"/api/v1/explanations/{alert}", {})
    if as_json:
        show_json(found)
        return
    ingest = open_session().url("ingest")
    incident = found["incident"]
    console().print(f"[bold]{incident['model']} version {incident['version']}[/], incident {incident['id']}")
    for title, lines in (
        ("Why", found["why"]),
        ("Frames before", [_frame(one, ingest) for one in found["before"]]),
        ("Frames after", [_frame(one, ingest) for one in found["after"]]),
        ("What would clear it", found["clears"]),
        ("What is not known", found["unknown"]),
    ):
        if lines:
            console().print(f"\n[bold]{title}[/]")
            for line in lines:
                console().print(f"  {line}", markup=False)


@app.command("predictions")
def predictions(
    model: AnyModel = "",
    version: Version = "",
    role: Annotated[str, typer.Option(help="champion, shadow, direct, ...")] = "",
    camera: Camera = "",
    class_name: Annotated[str, typer.Option("--class", help="Only this class.")] = "",
    min_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Lowest confidence.")] = 0.0,
    max_score: Annotated[float, typer.Option(min=0.0, max=1.0, help="Highest confidence.")] = 1.0,
    since: Since = "24h",
    until: Until = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many.")] = 20,
    page: Annotated[str, typer.Option(help="The token that the page before ended with.")] = "",
    as_json: AsJson = False,
) -> None:
    """List single predictions, the newest frames first."""
    asked = {
        "model": model, "version": version, "role": role, "camera_id": camera, "class_name": class_name,
        "min_score": min_score, "max_score": max_score, "since": when(since), "limit": limit, "page_token": page,
        **end(until),
    }  # fmt: skip
    found = ask("/api/v1/predictions", asked)
    if as_json:
        show_json(found)
        return
    rows = [
        (
            _short(p["captured_at"]), p["model"], p["version"], p["role"], p["camera_id"],
            p["error"] or p["class_name"], f"{p['score']:.3f}", p["asset_id"],
        )
        for p in found["predictions"]
    ]  # fmt: skip
    if not rows:
        require_known(model)
    heads = ("captured (UTC)", "model", "version", "role", "camera", "answer", "score", "asset")
    show_table(heads, rows, "There is no such prediction.")
    if found["next_page_token"]:
        console().print(f"More: --page {found['next_page_token']}")


@app.command("plot")
def plot(
    kind: Annotated[Kind, typer.Argument(help="channels, quality, confusion or calibration.")],
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="A file that ends in .svg or .png.")],
    camera: Camera = "",
    version: Version = "",
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="For channels: pixels.brightness, class.cat, ...; repeat it.")
    ] = None,
    since: Since = "24h",
    until: Until = "",
) -> None:
    """Draw channels or accuracy over time, the confusion matrix, or calibration."""
    form = output.suffix.removeprefix(".").lower()
    if form not in ("svg", "png"):
        raise LocalError(f"{output}: a plot is written to a file that ends in .svg or .png.")
    asked = {
        "model": model, "camera_id": camera, "version": version, "channel": channel or [], "since": when(since),
        **end(until),
    }  # fmt: skip
    _write(output, _fetch(f"/api/v1/plots/{kind.value}.{form}", asked))


@app.command("report")
def report(
    model: Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The HTML file.")],
    camera: Camera = "",
    since: Since = "24h",
    until: Until = "",
) -> None:
    """Write one self-contained HTML page: verdict, incidents, accuracy, channels, decisions, and what is unknown."""
    asked = {"model": model, "camera_id": camera, "since": when(since), **end(until)}
    _write(output, _fetch("/api/v1/report", {**asked, "assets_url": open_session().url("ingest")}))


def require_known(model: str) -> None:
    """A name that the monitor never heard is an error, not an empty list. Raises the monitor's sentence."""
    if model:
        ask("/api/v1/status", {"model": model})


def ask(path: str, asked: dict[str, Any]) -> Any:
    async def ask() -> Any:
        async with open_session().http("monitor") as client:
            return answer_of(await client.get(path, params=asked))

    return wait_for(ask())


def _fetch(path: str, asked: dict[str, Any]) -> bytes:
    async def fetch() -> bytes:
        async with open_session().http("monitor") as client:
            answer = await client.get(path, params=asked, timeout=_DRAWING_S)
            if not answer.is_success:
                answer_of(answer)
            return answer.content

    return wait_for(fetch())


def _write(file: Path, content: bytes) -> None:
    try:
        file.write_bytes(content)
    except OSError as error:
        raise LocalError(f"{file} cannot be written: {error.strerror}.") from error
    console().print(f"Written: {file} ({len(content):,} bytes).")


def end(until: str) -> dict[str, str]:
    return {"until": when(until)} if until else {}


def when(text: str) -> str:
    """RFC 3339, from that or from how long ago. Raises `LocalError`."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return (datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: float(ago[1])})).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise LocalError(f"{text!r} is neither a time (2026-05-01T08:00Z) nor a duration (90m, 24h, 7d).") from None
    return at.replace(tzinfo=at.tzinfo or UTC).isoformat()


def _short(stamp: str) -> str:
    return stamp.replace("T", " ").partition(".")[0].removesuffix("Z")


def _word(name: str) -> str:
    """MONITOR_STATE_OK, DRIFT_HARM_NONE and the like as one word."""
    return re.sub(r"^(MONITOR|DRIFT)_[A-Z]+_", "", name).lower()


def _sentence(model: dict[str, Any]) -> str:
    risk = model.get("risk", {})
    error = f"; labelled error {risk['current_error']:.3f}" if int(risk.get("current_labels", 0)) else ""
    asked = "; a retraining is asked for" if model["open_request_id"] else ""
    incident = f"; incident {model['incident']['id']}" if "incident" in model else ""
    return f"{model['model']} version {model['version']} is {_word(model['state'])}{error}{incident}{asked}."


def _furthest(camera: dict[str, Any]) -> str:
    inputs = [c for c in camera["channels"] if c["channel"] != "labelled_error" and c["threshold"]]
    if not inputs:
        return ""
    first = max(inputs, key=lambda c: c["statistic"] / c["threshold"])
    share = first["statistic"] / first["threshold"]
    return f"{first['channel']} {first['shift_sigma']:+.2f} sigma, {share:.0%} of its threshold"


def _frame(frame: dict[str, Any], ingest: str) -> str:
    place = f"{ingest}/api/v1/assets/{frame['asset_id']}/content"
    if not frame.get("captured_at"):  # Remembered by the judge alone, without its numbers.
        return f"{frame['camera_id']}  {place}"
    return (
        f"{_short(frame['captured_at'])} {frame['camera_id']}: {frame['class_name']} {frame['score']:.2f}, "
        f"{frame['channel']} {frame['value']:.3g}  {place}"
    )
