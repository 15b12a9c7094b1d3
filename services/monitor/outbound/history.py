"""`History` in SQL: the same on the engine in process and on a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import floor, isfinite
from typing import Any, Final, Protocol, TypeVar

from services.common.errors import InvalidMessage
from services.monitor.domain.channels import FEATURES
from services.monitor.domain.events import Cause, Harm, Incident, Risk, Shape, State
from services.monitor.domain.history import (
    Count,
    Decided,
    Example,
    Line,
    Near,
    Predicted,
    Release,
    Scored,
    Span,
    Told,
    Wanted,
)
from services.monitor.domain.policy import QualityPolicy
from services.monitor.domain.quality.tally import Tally
from services.monitor.domain.quality.truth import Entry, Said, Truth

T = TypeVar("T")
_LIVE: Final = """
    model = {model:String} AND role = 'champion' AND error = '' AND historical = 0
    AND captured_at >= fromUnixTimestamp64Micro({since:Int64})
    AND captured_at < fromUnixTimestamp64Micro({until:Int64})
"""
_CHOSEN: Final = "AND (empty({cameras:Array(String)}) OR has({cameras:Array(String)}, camera_id))"
_PART: Final = (
    "toInt32(least(intDiv((toUnixTimestamp64Micro({column}) - {{since:Int64}}) * {{parts:Int64}}, "
    "{{until:Int64}} - {{since:Int64}}), {{parts:Int64}} - 1))"
)
_TRUTH: Final = """
    SELECT asset_id, argMax(class_name, revision) AS truth, uniqExact(class_name) AS answers,
           argMinIf(origin, revision, origin != 'unspecified') AS drawn_by,
           argMinIf(propensity, revision, origin != 'unspecified') AS chance
    FROM annotations GROUP BY asset_id
"""
_CAMERAS: Final = f"""
    SELECT camera_id FROM predictions WHERE {_LIVE} AND camera_id != ''
    GROUP BY camera_id ORDER BY count() DESC, camera_id
"""
_EXTENT: Final = f"""
    SELECT min(captured_at), max(captured_at), count() FROM predictions WHERE {_LIVE} {_CHOSEN}
"""
_RELEASES: Final = """
    SELECT version, min(captured_at) AS since FROM predictions
    WHERE model = {model:String} AND role = 'champion' AND error = '' AND historical = 0
    GROUP BY version ORDER BY since, version
"""
_SCORED: Final = f"""
    SELECT p.version, p.part, p.class_name, p.score, t.truth, t.drawn_by, t.chance, t.answers > 1
    FROM (SELECT asset_id, version, class_name, score, {_PART.format(column="captured_at")} AS part
          FROM predictions WHERE {_LIVE} {_CHOSEN}) AS p
    INNER JOIN ({_TRUTH}) AS t ON p.asset_id = t.asset_id
"""
_PIPELINE: Final = """
    SELECT 'predictions' AS what, role AS of, count() AS number FROM predictions WHERE {of_model} GROUP BY of
    UNION ALL
    SELECT 'failed predictions', role, count() FROM predictions WHERE {of_model} AND error != '' GROUP BY role
    UNION ALL
    SELECT 'historical predictions', role, count() FROM predictions WHERE {of_model} AND historical = 1 GROUP BY role
    UNION ALL
    SELECT 'frames', 'distinct', uniqExact(asset_id) FROM predictions WHERE {of_model}
    UNION ALL
    SELECT 'cameras', 'distinct', uniqExact(camera_id) FROM predictions WHERE {of_model} AND camera_id != ''
    UNION ALL
    SELECT 'labelled frames', drawn_by, count() FROM (
        SELECT asset_id, argMax(class_name, revision) AS truth, argMin(origin, revision) AS drawn_by
        FROM annotations WHERE asset_id IN (SELECT asset_id FROM predictions WHERE {of_model})
        GROUP BY asset_id HAVING truth != ''
    ) GROUP BY drawn_by
    UNION ALL
    SELECT 'withdrawn labels', 'all', count() FROM (
        SELECT asset_id, argMax(class_name, revision) AS truth
        FROM annotations WHERE asset_id IN (SELECT asset_id FROM predictions WHERE {of_model})
        GROUP BY asset_id HAVING truth = ''
    )
    UNION ALL
    SELECT 'refused frames', reason, count() FROM rejections
    WHERE rejected_at >= fromUnixTimestamp64Micro({{since:Int64}})
      AND rejected_at < fromUnixTimestamp64Micro({{until:Int64}}) {chosen} GROUP BY reason
