"""Every revision of every annotation, and the concept changes that overtook some."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from services.labeling.domain.model import (
    Annotation,
    Asset,
    ConceptChange,
    Dataset,
    Label,
    Micros,
    Source,
    StoredObject,
)
from services.labeling.domain.ports import AnnotationFilter
from services.labeling.outbound import tables
from services.labeling.outbound.tables import insert_or_replace


@dataclass(frozen=True, slots=True)
class SqlAnnotations:
    """`Annotations` inside one open transaction."""

    connection: Connection

    def current(self, asset_ids: Iterable[str]) -> dict[str, Annotation]:
        table = tables.revisions
        query = sa.select(table).where(table.c.asset_id.in_(list(asset_ids)), table.c.newest.is_(True))
        return {row.asset_id: _annotation(row) for row in self.connection.execute(query)}

    def last_imported(self, asset_ids: Iterable[str]) -> dict[str, tuple[Label, ...]]:
        table = tables.revisions
        query = (
            sa.select(table.c.asset_id, table.c.labels)
            .where(table.c.asset_id.in_(list(asset_ids)), table.c.source == int(Source.IMPORT))
            .order_by(table.c.revision)
        )
        return {row.asset_id: labels_of(row.labels) for row in self.connection.execute(query)}

    def add(self, annotations: Sequence[Annotation]) -> None:
        table = tables.revisions
        corrected = [one.asset.id for one in annotations if one.revision > 1]
        if corrected:
            older = sa.update(table).where(table.c.asset_id.in_(corrected), table.c.newest.is_(True))
            self.connection.execute(older.values(newest=False))
        if annotations:
            self.connection.execute(sa.insert(table), [_row(one) for one in annotations])

    def page(self, chosen: AnnotationFilter) -> list[tuple[int, Annotation]]:
        table = tables.revisions
        query = sa.select(table).where(table.c.sequence > chosen.after).order_by(table.c.sequence).limit(chosen.limit)
        if chosen.asset_id:
            query = query.where(table.c.asset_id == chosen.asset_id)
        if chosen.camera_id:
            query = query.where(table.c.camera_id == chosen.camera_id)
        if chosen.since is not None:
            query = query.where(table.c.annotated_at >= chosen.since)
        if not chosen.revisions:
            query = query.where(table.c.newest.is_(True))
        return [(row.sequence, _annotation(row)) for row in self.connection.execute(query)]

    def count_in_force(self, dataset: Dataset, since: Micros | None, cameras: Sequence[str]) -> int:
        table = tables.revisions
        query = (
            sa.select(table.c.camera_id, sa.func.count())
            .where(*self._belongs(dataset), table.c.superseded_at.is_(None))
            .group_by(table.c.camera_id)
        )
        if since is not None:
            query = query.where(table.c.captured_at >= since)
        if cameras:
            query = query.where(table.c.camera_id.in_(list(cameras)))
        return sum(count for camera_id, count in self.connection.execute(query) if dataset.has_camera(camera_id))

    def of_dataset(self, dataset: Dataset) -> list[Annotation]:
        matches = {camera_id: dataset.has_camera(camera_id) for camera_id in self._cameras()}
        rows = self.connection.execute(sa.select(tables.revisions).where(*self._belongs(dataset)))
        return [_annotation(row) for row in rows if matches[row[_CAMERA]]]

    def answered_before(self, at: Micros, dataset: Dataset, cameras: Sequence[str], limit: int) -> list[Annotation]:
        table = tables.revisions
        named = [camera_id for camera_id in cameras or self._cameras() if dataset.has_camera(camera_id)]
        query = (
            sa.select(table)
            .where(*self._belongs(dataset), table.c.superseded_at.is_(None), table.c.camera_id.in_(named))
            .where(table.c.captured_at < at, table.c.annotated_at < at, table.c.source != int(Source.IMPORT))
            .order_by(table.c.sequence.desc())
            .limit(limit)
        )
        return [_annotation(row) for row in self.connection.execute(query)]

    def supersede(self, change: ConceptChange) -> int:
        table = tables.revisions
        unmark = sa.update(table).where(table.c.superseded_by == change.incident_id)
        self.connection.execute(unmark.values(superseded_at=None, superseded_by=""))
        values = {
            "incident_id": change.incident_id,
            "class_names": json.dumps(change.class_names),
            "began_at": change.began_at,
            "cameras": json.dumps(change.cameras),
        }
        self.connection.execute(insert_or_replace(self.connection, tables.concept_changes, values))
        everywhere = Dataset("", change.class_names, change.cameras, 0)
        cameras = [camera_id for camera_id in self._cameras() if everywhere.has_camera(camera_id)]
        mark = sa.update(table).where(
            table.c.class_name.in_(change.class_names),
            table.c.camera_id.in_(cameras),
            table.c.valid_from < change.began_at,
            table.c.superseded_at.is_(None),
        )
        marked = mark.values(superseded_at=change.began_at, superseded_by=change.incident_id)
        return self.connection.execute(marked).rowcount

    def changes(self) -> list[ConceptChange]:
        rows = self.connection.execute(sa.select(tables.concept_changes))
        return [
            ConceptChange(
                row.incident_id, tuple(json.loads(row.class_names)), row.began_at, tuple(json.loads(row.cameras))
            )
            for row in rows
        ]

    def forget(self, asset_ids: Sequence[str]) -> None:
        table = tables.revisions
        self.connection.execute(sa.update(table).where(table.c.asset_id.in_(list(asset_ids))).values(forgotten=True))

    def _cameras(self) -> list[str]:
        """Distinct camera ids, by skipping through the index instead of reading all of it."""
        column = tables.revisions.c.camera_id
        found: list[str] = []
        last = ""
        while True:
            following = self.connection.execute(sa.select(sa.func.min(column)).where(column > last)).scalar()
            if following is None:
                return found
            found.append(following)
            last = following

    def _belongs(self, dataset: Dataset) -> tuple[sa.ColumnElement[bool], ...]:
        table = tables.revisions
        return (table.c.newest.is_(True), table.c.forgotten.is_(False), table.c.class_name.in_(dataset.class_names))


def labels_text(labels: Sequence[Label]) -> str:
    """Labels as they are stored."""
    return json.dumps([[label.class_name, label.box, label.polygon] for label in labels], separators=(",", ":"))


@lru_cache(maxsize=4_096)
def labels_of(text: str) -> tuple[Label, ...]:
    """The labels of a stored text; most assets of a dataset share a few."""
    return tuple(
        Label(name, (box[0], box[1], box[2], box[3]) if box else None, tuple(polygon) if polygon else None)
        for name, box, polygon in json.loads(text)
    )


def _row(annotation: Annotation) -> dict[str, Any]:
    asset = annotation.asset
    return {
        "id": annotation.id,
        "asset_id": asset.id,
        "revision": annotation.revision,
        "newest": True,
        "forgotten": False,
        "camera_id": asset.camera_id,
        "captured_at": asset.captured_at,
        "digest": asset.object.digest,
        "size_bytes": asset.object.size_bytes,
        "content_type": asset.object.content_type,
        "class_name": annotation.class_name,
        "labels": labels_text(annotation.labels),
        "annotated_by": annotation.annotated_by,
        "annotated_at": annotation.annotated_at,
        "valid_from": annotation.valid_from,
        "superseded_at": annotation.superseded_at,
        "superseded_by": annotation.superseded_by,
        "source": int(annotation.source),
        "task_id": annotation.task_id,
    }


_CAMERA = list(tables.revisions.c).index(tables.revisions.c.camera_id)


def _annotation(row: Row[Any]) -> Annotation:
    """By position, in the order of the table's columns: a version reads them by the ten thousands."""
    (
        _, identity, asset_id, revision, _, _, camera_id, captured_at, digest, size_bytes, content_type, _, labels,
        annotated_by, annotated_at, valid_from, superseded_at, superseded_by, source, task_id,
    ) = row  # fmt: skip
    return Annotation(
        identity,
        Asset(asset_id, camera_id, captured_at, StoredObject(digest, size_bytes, content_type)),
        revision,
        labels_of(labels),
        annotated_by,
        annotated_at,
        valid_from,
        _SOURCES[source],
        task_id,
        superseded_at,
        superseded_by,
    )


_SOURCES = {int(source): source for source in Source}
