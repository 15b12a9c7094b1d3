"""Manifests as Parquet in the object store."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from services.common.objects import ObjectStore
from services.labeling import codec
from services.labeling.domain.manifest import Manifest, Row
from services.labeling.domain.model import StoredObject
from services.labeling.outbound.datasets import PARQUET

ROWS_AT_ONCE: Final = 10_000
_time: Final = pa.timestamp("us", tz="UTC")
SCHEMA: Final = pa.schema(
    [
        pa.field("asset_id", pa.string(), nullable=False),
        pa.field("camera_id", pa.string(), nullable=False),
        pa.field("captured_at", _time, nullable=False),
        pa.field("object_digest", pa.string(), nullable=False),
        pa.field("content_type", pa.string(), nullable=False),
        pa.field("class_name", pa.string(), nullable=False),
        pa.field("class_index", pa.int32(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("condition", pa.string(), nullable=False),
        pa.field("in_force", pa.bool_(), nullable=False),
        pa.field("annotated_at", _time, nullable=False),
        pa.field("revision", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
    ]
)


class ParquetManifests:
    """`ManifestStore` on the object store."""

    def __init__(self, objects: ObjectStore) -> None:
        """The store is opened and closed by whoever made it."""
        self._objects = objects

    async def put(self, manifest: Manifest) -> StoredObject:
        """Written in a thread, ten thousand rows at a time."""
        data = await asyncio.to_thread(parquet, manifest)
        return StoredObject(await self._objects.put(data), len(data), PARQUET)


def parquet(manifest: Manifest) -> bytes:
    """The file's bytes, as docs/reference/manifest.md describes them."""
    since = manifest.condition_since
    metadata = {
        "dataset": manifest.dataset.name,
        "class_names": json.dumps(manifest.dataset.class_names),
        "condition_since": codec.moment(since).isoformat() if since is not None else "",
        "rows_digest": manifest.digest,
    }
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, SCHEMA.with_metadata(metadata), compression="zstd") as writer:
        for start in range(0, len(manifest.rows), ROWS_AT_ONCE):
            writer.write_batch(_batch(manifest.rows[start : start + ROWS_AT_ONCE]))
    return buffer.getvalue()


def _batch(rows: tuple[Row, ...]) -> Any:
    said = [row.annotation for row in rows]
    columns = [
        [one.asset.id for one in said],
        [one.asset.camera_id for one in said],
        [one.asset.captured_at for one in said],
        [one.asset.object.digest for one in said],
        [one.asset.object.content_type for one in said],
        [one.class_name for one in said],
        [row.class_index for row in rows],
        [row.split for row in rows],
        [row.condition for row in rows],
        [row.in_force for row in rows],
        [one.annotated_at for one in said],
        [one.revision for one in said],
        [one.source.name.lower() for one in said],
    ]
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    return pa.record_batch(arrays, schema=SCHEMA)