""".format(
    of_model=(
        "model = {model:String} AND captured_at >= fromUnixTimestamp64Micro({since:Int64}) "
        f"AND captured_at < fromUnixTimestamp64Micro({{until:Int64}}) {_CHOSEN}"
    ),
    chosen=_CHOSEN,
)
_INCIDENTS: Final = """
    SELECT incident_id, version, state, cause, harm, shape, began, detected, level, closed, cameras, class_names,
           baseline, current, labels
    FROM (
        SELECT incident_id, argMax(version, revision) AS version, argMax(state, revision) AS state,
               argMax(cause, revision) AS cause, argMax(harm, revision) AS harm, argMax(shape, revision) AS shape,
               argMax(began_at, revision) AS began, min(detected_at) AS detected,
               argMax(level_since, revision) AS level, argMax(closed_at, revision) AS closed,
               argMax(cameras, revision) AS cameras, argMax(class_names, revision) AS class_names,
               argMax(baseline_error, revision) AS baseline, argMax(current_error, revision) AS current,
               argMax(current_labels, revision) AS labels
        FROM drifts WHERE model = {model:String} GROUP BY incident_id
    )
    WHERE detected < fromUnixTimestamp64Micro({until:Int64})
      AND (closed <= toDateTime64(0, 6, 'UTC') OR closed >= fromUnixTimestamp64Micro({since:Int64}))
    ORDER BY detected DESC, incident_id LIMIT 1000
"""
_DECISIONS: Final = """
    SELECT id, model, incident_id, decision, reason, decided_at FROM decisions
    WHERE model = {model:String} AND decided_at >= fromUnixTimestamp64Micro({since:Int64})
      AND decided_at < fromUnixTimestamp64Micro({until:Int64})
    ORDER BY decided_at DESC, id LIMIT 1000
"""
_ALERTS: Final = """
    SELECT raised_at, severity, summary, incident_id FROM alerts
    WHERE model = {model:String} AND raised_at >= fromUnixTimestamp64Micro({since:Int64})
      AND raised_at < fromUnixTimestamp64Micro({until:Int64})
    ORDER BY raised_at DESC, id LIMIT 1000
"""
_PREDICTIONS: Final = """
    SELECT id, asset_id, camera_id, model, version, role, toUnixTimestamp64Micro(captured_at) AS captured,
           toUnixTimestamp64Micro(predicted_at), class_name, score, latency_ms, error, historical
    FROM predictions
    WHERE ({model:String} = '' OR model = {model:String}) AND ({version:String} = '' OR version = {version:String})
      AND ({role:String} = '' OR role = {role:String}) AND ({camera:String} = '' OR camera_id = {camera:String})
      AND ({class_name:String} = '' OR class_name = {class_name:String})
      AND score >= {low:Float64} AND score <= {high:Float64}
      AND captured_at >= fromUnixTimestamp64Micro({since:Int64})
      AND ({until:Int64} = 0 OR captured_at < fromUnixTimestamp64Micro({until:Int64}))
      AND ({before:Int64} = 0 OR (toUnixTimestamp64Micro(captured_at), id) < ({before:Int64}, {before_id:String}))
    ORDER BY captured_at DESC, id DESC LIMIT {most:UInt32}
"""
_NEAR: Final = f"""
    SELECT asset_id, camera_id, captured_at, class_name, score, toFloat64(VALUE) AS found
    FROM predictions WHERE {_LIVE} {_CHOSEN} AND version = {{version:String}} AND isFinite(found)
    ORDER BY abs(found - {{wanted:Float64}}), captured_at, asset_id LIMIT {{most:UInt32}}
