"""Assets and predictions of the last days."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from services.labeling.domain.model import CHAMPION, Asset, Micros, Prediction, Reference, StoredObject
from services.labeling.outbound import tables
from services.labeling.outbound.boxes import boxes_of, boxes_text
from services.labeling.outbound.tables import insert_new, insert_or_replace

PRUNED_AT_ONCE = 5_000


@dataclass(frozen=True, slots=True)
class SqlPool:
    """`Pool` inside one open transaction."""

    connection: Connection

    def note_assets(self, assets: Sequence[Asset]) -> int:
        table = tables.assets
        ids = [asset.id for asset in assets]
        known = set(self.connection.execute(sa.select(table.c.id).where(table.c.id.in_(ids))).scalars())
        rows = {asset.id: asset_row(asset) for asset in assets if asset.id not in known}
        if rows:
            self.connection.execute(insert_new(self.connection, table), list(rows.values()))
        return len(rows)

    def assets(self, ids: Iterable[str]) -> dict[str, Asset]:
        table = tables.assets
        query = sa.select(table).where(table.c.id.in_(list(ids)), table.c.deleted.is_(False))
        return {row.id: asset_of(row) for row in self.connection.execute(query)}

    def deleted(self, ids: Iterable[str]) -> set[str]:
        table = tables.assets
        query = sa.select(table.c.id).where(table.c.id.in_(list(ids)), table.c.deleted.is_(True))
        return set(self.connection.execute(query).scalars())

    def forget(self, ids: Sequence[tuple[str, str]], at: Micros) -> None:
        for asset_id, camera_id in ids:
            gone = Asset(asset_id, camera_id, at, StoredObject("", 0, ""))
            values = {**asset_row(gone), "deleted": True}
            self.connection.execute(insert_or_replace(self.connection, tables.assets, values))
        table = tables.predictions
        self.connection.execute(sa.delete(table).where(table.c.asset_id.in_([asset_id for asset_id, _ in ids])))

    def note_predictions(self, predictions: Sequence[Prediction]) -> list[Prediction]:
        table = tables.predictions
        ids = [prediction.asset_id for prediction in predictions]
        query = sa.select(table.c.asset_id, table.c.model, table.c.role).where(table.c.asset_id.in_(ids))
        known = {(row.asset_id, row.model, row.role) for row in self.connection.execute(query)}
        known.update((asset_id, "", "") for asset_id in self.deleted(ids))
        new: dict[tuple[str, str, str], Prediction] = {}
        for prediction in predictions:
            key = (prediction.asset_id, prediction.reference.model, prediction.reference.role)
            if key not in known and (prediction.asset_id, "", "") not in known:
                new.setdefault(key, prediction)
        if new:
            self.connection.execute(insert_new(self.connection, table), [_row(one) for one in new.values()])
        return list(new.values())

    def references(self, asset_ids: Iterable[str]) -> dict[str, list[Reference]]:
        table = tables.predictions
        query = sa.select(table).where(table.c.asset_id.in_(list(asset_ids)))
        found: dict[str, list[Reference]] = {}
        for row in self.connection.execute(query):
            found.setdefault(row.asset_id, []).append(_prediction(row).reference)
        for references in found.values():
            references.sort(key=lambda one: (one.role != CHAMPION, one.role, one.model))
        return found

    def candidates(self, model: str, since: Micros, limit: int) -> list[Prediction]:
        table = tables.predictions
        query = (
            sa.select(table)
            .where(table.c.role == CHAMPION, table.c.captured_at >= since)
            .where(~_asked(table.c.asset_id), ~_labelled(table.c.asset_id))
            .order_by(table.c.captured_at.desc())
            .limit(limit)
        )
        if model:
            query = query.where(table.c.model == model)
        return [_prediction(row) for row in self.connection.execute(query)]

    def unasked(self, asset_ids: Iterable[str]) -> set[str]:
        ids = list(asset_ids)
        asked, labelled = tables.tasks.c.asset_id, tables.revisions.c.asset_id
        known = set(self.connection.execute(sa.select(asked).where(asked.in_(ids))).scalars())
        known |= set(self.connection.execute(sa.select(labelled).where(labelled.in_(ids))).scalars())
        return set(ids) - known

    def prune(self, before: Micros, most: int) -> int:
        return sum(self._prune(table, before, most) for table in (tables.predictions, tables.assets))

    def _prune(self, table: sa.Table, before: Micros, most: int) -> int:
        key = table.c.asset_id if "asset_id" in table.c else table.c.id
        beyond = sa.select(table.c.captured_at).order_by(table.c.captured_at.desc()).offset(most).limit(1)
        newest_too_many = self.connection.execute(beyond).scalar()
        bound = max(before, newest_too_many or 0)
        pending = sa.select(tables.tasks.c.asset_id).where(tables.tasks.c.state.in_(tables.PENDING))
        oldest = (
            sa.select(key)
            .where(table.c.captured_at <= bound, key.not_in(pending))
            .order_by(table.c.captured_at)
            .limit(PRUNED_AT_ONCE)
        )
        return self.connection.execute(sa.delete(table).where(key.in_(oldest))).rowcount


def _asked(asset_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(tables.tasks.c.asset_id == asset_id)


def _labelled(asset_id: sa.ColumnElement[str]) -> sa.ColumnElement[bool]:
    return sa.exists().where(tables.revisions.c.asset_id == asset_id)


def asset_row(asset: Asset) -> dict[str, Any]:
    """The columns of `assets`."""
    return {
        "id": asset.id,
        "camera_id": asset.camera_id,
        "captured_at": asset.captured_at,
        "digest": asset.object.digest,
        "size_bytes": asset.object.size_bytes,
        "content_type": asset.object.content_type,
        "deleted": False,
    }


def asset_of(row: Row[Any]) -> Asset:
    """From the columns of `assets`."""
    return Asset(row.id, row.camera_id, row.captured_at, StoredObject(row.digest, row.size_bytes, row.content_type))


def _row(prediction: Prediction) -> dict[str, Any]:
    reference = prediction.reference
    return {
        "asset_id": prediction.asset_id,
        "model": reference.model,
        "role": reference.role,
        "id": reference.prediction_id,
        "version": reference.version,
        "class_name": reference.class_name,
        "score": reference.score,
        "features": reference.features,
        "margin": prediction.margin,
        "boxes": boxes_text(reference),
        "camera_id": prediction.camera_id,
        "captured_at": prediction.captured_at,
    }


def _prediction(row: Row[Any]) -> Prediction:
    boxes, features = boxes_of(row.boxes), row.features or b""
    reference = Reference(
        row.id, row.model, row.version, row.role, row.class_name, row.score, **boxes, features=features
    )
    return Prediction(reference, row.asset_id, row.camera_id, row.captured_at, row.margin)
