"""The pages about data: what each camera sends, and whether it flows."""

from __future__ import annotations

from typing import Final

from tools.dashboards.common import MINUTES, latency, rate
from tools.dashboards.spec import Board, Panel, Prom, Sql, Variable

CAMERA: Final = Variable("camera", "SELECT camera_id FROM predictions GROUP BY camera_id ORDER BY camera_id")
_CAMERAS: Final = "camera_id IN (${camera:singlequote})"

WALL: Final = Board(
    "irisloop-cameras",
    "Irisloop: camera wall",
    "What each camera sends and sees.",
    (
        Panel(
            "Cameras", "The last frame that a champion answered, how many there were, their pixels, what is refused.",
            (
                Sql(f"""SELECT p.camera_id AS camera, p.last AS last, p.frames AS frames, p.brightness AS brightness,
                p.contrast AS contrast, p.sharpness AS sharpness, p.score AS score, r.refused AS refused
                FROM (SELECT camera_id, max(captured_at) AS last, count() AS frames,
                avg(pixels_brightness) AS brightness, avg(pixels_contrast) AS contrast,
                avg(pixels_sharpness) AS sharpness, avg(score) AS score
                FROM predictions WHERE {MINUTES} AND {_CAMERAS} AND role = 'champion' AND failed = 0 GROUP BY camera_id)
                AS p
                LEFT JOIN (SELECT camera_id, count() AS refused FROM rejections
                WHERE $__timeFilter(rejected_at) GROUP BY camera_id) AS r ON p.camera_id = r.camera_id
                ORDER BY last"""),
            ),
            kind="table", width=24,
        ),
        *(
            Panel(
                title, words,
                (
                    Sql(f"""SELECT $__timeInterval(minute) AS time, camera_id, {value} FROM predictions
                    WHERE {MINUTES} AND {_CAMERAS} AND role = 'champion' AND failed = 0
                    GROUP BY time, camera_id ORDER BY time"""),
                ),
                unit=unit,
            )
            for title, words, value, unit in (
                ("Frames", "Frames that a champion answered.", "count() AS frames", "short"),
                ("Brightness", "Mean over the frames.", "avg(pixels_brightness) AS brightness", "short"),
                ("Contrast", "Mean over the frames.", "avg(pixels_contrast) AS contrast", "short"),
                ("Sharpness", "Mean over the frames.", "avg(pixels_sharpness) AS sharpness", "short"),
            )
        ),
        Panel(
            "Refused frames", "By camera and reason.",
            (
                Sql(f"""SELECT camera_id, reason, count() AS frames, max(rejected_at) AS last FROM rejections
                WHERE $__timeFilter(rejected_at) AND {_CAMERAS}
                GROUP BY camera_id, reason ORDER BY frames DESC LIMIT 100"""),
            ),
            kind="table",
        ),
        Panel(
            "Drifts by camera", "Incidents that name it.",
            (
                Sql("""SELECT camera, uniq(incident_id) AS incidents, max(detected_at) AS last
                FROM drifts ARRAY JOIN cameras AS camera WHERE $__timeFilter(detected_at)
                AND camera IN (${camera:singlequote}) GROUP BY camera ORDER BY incidents DESC LIMIT 100"""),
            ),
            kind="table",
        ),
    ),
    (CAMERA,),
)  # fmt: skip

PIPELINE: Final = Board(
    "irisloop-pipeline",
    "Irisloop: data pipeline",
    "Whether data flows: backlog, delays, rejections, labels, rows of analytics.",
    (
        Panel(
            "Backlog", "Records that a handler has not handled yet.",
            (Prom("sum by (handler) (irisloop_common_bus_lag_records)", "{{handler}}"),),
        ),
        Panel(
            "Share of what is kept",
            "How much of what its topic keeps a handler has still to handle; above 0.5 is an alarm.",
            (Prom("max by (handler) (irisloop_common_bus_backlog_share)", "{{handler}}"),),
            unit="percentunit", top=1.0,
        ),
        rate("irisloop_common_bus_records_total", "handler", "Records", "Records a second."),
        latency("irisloop_common_bus_batch_seconds", "handler", "Time of a batch", "95th percentile."),
        Panel(
            "Oldest event that waits", "For the broker, in an outbox.",
            (Prom("max by (job) (irisloop_common_outbox_oldest_seconds)", "{{job}}"),), unit="s",
        ),
        rate("irisloop_common_bus_dead_letters_total", "handler", "Dead letters", "Records a second."),
        Panel(
            "From the camera to the prediction", "95th percentile of the time from the frame to its prediction.",
            (
                Sql(f"""SELECT $__timeInterval(minute) AS time,
                quantileTDigest(0.95)(dateDiff('millisecond', captured_at, predicted_at)) AS delay FROM predictions
                WHERE {MINUTES} AND predicted_at >= captured_at GROUP BY time ORDER BY time"""),
            ),
            unit="ms",
        ),
        Panel(
            "Refused frames", "By reason.",
            (
                Sql("""SELECT $__timeInterval(rejected_at) AS time, reason, count() AS frames FROM rejections
                WHERE $__timeFilter(rejected_at) GROUP BY time, reason ORDER BY time"""),
            ),
        ),
        Panel(
            "Labels by origin", "Why the frame was drawn.",
            (
                Sql("""SELECT $__timeInterval(annotated_at) AS time, origin, uniq(asset_id) AS labels FROM annotations
                WHERE $__timeFilter(annotated_at) GROUP BY time, origin ORDER BY time"""),
            ),
        ),
        Panel(
            "Rows of analytics", "By partition of a topic, with the last offset.",
            (
                Sql(" UNION ALL ".join(
                    f"SELECT topic, partition, count() AS rows, max(offset) AS last FROM {table} "
                    "GROUP BY topic, partition"
                    for table in ("predictions", "annotations", "drifts", "decisions", "rejections", "commands")
                )),
            ),
            kind="table",
        ),
        rate("irisloop_monitor_rows_total", "table", "Rows stored", "Rows a second, by table.", "rowsps"),
        latency(
            "irisloop_monitor_sql_seconds", "outcome", "Queries by ClickHouse's protocol",
            "95th percentile of their time, with their wait.",
        ),
    ),
)  # fmt: skip