"""
_NEAR_ERROR: Final = f"""
    SELECT p.asset_id, p.camera_id, p.captured_at, p.class_name, p.score, toFloat64(p.class_name != t.truth) AS found
    FROM (SELECT * FROM predictions WHERE {_LIVE} {_CHOSEN} AND version = {{version:String}}) AS p
    INNER JOIN ({_TRUTH}) AS t ON p.asset_id = t.asset_id
    WHERE t.truth != '' AND found = {{wanted:Float64}}
    ORDER BY p.captured_at, p.asset_id LIMIT {{most:UInt32}}
"""


class Rows(Protocol):
    """Answers a SELECT; `ClickHouse` does."""

    async def query(self, query: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a SELECT. Raises `AnalyticsClosed`."""


class ClickHouseHistory:
    """Every answer is one query."""

    def __init__(self, rows: Rows, policy: QualityPolicy) -> None:
        """`policy` weighs labels, as in the metrics of quality."""
        self._rows, self._policy = rows, policy

    async def cameras(self, model: str, span: Span) -> list[str]:
        return [str(name) for (name,) in await self._rows.query(_CAMERAS, _of(model, span))]

    async def extent(self, model: str, cameras: Sequence[str], span: Span) -> Span | None:
        first, last, count = (await self._rows.query(_EXTENT, _of(model, span, cameras)))[0]
        return Span(floor(_seconds(first)), floor(_seconds(last)) + 1) if count else None

    async def lines(
        self, model: str, cameras: Sequence[str], channels: Sequence[str], span: Span, parts: int
    ) -> list[Line]:
        asked = {**_of(model, span, cameras), "parts": parts}
        columns = []
        for place, channel in enumerate(channels):
            value, of_class = _value(channel, place)
            asked.update(of_class)
            columns.append(f"avgIf({value}, isFinite({value})), countIf(isFinite({value}))")
        part = _PART.format(column="captured_at")
        rows = await self._rows.query(
            f"SELECT camera_id, {part} AS part, {', '.join(columns)} FROM predictions WHERE {_LIVE} {_CHOSEN} "
            "GROUP BY camera_id, part ORDER BY camera_id, part",
            asked,
        )
        return _lines(rows, channels)

    async def scored(self, model: str, cameras: Sequence[str], span: Span, parts: int) -> list[Scored]:
        rows = await self._rows.query(_SCORED, {**_of(model, span, cameras), "parts": parts})
        found: dict[tuple[str, int], Scored] = {}
        for version, part, said, score, truth, origin, propensity, disputed in rows:
            cell = found.setdefault((version, part), Scored(version, part, Tally(), Tally()))
            uniform = origin == "uniform" and 0.0 < propensity <= 1.0
            given = {"p": Said.of(model, version, "champion", said, score)}
            entry = Entry.of(Truth("", "", 0, 0, 1, truth, propensity if uniform else 0.0, given))
            entry.disputed = bool(disputed)
            for tally in (cell.all, cell.drawn) if uniform else (cell.all,):
                tally.count(entry, given["p"], self._policy, 1)
        return [found[key] for key in sorted(found)]

    async def releases(self, model: str) -> list[Release]:
        rows = await self._rows.query(_RELEASES, {"model": model})
        return [Release(version, _seconds(since)) for version, since in rows]

    async def pipeline(self, model: str, cameras: Sequence[str], span: Span) -> list[Count]:
        rows = await self._rows.query(_PIPELINE, _of(model, span, cameras))
        return sorted((Count(*row) for row in rows if row[2]), key=lambda one: (one.what, one.of))

    async def incidents(self, model: str, span: Span) -> list[Incident]:
        return [_incident(model, row) for row in await self._rows.query(_INCIDENTS, _of(model, span))]

    async def decisions(self, model: str, span: Span) -> list[Decided]:
        rows = await self._rows.query(_DECISIONS, _of(model, span))
        return [Decided(key, of, about, said, why, _seconds(at)) for key, of, about, said, why, at in rows]

    async def alerts(self, model: str, span: Span) -> list[Told]:
        rows = await self._rows.query(_ALERTS, _of(model, span))
        return [Told(_seconds(at), severity, summary, about) for at, severity, summary, about in rows]

    async def predictions(self, wanted: Wanted) -> list[Predicted]:
        rows = await self._rows.query(
            _PREDICTIONS,
            {
                "model": wanted.model,
                "version": wanted.version,
                "role": wanted.role,
                "camera": wanted.camera_id,
                "class_name": wanted.class_name,
                "low": wanted.scores[0],
                "high": wanted.scores[1],
                "since": wanted.since,
                "until": wanted.until,
                "before": wanted.before[0],
                "before_id": wanted.before[1],
                "most": wanted.most,
            },
        )
        return [Predicted(*row) for row in rows]

    async def near(self, model: str, version: str, wanted: Near, most: int) -> list[Example]:
        asked = {
            **_of(model, wanted.span, wanted.cameras),
            "version": version,
            "wanted": wanted.value,
            "most": most,
        }
        if wanted.channel == "labelled_error":
            rows = await self._rows.query(_NEAR_ERROR, asked)
        else:
            value, of_class = _value(wanted.channel, 0)
            rows = await self._rows.query(_NEAR.replace("VALUE", value), {**asked, **of_class})
        return [
            Example(asset, camera, _seconds(at), name, score, value) for asset, camera, at, name, score, value in rows
        ]


