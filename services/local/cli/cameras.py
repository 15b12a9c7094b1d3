"""irisloop cameras: who sends frames, where they stand, and their tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any
from urllib.parse import quote

import typer

from services.local.cli.session import Session, answer_of, console, open_session, show_json, show_table, wait_for
from services.local.errors import LocalError

app = typer.Typer(help="Cameras: list, add, tag.", no_args_is_help=True)
Tags = Annotated[list[str] | None, typer.Option("--tag", help="name=value; repeat it for more.")]
PAGE = 1000


@app.command("list")
def list_cameras(
    site: Annotated[str, typer.Option(help="Only this site's.")] = "",
    tag: Tags = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """List the cameras that ingest knows."""
    cameras = wait_for(_list(open_session(), site, tag or []))
    if as_json:
        show_json(cameras)
        return
    rows = [
        (c["id"], c["site"], _words(c["tags"]), f"{c['frames']:,}", str(c["last_frame_at"] or "never")[:19])
        for c in cameras
    ]
    show_table(("camera", "site", "tags", "frames", "last frame"), rows, "No camera has sent a frame yet.")


@app.command("add")
def add_camera(
    camera: Annotated[str, typer.Argument(help="Its id, as it sends it.")],
    site: Annotated[str, typer.Option(help="Where it stands.")] = "",
    tag: Tags = None,
) -> None:
    """Register a camera before its first frame."""
    wait_for(_put(open_session(), camera, site, _pairs(tag or []), merge=False))
    console().print(f"{camera} is registered.")


@app.command("tag")
def tag_camera(
    camera: Annotated[str, typer.Argument(help="Its id.")],
    tags: Annotated[list[str], typer.Argument(help="name=value sets a tag, name= removes it.")],
) -> None:
    """Set or remove tags of a camera; its site and other tags stay."""
    now = wait_for(_put(open_session(), camera, "", _pairs(tags), merge=True))
    console().print(f"{camera}: {_words(now['tags']) or 'no tags'}")


async def _list(session: Session, site: str, tags: Sequence[str]) -> list[dict[str, Any]]:
    cameras: list[dict[str, Any]] = []
    cursor = ""
    async with session.http("ingest") as client:
        while True:
            query: dict[str, Any] = {"site": site, "tag": list(tags), "limit": PAGE, "cursor": cursor}
            page = answer_of(await client.get("/api/v1/cameras", params=query))
            cameras += page["cameras"]
            cursor = page["next_cursor"]
            if not cursor:
                return cameras


async def _put(session: Session, camera: str, site: str, tags: dict[str, str], *, merge: bool) -> Any:
    if merge:
        known = next((one for one in await _list(session, "", []) if one["id"] == camera), None)
        if known is None:
            raise LocalError(f"There is no camera {camera}. Add it: irisloop cameras add {camera}")
        site, tags = known["site"], {**known["tags"], **tags}
    kept = {name: value for name, value in tags.items() if value}
    async with session.http("ingest") as client:
        path = f"/api/v1/cameras/{quote(camera, safe='/')}"
        return answer_of(await client.put(path, json={"site": site, "tags": kept}))


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = dict.fromkeys(texts, "")
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise LocalError(f"The tag {text!r} is not name=value.")
        del pairs[text]
        pairs[name] = value
    return pairs


def _words(tags: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(tags.items()))
