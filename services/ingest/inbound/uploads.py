"""Reads the multipart form of `POST /api/v1/frames` into frames.

Repeated fields belong to the files in order: one for each file, or a single one for all of them (never a single ce_id).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from services.common.bus import derive_id
from services.common.errors import InvalidMessage
from services.common.telemetry import current_traceparent
from services.ingest.domain.frames import Frame, check_camera_id, check_ce_id, check_meta
from services.ingest.wire import parse_time

ORIGIN: Final = "http"
FIELDS_EACH: Final = 4
"""camera_id, captured_at, ce_id and meta may each be repeated as often as there are files."""


async def read_frames(
    request: Request, *, max_files: int, clock: Callable[[], datetime], new_id: Callable[[], str]
) -> list[Frame]:
    """The frames of a form, in the order of its files. Raises `InvalidMessage` naming the field at fault."""
    async with request.form(max_files=max_files, max_fields=max_files * FIELDS_EACH) as form:
        files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
        if not files:
            raise InvalidMessage("The form has no file in the field `files`.", field="files", reason="FILES_MISSING")
        count = len(files)
        cameras = _spread(form, "camera_id", count)
        times = _spread(form, "captured_at", count)
        metas = [_meta(text) for text in _spread(form, "meta", count)]
        ids = _ids(form, count)
        images = [await file.read() for file in files]
    now, trace = clock(), current_traceparent()
    return [
        Frame(
            id=derive_id(check_ce_id(ids[index] or new_id())),
            camera_id=check_camera_id(cameras[index]),
            image=images[index],
            captured_at=parse_time(times[index], "captured_at") if times[index] else now,
            arrived_at=now,
            origin=ORIGIN,
            meta=metas[index],
            traceparent=trace,
        )
        for index in range(count)
    ]


def _texts(form: FormData, name: str) -> list[str]:
    return [text for text in form.getlist(name) if isinstance(text, str)]


def _spread(form: FormData, name: str, count: int) -> Sequence[str]:
    texts = _texts(form, name)
    if len(texts) <= 1:
        return (texts or [""]) * count
    return _one_each(texts, name, count)


def _ids(form: FormData, count: int) -> Sequence[str]:
    texts = _texts(form, "ce_id")
    return _one_each(texts, "ce_id", count) if texts else [""] * count


def _one_each(texts: Sequence[str], name: str, count: int) -> Sequence[str]:
    if len(texts) != count:
        raise InvalidMessage(
            f"There are {count} files and {len(texts)} values of {name}.", field=name, reason="FIELDS_UNEVEN"
        )
    return texts


def _meta(text: str) -> Mapping[str, str]:
    if not text:
        return {}
    try:
        meta = json.loads(text)
    except ValueError:
        meta = None
    if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
        raise InvalidMessage("meta is no JSON object of texts.", field="meta", reason="META_ODD")
    return check_meta(meta)
