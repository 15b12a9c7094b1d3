"""Manifests as Parquet in the object store.

pyarrow is imported when the first version is cut, since a service that only labels does without its 30 MB; and columns
are made from buffers, since `pyarrow.array` would import pandas where it is installed: two seconds and 60 MB.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from services.common.objects import ObjectStore
from services.labeling import codec
from services.labeling.domain.manifest import Manifest, Row
from services.labeling.domain.model import StoredObject
from services.labeling.outbound.datasets import PARQUET

ROWS_AT_ONCE: Final = 10_000


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
    import pyarrow.parquet as pq

    since = manifest.condition_since
    metadata = {
        "dataset": manifest.dataset.name,
        "class_names": json.dumps(manifest.dataset.class_names),
        "condition_since": codec.moment(since).isoformat() if since is not None else "",
        "rows_digest": manifest.digest,
    }
    schema = _schema()
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema.with_metadata(metadata), compression="zstd") as writer:
        for start in range(0, len(manifest.rows), ROWS_AT_ONCE):
            writer.write_batch(_batch(manifest.rows[start : start + ROWS_AT_ONCE], schema))
    return buffer.getvalue()


def _schema() -> Any:
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    columns = {
        "asset_id": pa.string(),
        "camera_id": pa.string(),
        "captured_at": time,
        "object_digest": pa.string(),
        "content_type": pa.string(),
        "class_name": pa.string(),
        "class_index": pa.int32(),
        "split": pa.string(),
        "condition": pa.string(),
        "in_force": pa.bool_(),
        "annotated_at": time,
        "revision": pa.int32(),
        "source": pa.string(),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def _batch(rows: Sequence[Row], schema: Any) -> Any:
    import pyarrow as pa

    said = [row.annotation for row in rows]
    columns: list[Sequence[Any]] = [
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
    arrays = [_array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(values: Sequence[Any], kind: Any) -> Any:
    """A column without nulls, in the layout of the Arrow format."""
    import pyarrow as pa

    if pa.types.is_string(kind):
        encoded = [value.encode() for value in values]
        offsets = np.zeros(len(encoded) + 1, np.int32)
        np.cumsum([len(one) for one in encoded], out=offsets[1:])
        return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))
    if pa.types.is_boolean(kind):
        data = np.packbits(np.array(values, dtype=bool), bitorder="little")
    else:
        data = np.array(values, dtype=np.int32 if pa.types.is_int32(kind) else np.int64)
    return pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(data)])
