"""The page about single incidents: what was found, how it went on, and the frames that show it."""

from __future__ import annotations

from typing import Final

from tools.dashboards.common import JUDGED, MINUTES, SEEN
from tools.dashboards.spec import Board, Panel, Sql, Text, Variable

INCIDENT: Final = Variable(
    "incident",
    "SELECT incident_id FROM drifts GROUP BY incident_id ORDER BY min(detected_at) DESC",
)
INGEST: Final = Text("ingest", "http://localhost:8110", "Where ingest answers: links to frames go there.")
_FRAME: Final = ("asset_id", "Look at the frame", "${ingest}/api/v1/assets/${__value.raw}/content")
_CHOSEN: Final = "incident_id IN (${incident:singlequote})"
_CAMERAS: Final = f"camera_id IN (SELECT arrayJoin(cameras) FROM drifts WHERE {_CHOSEN})"
_NEWEST: Final = f"SELECT * FROM drifts WHERE {_CHOSEN} ORDER BY incident_id, revision DESC LIMIT 1 BY incident_id"
_SCOPE: Final = f"""
    SELECT i.incident_id AS incident_id, i.model AS model, i.version AS version, camera, i.began AS began FROM (
        SELECT incident_id, any(model) AS model, any(version) AS version, argMax(cameras, revision) AS cameras,
               argMax(began_at, revision) AS began
        FROM drifts WHERE {_CHOSEN} GROUP BY incident_id
    ) AS i ARRAY JOIN cameras AS camera
"""
_BEGUN: Final = f"SELECT min(began_at) FROM drifts WHERE {_CHOSEN}"
_BEFORE: Final = (
    f"captured_at >= ({_BEGUN}) - INTERVAL 1 DAY AND captured_at < (SELECT max(began_at) FROM drifts WHERE {_CHOSEN})"
)


def _frames(when: str) -> str:
    """Frames of the incidents' cameras that the version in question answered as champion."""
    return f"""
    SELECT p.captured_at AS captured_at, p.camera_id AS camera_id, p.class_name AS class_name, p.score AS score,
           p.asset_id AS asset_id, dateDiff('second', s.began, p.captured_at) AS after_begin
    FROM (SELECT * FROM predictions WHERE {SEEN} AND {_CAMERAS} AND role = 'champion' AND failed = 0 AND {when}) AS p
    INNER JOIN ({_SCOPE}) AS s ON p.camera_id = s.camera AND p.model = s.model AND p.version = s.version
    """


