"""Datasets, versions, requests for versions, and incidents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection, Row

from services.labeling.domain.manifest import Manifest
from services.labeling.domain.model import (
    Dataset,
    Incident,
    Micros,
    RequestState,
    StoredObject,
    Version,
    VersionRequest,
)
from services.labeling.errors import UnknownDataset, UnknownVersion
from services.labeling.outbound import tables
from services.labeling.outbound.tables import insert_new, insert_or_replace


@dataclass(frozen=True, slots=True)
class SqlDatasets:
    """`Datasets` inside one open transaction."""

    connection: Connection

    def put(self, dataset: Dataset) -> None:
        values = {
            "name": dataset.name,
            "class_names": json.dumps(dataset.class_names),
            "cameras": json.dumps(dataset.cameras),
            "created_at": dataset.created_at,
        }
        self.connection.execute(insert_or_replace(self.connection, tables.datasets, values))

    def get(self, name: str) -> Dataset:
        row = self.connection.execute(sa.select(tables.datasets).where(tables.datasets.c.name == name)).first()
        if row is None:
            raise UnknownDataset(f"There is no dataset {name[:128]!r}.", field="dataset")
        return _dataset(row)

    def all(self) -> list[Dataset]:
        rows = self.connection.execute(sa.select(tables.datasets).order_by(tables.datasets.c.name))
        return [_dataset(row) for row in rows]

    def splits(self, dataset: str) -> list[tuple[str, str]]:
        table = tables.splits
        rows = self.connection.execute(sa.select(table.c.key, table.c.split).where(table.c.dataset == dataset))
        return [(row.key, row.split) for row in rows]

    def add_version(self, version: Version, manifest: Manifest, splits: Mapping[str, str]) -> None:
        self.connection.execute(sa.insert(tables.versions).values(**_version_row(version)))
        common = {"dataset": version.dataset, "number": version.number}
        rows = [{**common, "asset_id": row.annotation.asset.id} for row in manifest.rows]
        if rows:
            self.connection.execute(sa.insert(tables.members), rows)
        if splits:
            added = [{"dataset": version.dataset, "key": key, "split": split} for key, split in splits.items()]
            self.connection.execute(insert_new(self.connection, tables.splits), added)

    def last_number(self, dataset: str) -> int:
        table = tables.versions
        query = sa.select(sa.func.coalesce(sa.func.max(table.c.number), 0)).where(table.c.dataset == dataset)
        return int(self.connection.execute(query).scalar_one())

    def version(self, dataset: str, number: int) -> Version:
        self.get(dataset)
        table = tables.versions
        query = sa.select(table).where(
            table.c.dataset == dataset, table.c.number == (number or self.last_number(dataset))
        )
        row = self.connection.execute(query).first()
        if row is None:
            which = f"version {number}" if number else "version yet"
            raise UnknownVersion(f"Dataset {dataset!r} has no {which}.", field="version")
        return _version(row)

    def versions(self, dataset: str, asset_id: str, since: Micros | None) -> list[Version]:
        table, members = tables.versions, tables.members
        query = sa.select(table).order_by(table.c.dataset, table.c.number)
        if dataset:
            query = query.where(table.c.dataset == dataset)
        if since is not None:
            query = query.where(table.c.created_at >= since)
        if asset_id:
            held = sa.and_(members.c.dataset == table.c.dataset, members.c.number == table.c.number)
            query = query.where(sa.exists().where(members.c.asset_id == asset_id, held))
        return [_version(row) for row in self.connection.execute(query)]

    def forget(self, asset_ids: Sequence[str]) -> None:
        table, members = tables.versions, tables.members
        counts = (
            sa.select(members.c.dataset, members.c.number, sa.func.count())
            .where(members.c.asset_id.in_(asset_ids))
            .group_by(members.c.dataset, members.c.number)
        )
        for dataset, number, count in self.connection.execute(counts).all():
            chosen = sa.update(table).where(table.c.dataset == dataset, table.c.number == number)
            self.connection.execute(chosen.values(forgotten=table.c.forgotten + count))

    def request(self, request_id: str) -> VersionRequest | None:
        row = self.connection.execute(sa.select(tables.requests).where(tables.requests.c.id == request_id)).first()
        return _request(row) if row is not None else None

    def open_requests(self) -> list[VersionRequest]:
        table = tables.requests
        query = sa.select(table).where(table.c.state == RequestState.OPEN.value)
        return [_request(row) for row in self.connection.execute(query.order_by(table.c.requested_at, table.c.id))]

    def put_request(self, request: VersionRequest) -> None:
        values = {**asdict(request), "cameras": json.dumps(request.cameras), "state": request.state.value}
        self.connection.execute(insert_or_replace(self.connection, tables.requests, values))

    def incident(self, incident_id: str) -> Incident | None:
        row = self.connection.execute(sa.select(tables.incidents).where(tables.incidents.c.id == incident_id)).first()
        return _incident(row) if row is not None else None

    def drawing_incidents(self) -> list[Incident]:
        rows = self.connection.execute(sa.select(tables.incidents).where(tables.incidents.c.drawing.is_(True)))
        return [_incident(row) for row in rows]

    def put_incident(self, incident: Incident) -> None:
        values = {**asdict(incident), "cameras": json.dumps(incident.cameras)}
        self.connection.execute(insert_or_replace(self.connection, tables.incidents, values))


def _dataset(row: Row[Any]) -> Dataset:
    return Dataset(row.name, tuple(json.loads(row.class_names)), tuple(json.loads(row.cameras)), row.created_at)


def _request(row: Row[Any]) -> VersionRequest:
    return VersionRequest(
        id=row.id,
        dataset=row.dataset,
        labels_since=row.labels_since,
        labels_wanted=row.labels_wanted,
        model=row.model,
        requested_by=row.requested_by,
        requested_at=row.requested_at,
        cameras=tuple(json.loads(row.cameras)),
        state=RequestState(row.state),
        version=row.version,
    )


def _incident(row: Row[Any]) -> Incident:
    cameras = tuple(json.loads(row.cameras))
    return Incident(row.id, row.model, row.revision, cameras, row.began_at, row.drawing, row.drawn)


def _version_row(version: Version) -> dict[str, Any]:
    return {
        "dataset": version.dataset,
        "number": version.number,
        "digest": version.digest,
        "manifest_digest": version.manifest.digest,
        "manifest_bytes": version.manifest.size_bytes,
        "class_names": json.dumps(version.class_names),
        "splits": json.dumps(version.splits),
        "classes": json.dumps(version.classes),
        "superseded_left_out": version.superseded_left_out,
        "created_at": version.created_at,
        "created_by": version.created_by,
        "request_id": version.request_id,
        "condition_since": version.condition_since,
        "condition_labels": version.condition_labels,
        "forgotten": version.forgotten,
    }


def _version(row: Row[Any]) -> Version:
    return Version(
        dataset=row.dataset,
        number=row.number,
        digest=row.digest,
        manifest=StoredObject(row.manifest_digest, row.manifest_bytes, PARQUET),
        class_names=tuple(json.loads(row.class_names)),
        splits=json.loads(row.splits),
        classes=json.loads(row.classes),
        superseded_left_out=row.superseded_left_out,
        created_at=row.created_at,
        created_by=row.created_by,
        request_id=row.request_id,
        condition_since=row.condition_since,
        condition_labels=row.condition_labels,
        forgotten=row.forgotten,
    )


PARQUET = "application/vnd.apache.parquet"
