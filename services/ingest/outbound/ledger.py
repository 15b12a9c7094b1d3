"""Ingest's memory on SQL: a batch's assets, rejections, cameras and events are written in one transaction."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from irisloop.ingest.v1 import ingest_pb2 as pb
from sqlalchemy import Connection

from services.common.bus.api import Event
from services.common.database import Database
from services.common.outbox import enqueue
from services.ingest.domain.assets import Asset, Camera, Judged, Outcome, Rejection
from services.ingest.domain.pages import Page
from services.ingest.domain.settlement import Known, Settlement, settle
from services.ingest.errors import UnknownAsset
from services.ingest.outbound import events
from services.ingest.outbound.queries import camera_from_row, page_of_cameras, page_of_rows
from services.ingest.outbound.tables import ASSETS, CAMERAS, OBJECTS, REJECTIONS, REMOVALS
from services.ingest.wire import asset_from_proto, rejection_from_proto, to_micros

_COUNT_USE: Final = sa.text(
    "INSERT INTO objects (digest, first_asset_id, uses) VALUES (:digest, :first, :uses) "
    "ON CONFLICT (digest) DO UPDATE SET uses = objects.uses + excluded.uses"
)
_NOTE_REMOVAL: Final = sa.text("INSERT INTO removals (digest) VALUES (:digest) ON CONFLICT (digest) DO NOTHING")
_PUT_CAMERA: Final = sa.text(
    "INSERT INTO cameras (id, site, tags, registered_at, last_frame_at, frames, revision, thumbnail) "
    "VALUES (:id, :site, :tags, :registered_at, :last_frame_at, :frames, :revision, :thumbnail) "
    "ON CONFLICT (id) DO UPDATE SET site = excluded.site, tags = excluded.tags, "
    "last_frame_at = excluded.last_frame_at, frames = excluded.frames, revision = excluded.revision, "
    "thumbnail = excluded.thumbnail"
)


class SqlLedger:
    """`domain.ports.Ledger` on SQL. A frame's id is unique over assets and rejections, for ever: that is the inbox."""

    def __init__(self, database: Database, clock: Callable[[], datetime], historical_after: timedelta) -> None:
        """`clock` gives aware UTC times; `historical_after` is how old a frame may arrive and still be monitored."""
        self._database = database
        self._clock = clock
        self._historical_after = historical_after
        self._latest = datetime.min.replace(tzinfo=clock().tzinfo)

    async def store(self, batch: Sequence[Judged]) -> list[Outcome]:
        """Settle a batch and say it; an outcome for each frame, in order."""

        def work(connection: Connection) -> list[Outcome]:
            known = _known(connection, batch)
            settlement = settle(batch, known, at=self._now(), historical_after=self._historical_after)
            _write(connection, settlement)
            return settlement.outcomes

        return await self._database.transact(work)

    async def asset(self, asset_id: str) -> Asset:
        """Raises `UnknownAsset`."""
        body = await self._database.read(lambda connection: _body(connection, asset_id))
        return _asset(body)

    async def assets(self, *, camera_id: str, since: datetime | None, cursor: str, limit: int) -> Page[Asset]:
        """Newest first; with `since` (by time of storing) oldest first, so that a reader can follow."""
        bodies = await self._database.read(
            lambda connection: page_of_rows(connection, ASSETS, camera_id, since, cursor, limit)
        )
        return Page([_asset(body) for body in bodies.rows], bodies.next_cursor)

    async def rejections(self, *, camera_id: str, since: datetime | None, cursor: str, limit: int) -> Page[Rejection]:
        """Ordered as `assets`."""
        bodies = await self._database.read(
            lambda connection: page_of_rows(connection, REJECTIONS, camera_id, since, cursor, limit)
        )
        rows = [rejection_from_proto(pb.Rejection.FromString(body)) for body in bodies.rows]
        return Page(rows, bodies.next_cursor)

    async def rejection_counts(self, *, camera_id: str, since: datetime | None) -> Mapping[str, int]:
        """Reason -> how many, over all pages."""
        query = sa.select(REJECTIONS.c.reason, sa.func.count()).group_by(REJECTIONS.c.reason)
        if camera_id:
            query = query.where(REJECTIONS.c.camera_id == camera_id)
        if since is not None:
            query = query.where(REJECTIONS.c.stored_at >= to_micros(since))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return {reason: int(count) for reason, count in rows}

    async def cameras(self, *, site: str, tags: Mapping[str, str], cursor: str, limit: int) -> Page[Camera]:
        """By id; empty `site` and `tags` filter nothing, several tags must all fit."""
        return await self._database.read(lambda connection: page_of_cameras(connection, site, tags, cursor, limit))

    async def put_camera(self, camera_id: str, site: str, tags: Mapping[str, str], at: datetime) -> Camera:
        """Register or change a camera; says `camera changed` only when something changed."""

        def work(connection: Connection) -> Camera:
            before = _cameras(connection, [camera_id]).get(camera_id)
            if before is not None and before.site == site and before.tags == tags:
                return before
            camera = _changed(before, camera_id, site, tags, at)
            connection.execute(_PUT_CAMERA, _camera_row(camera))
            enqueue(connection, [events.camera_changed(camera, at)])
            return camera

        return await self._database.transact(work)

    async def delete_asset(self, asset_id: str, *, reason: str, by: str, at: datetime) -> None:
        """Forget an asset and note its object for removal if no other asset uses it. Raises `UnknownAsset`."""

        def work(connection: Connection) -> None:
            asset = _asset(_body(connection, asset_id))
            digest = asset.object.digest
            connection.execute(
                sa.update(ASSETS).where(ASSETS.c.id == asset_id).values(body=b"", deleted_at=to_micros(at))
            )
            _forget_use(connection, digest)
            said = events.asset_deleted(asset_id, asset.camera_id, digest, reason=reason, by=by, at=at)
            enqueue(connection, [said])

        await self._database.transact(work)

    async def removals(self) -> Sequence[str]:
        """Digests of objects to be removed: noted, not yet done, and not stored anew in between."""

        def work(connection: Connection) -> Sequence[str]:
            connection.execute(sa.delete(REMOVALS).where(REMOVALS.c.digest.in_(sa.select(OBJECTS.c.digest))))
            return list(connection.execute(sa.select(REMOVALS.c.digest)).scalars())

        return await self._database.transact(work)

    async def removed(self, digests: Sequence[str]) -> None:
        """These objects are gone."""
        await self._database.transact(
            lambda connection: connection.execute(sa.delete(REMOVALS).where(REMOVALS.c.digest.in_(digests)))
        )

    def _now(self) -> datetime:
        """Never earlier than before, whatever the clock does: lists by time rely on it."""
        self._latest = max(self._latest, self._clock())
        return self._latest