def _of(model: str, span: Span, cameras: Sequence[str] = ()) -> dict[str, Any]:
    since, until = round(span.since * 1e6), round(span.until * 1e6)
    return {"model": model, "since": since, "until": until, "cameras": list(cameras)}


def _value(channel: str, place: int) -> tuple[str, dict[str, str]]:
    """The SQL of a channel, and what it needs. Raises `InvalidMessage`."""
    if channel in FEATURES:
        return channel.replace(".", "_"), {}
    if channel.startswith("class."):
        return f"toFloat64(class_name = {{class_{place}:String}})", {f"class_{place}": channel.removeprefix("class.")}
    raise InvalidMessage(f"there is no channel {channel!r}: a feature or class.NAME", field="channel")


def _lines(rows: Sequence[tuple[Any, ...]], channels: Sequence[str]) -> list[Line]:
    means: dict[tuple[str, int], dict[int, float]] = {}
    frames: dict[tuple[str, int], dict[int, int]] = {}
    for camera, part, *values in rows:
        for place in range(len(channels)):
            mean, count = values[2 * place], values[2 * place + 1]
            if count and isfinite(mean):
                means.setdefault((camera, place), {})[part] = float(mean)
                frames.setdefault((camera, place), {})[part] = int(count)
    return [Line(camera, channels[place], means[camera, place], frames[camera, place]) for camera, place in means]


def _seconds(at: datetime) -> float:
    """0 where the contract had no time."""
    return max(at.replace(tzinfo=at.tzinfo or UTC).timestamp(), 0.0)


def _named(kind: type[Any], name: str, default: Any) -> Any:
    return kind[name.upper()] if name.upper() in kind.__members__ else default


def _incident(model: str, row: Sequence[Any]) -> Incident:
    incident_id, version, state, cause, harm, shape, began, detected, level, closed, cameras, classes, *risk = row
    before, now, labels = risk
    return Incident(
        id=incident_id,
        model=model,
        version=version,
        state=_named(State, state, State.OK),
        cause=_named(Cause, cause, Cause.UNKNOWN),
        harm=_named(Harm, harm, Harm.UNKNOWN),
        shape=_named(Shape, shape, Shape.UNKNOWN),
        began_at=_seconds(began),
        detected_at=_seconds(detected),
        level_since=_seconds(level),
        cameras=tuple(cameras),
        class_names=tuple(classes),
        evidence=(),
        risk=Risk(before, 0, now, 0.0, 1.0, labels) if labels else None,
        closed_at=_seconds(closed),
        trigger_asset_id="",
    )
