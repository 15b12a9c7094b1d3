"""The pages that ingest's lists are made of, by keyset on the sequence number, or on the id for cameras."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from services.ingest.domain.assets import Camera
from services.ingest.domain.pages import Page, read_cursor, read_number, write_cursor
from services.ingest.outbound.tables import ASSETS, CAMERAS
from services.ingest.wire import from_micros, to_micros


def page_of_rows(
    connection: Connection, table: sa.Table, camera_id: str, since: datetime | None, cursor: str, limit: int
) -> Page[bytes]:
    """Bodies of assets or rejections: newest first, or oldest first from `since` on. Raises `InvalidMessage`."""
    kind = f"{table.name}-{'new' if since is None else 'since'}"
    query = sa.select(table.c.seq, table.c.body).limit(limit + 1)
    if table is ASSETS:
        query = query.where(table.c.deleted_at.is_(None))
    if camera_id:
        query = query.where(table.c.camera_id == camera_id)
    after = read_number(kind, cursor) if cursor else None
    if since is None:
        query = query.order_by(table.c.seq.desc())
        query = query.where(table.c.seq < after) if after is not None else query
    else:
        first = _first_since(connection, table, since) if after is None else after + 1
        query = query.order_by(table.c.seq).where(table.c.seq >= first)
    rows = connection.execute(query).all()
    following = write_cursor(kind, rows[limit - 1].seq) if len(rows) > limit else ""
    return Page([bytes(row.body) for row in rows[:limit]], following)


def page_of_cameras(
    connection: Connection, site: str, tags: Mapping[str, str], cursor: str, limit: int
) -> Page[Camera]:
    """Cameras by id. Tags are looked at row by row: there are hundreds of cameras, not millions."""
    query = sa.select(CAMERAS).order_by(CAMERAS.c.id)
    if cursor:
        query = query.where(CAMERAS.c.id > read_cursor("cameras", cursor))
    if site:
        query = query.where(CAMERAS.c.site == site)
    found: list[Camera] = []
    for row in connection.execute(query):
        camera = camera_from_row(row)
        if tags.items() <= camera.tags.items():
            found.append(camera)
        if len(found) > limit:
            return Page(found[:limit], write_cursor("cameras", found[limit - 1].id))
    return Page(found, "")


def camera_from_row(row: Any) -> Camera:
    """A camera as its row holds it."""
    return Camera(
        id=row.id,
        registered_at=from_micros(row.registered_at),
        site=row.site,
        tags=json.loads(row.tags),
        last_frame_at=None if row.last_frame_at is None else from_micros(row.last_frame_at),
        frames=row.frames,
        revision=row.revision,
        thumbnail=None if row.thumbnail is None else bytes(row.thumbnail),
    )


def _first_since(connection: Connection, table: sa.Table, since: datetime) -> int:
    """The first row stored at or after `since`; times of storing never go back, so the rest follow it."""
    query = sa.select(table.c.seq).where(table.c.stored_at >= to_micros(since))
    first = connection.execute(query.order_by(table.c.stored_at, table.c.seq).limit(1)).scalar_one_or_none()
    return 2**62 if first is None else int(first)