def _known(connection: Connection, batch: Sequence[Judged]) -> Known:
    ids = list({judged.frame.id for judged in batch})
    digests = list({judged.digest for judged in batch})
    frames = {
        row
        for table in (ASSETS, REJECTIONS)
        for row in connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars()
    }
    firsts = sa.select(OBJECTS.c.digest, OBJECTS.c.first_asset_id).where(OBJECTS.c.digest.in_(digests))
    originals = {row.digest: row.first_asset_id for row in connection.execute(firsts)}
    return Known(frames, originals, _cameras(connection, list({judged.frame.camera_id for judged in batch})))


def _write(connection: Connection, settlement: Settlement) -> None:
    said: list[Event[Any]] = []
    if settlement.cameras:
        connection.execute(_PUT_CAMERA, [_camera_row(camera) for camera in settlement.cameras.values()])
        for camera_id in settlement.registered:
            camera = settlement.cameras[camera_id]
            said.append(events.camera_changed(camera, camera.last_frame_at or camera.registered_at))
    if settlement.assets:
        stored = [events.asset_stored(asset, trace) for asset, trace in settlement.assets]
        rows = [_asset_row(asset, event.value) for (asset, _), event in zip(settlement.assets, stored, strict=True)]
        connection.execute(sa.insert(ASSETS), rows)
        connection.execute(_COUNT_USE, _uses([asset for asset, _ in settlement.assets]))
        said += stored
    if settlement.rejections:
        rejected = [events.frame_rejected(rejection, trace) for rejection, trace in settlement.rejections]
        connection.execute(sa.insert(REJECTIONS), [_rejection_row(event.value.rejection) for event in rejected])
        said += rejected
    enqueue(connection, said)


def _asset_row(asset: Asset, event: pb.AssetStored) -> dict[str, Any]:
    return {
        "id": asset.id,
        "camera_id": asset.camera_id,
        "stored_at": to_micros(asset.stored_at),
        "digest": asset.object.digest,
        "body": event.asset.SerializeToString(),
    }


def _rejection_row(message: pb.Rejection) -> dict[str, Any]:
    rejection = rejection_from_proto(message)
    return {
        "id": rejection.id,
        "camera_id": rejection.camera_id,
        "stored_at": to_micros(rejection.rejected_at),
        "reason": rejection.reason.value,
        "body": message.SerializeToString(),
    }


def _uses(assets: Sequence[Asset]) -> list[dict[str, Any]]:
    counts = Counter(asset.object.digest for asset in assets)
    firsts = {asset.object.digest: asset.id for asset in reversed(assets)}
    return [{"digest": digest, "first": firsts[digest], "uses": uses} for digest, uses in counts.items()]


def _forget_use(connection: Connection, digest: str) -> None:
    used = OBJECTS.c.digest == digest
    connection.execute(sa.update(OBJECTS).where(used).values(uses=OBJECTS.c.uses - 1))
    if connection.execute(sa.delete(OBJECTS).where(used, OBJECTS.c.uses <= 0)).rowcount:
        connection.execute(_NOTE_REMOVAL, {"digest": digest})


def _cameras(connection: Connection, ids: Sequence[str]) -> dict[str, Camera]:
    rows = connection.execute(sa.select(CAMERAS).where(CAMERAS.c.id.in_(ids)))
    return {row.id: camera_from_row(row) for row in rows}


def _changed(before: Camera | None, camera_id: str, site: str, tags: Mapping[str, str], at: datetime) -> Camera:
    if before is None:
        return Camera(camera_id, at, site, tags)
    return Camera(
        camera_id,
        before.registered_at,
        site,
        tags,
        before.last_frame_at,
        before.frames,
        before.revision + 1,
        before.thumbnail,
    )


def _camera_row(camera: Camera) -> dict[str, Any]:
    return {
        "id": camera.id,
        "site": camera.site,
        "tags": json.dumps(dict(camera.tags), sort_keys=True, separators=(",", ":")),
        "registered_at": to_micros(camera.registered_at),
        "last_frame_at": None if camera.last_frame_at is None else to_micros(camera.last_frame_at),
        "frames": camera.frames,
        "revision": camera.revision,
        "thumbnail": camera.thumbnail,
    }


def _body(connection: Connection, asset_id: str) -> bytes:
    body = connection.execute(sa.select(ASSETS.c.body).where(ASSETS.c.id == asset_id)).scalar_one_or_none()
    if not body:
        raise UnknownAsset(f"There is no asset {asset_id[:80]}.", field="asset_id")
    return bytes(body)


def _asset(body: bytes) -> Asset:
    return asset_from_proto(pb.Asset.FromString(body))