EXPLORER: Final = Board(
    "irisloop-incidents",
    "Irisloop: incident explorer",
    "What an incident is about: its words over time, its cameras' channels, its frames, what was decided.",
    (
        Panel(
            "Incidents", "Each in its last word, the newest first.",
            (
                Sql(f"""SELECT min(detected_at) AS detected, incident_id, any(model) AS model, any(version) AS version,
                argMax(state, revision) AS state, argMax(cause, revision) AS cause, argMax(harm, revision) AS harm,
                argMax(shape, revision) AS shape,
                argMax(concat(scope_kind, ' ', scope_value), revision) AS scope, argMax(cameras, revision) AS cameras,
                argMax(acknowledged_by, revision) AS acknowledged_by,
                argMax(began_at, revision) AS began, argMax(closed_at, revision) AS closed
                FROM drifts WHERE $__timeFilter(detected_at) AND {_CHOSEN}
                GROUP BY incident_id ORDER BY detected DESC LIMIT 100"""),
            ),
            kind="table", width=24,
        ),
        Panel(
            "What happened", "Its history: what was found and told, and what people did about it.",
            (
                Sql(f"""SELECT history.at AS at, incident_id, history.what AS what, history.by AS by,
                history.why AS why FROM ({_NEWEST}) ARRAY JOIN history.at, history.what, history.by, history.why
                ORDER BY at DESC LIMIT 500"""),
            ),
            kind="table",
        ),
        Panel(
            "Scope", "What the cameras (of a change of labels: the labels) that it touches have in common.",
            (
                Sql(f"""SELECT incident_id, scope_kind, scope_value, scope_inside_touched, scope_inside,
                scope_outside_touched, scope_outside FROM ({_NEWEST}) ORDER BY incident_id LIMIT 100"""),
            ),
            kind="table",
        ),
        Panel(
            "Faults of cameras", "What is broken, since when, and a frame of before.",
            (
                Sql(f"""SELECT faults.since AS since, faults.camera_id AS camera, faults.kind AS fault, incident_id,
                faults.before_asset_id AS asset_id, faults.after_asset_id AS after_asset_id
                FROM ({_NEWEST}) ARRAY JOIN faults.camera_id, faults.kind, faults.since, faults.before_asset_id,
                faults.after_asset_id ORDER BY since LIMIT 100"""),
            ),
            kind="table", link=_FRAME,
        ),
        Panel(
            "Evidence", "The channels behind its newest word, furthest from the reference first.",
            (
                Sql(f"""SELECT incident_id, evidence.camera_id AS camera, evidence.channel AS channel,
                evidence.detector AS detector, evidence.shift_sigma AS shift_sigma,
                evidence.reference_mean AS reference, evidence.current_mean AS now FROM ({_NEWEST})
                ARRAY JOIN evidence.camera_id, evidence.channel, evidence.detector, evidence.shift_sigma,
                evidence.reference_mean, evidence.current_mean ORDER BY abs(shift_sigma) DESC LIMIT 100"""),
            ),
            kind="table",
        ),
        Panel(
            "How it went on", "Every word that was said about it: a revision is said when something changed.",
            (
                Sql(f"""SELECT incident_id, revision, state, cause, harm, shape, baseline_error, current_error,
                current_labels, length(cameras) AS cameras, class_names
                FROM drifts WHERE $__timeFilter(detected_at) AND {_CHOSEN}
                ORDER BY incident_id, revision LIMIT 500"""),
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
            )
            for title, words, value in (
                ("Sharpness", "Of its cameras, mean over the frames.", "avg(pixels_sharpness) AS sharpness"),
                ("Contrast", "Of its cameras, mean over the frames.", "avg(pixels_contrast) AS contrast"),
                ("Brightness", "Of its cameras, mean over the frames.", "avg(pixels_brightness) AS brightness"),
                ("Confidence", "Of the champion on its cameras, mean over the frames.", "avg(score) AS score"),
            )
        ),
        Panel(
            "Frames before it", "Of its cameras, the last ones of the day before the estimated begin.",
            (Sql(f"SELECT * FROM ({_frames(_BEFORE)}) WHERE after_begin < 0 ORDER BY captured_at DESC LIMIT 20"),),
            kind="table", link=_FRAME,
        ),
        Panel(
            "Frames since it began", "Of its cameras, those that the model is least sure of.",
            (Sql(f"""SELECT * FROM ({_frames(f'captured_at >= ({_BEGUN})')}) WHERE after_begin >= 0
                ORDER BY score, captured_at LIMIT 20"""),),
            kind="table", link=_FRAME,
        ),
        Panel(
            "Wrong since it began", "Frames of its cameras where people say something else than the model.",
            (
                Sql(f"""SELECT j.captured_at AS captured_at, j.camera_id AS camera_id, j.said AS said, j.truth AS truth,
                j.score AS score, j.asset_id AS asset_id FROM ({JUDGED}) AS j
                INNER JOIN ({_SCOPE}) AS s ON j.camera_id = s.camera AND j.model = s.model AND j.version = s.version
                WHERE j.captured_at >= s.began AND said != truth ORDER BY captured_at DESC LIMIT 50"""),
            ),
            kind="table", width=24, link=_FRAME,
        ),
        Panel(
            "Decisions about it", "Retraining asked for or declined, why, and what it was weighed with.",
            (
                Sql(f"""SELECT decided_at, incident_id, decision, reason, labels_wanted, weighed,
                numbers_excess AS excess, numbers_cost_of_harm AS cost_of_harm, numbers_cost_of_run AS cost_of_run,
                numbers_requests_today AS requests_today, numbers_cooldown_left AS cooldown_left,
                numbers_labels_since AS labels_since FROM decisions
                WHERE $__timeFilter(decided_at) AND {_CHOSEN} ORDER BY decided_at DESC LIMIT 100"""),
            ),
            kind="table", width=24,
        ),
        Panel(
            "Commands", "What people commanded and answered, about it and about plans.",
            (
                Sql(f"""SELECT given_at, command, by, why, incident_id, plan_id, starts_at, ends_at, cameras
                FROM commands WHERE $__timeFilter(given_at) AND ({_CHOSEN} OR incident_id = '')
                ORDER BY given_at DESC LIMIT 100"""),
            ),
            kind="table", width=24,
        ),
    ),
    (INCIDENT, INGEST),
    since="now-7d",
)  # fmt: skip
