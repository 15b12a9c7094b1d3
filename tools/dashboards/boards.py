"""The dashboards: the loop as a whole, models, cameras, incidents, the pipeline of data, delivery."""

from __future__ import annotations

from typing import Final

from tools.dashboards.common import JUDGED, MINUTES, latency, rate
from tools.dashboards.incidents import EXPLORER
from tools.dashboards.kpis import DELIVERY, INCIDENTS
from tools.dashboards.pipeline import PIPELINE, WALL
from tools.dashboards.spec import Board, Panel, Prom, Sql, Variable

MODEL: Final = Variable("model", "SELECT model FROM predictions GROUP BY model ORDER BY model")
_MODELS: Final = "model IN (${model:singlequote})"
_TRUTH: Final = """
    SELECT asset_id, argMax(class_name, revision) AS truth, max(annotated_at) AS said
    FROM annotations GROUP BY asset_id HAVING truth != ''
"""


LOOP: Final = Board(
    "irisloop-loop",
    "Irisloop: the loop",
    "Whether the loop turns: frames in, predictions, labels, drifts, retrainings, releases.",
    (
        Panel(
            "Ready", "Services that are ready.", (Prom("sum(irisloop_common_ready_state)"),),
            kind="stat", width=4, height=5,
        ),
        Panel(
            "Open incidents", "Incidents that are not over.",
            (Sql(f"SELECT countIf(closed <= detected) AS open FROM ({INCIDENTS})"),),
            kind="stat", width=4, height=5,
        ),
        Panel(
            "Cameras", "Cameras with a prediction in the time shown.",
            (
                Sql(f"""SELECT count() AS cameras FROM (SELECT camera_id FROM predictions WHERE {MINUTES}
                GROUP BY camera_id)"""),
            ),
            kind="stat", width=4, height=5,
        ),
        Panel(
            "Predictions", "In the time shown.",
            (Sql(f"SELECT count() AS predictions FROM predictions WHERE {MINUTES}"),),
            kind="stat", width=4, height=5,
        ),
        Panel(
            "Labels", "Assets that somebody has labelled in the time shown.",
            (Sql(f"SELECT count() AS labels FROM ({_TRUTH}) WHERE $__timeFilter(said)"),),
            kind="stat", width=4, height=5,
        ),
        Panel(
            "Dead letters", "Records that a handler could not take, in the last hour.",
            (Prom("sum(increase(irisloop_common_bus_dead_letters_total[1h]))"),),
            kind="stat", width=4, height=5,
        ),
        Panel(
            "Predictions by role", "Of cameras' frames, by event time.",
            (
                Sql(f"""SELECT $__timeInterval(minute) AS time, role, count() AS predictions FROM predictions
                WHERE {MINUTES} GROUP BY time, role ORDER BY time"""),
            ),
        ),
        Panel(
            "Drifts and decisions", "Each incident with what was found.",
            (
                Sql("""SELECT min(detected_at) AS detected, any(model) AS model, argMax(state, revision) AS state,
                argMax(cause, revision) AS cause, argMax(harm, revision) AS harm, argMax(shape, revision) AS shape
                FROM drifts WHERE $__timeFilter(detected_at) GROUP BY incident_id ORDER BY detected DESC LIMIT 100"""),
            ),
            kind="table",
        ),
        rate("irisloop_ingest_frames_total", "status", "Frames", "Frames a second, by what became of them."),
        rate("irisloop_monitor_findings_total", "kind", "Findings", "What the judge said, a second."),
        rate("irisloop_trainer_runs_total", "state", "Runs", "Trainings that ended, a second."),
        rate("irisloop_registry_alias_moves_total", "alias", "Aliases", "Aliases moved, a second."),
    ),
)  # fmt: skip

HEALTH: Final = Board(
    "irisloop-models",
    "Irisloop: model health",
    "Whether each model is still right, by its labels, its confidence and its errors.",
    (
        Panel(
            "Accuracy by labels",
            "Share of labelled predictions that were right, by the time of the frame; of labels the newest revision.",
            (
                Sql(f"""SELECT $__timeInterval(captured_at) AS time, version, avg(said = truth) AS accuracy
                FROM ({JUDGED}) WHERE {_MODELS} GROUP BY time, version ORDER BY time"""),
            ),
            unit="percentunit", top=1.0,
        ),
        Panel(
            "Confidence", "Mean score of the class that was said.",
            (
                Sql(f"""SELECT $__timeInterval(minute) AS time, version, avg(score) AS score FROM predictions
                WHERE {MINUTES} AND {_MODELS} AND failed = 0 GROUP BY time, version ORDER BY time"""),
            ),
            unit="percentunit", top=1.0,
        ),
        Panel(
            "Classes", "Share of each class among the answers.",
            (
                Sql(f"""SELECT time, class_name, n / sum(n) OVER (PARTITION BY time) AS share FROM (
                SELECT $__timeInterval(minute) AS time, class_name, count() AS n FROM predictions
                WHERE {MINUTES} AND {_MODELS} AND failed = 0 GROUP BY time, class_name) ORDER BY time"""),
            ),
            unit="percentunit", top=1.0,
        ),
        Panel(
            "Confusion", "What people said where the model said something else, most frequent first.",
            (
                Sql(f"""SELECT said, truth, count() AS n FROM ({JUDGED})
                WHERE {_MODELS} AND said != truth GROUP BY said, truth ORDER BY n DESC LIMIT 50"""),
            ),
            kind="table",
        ),
        Panel(
            "Error seen and before", "Newest evidence of each incident: error by labels before and during it.",
            (
                Sql(f"""SELECT min(detected_at) AS detected, model, version,
                argMax(baseline_error, revision) AS before, argMax(current_error, revision) AS during,
                argMax(current_labels, revision) AS labels, argMax(harm, revision) AS harm
                FROM drifts WHERE $__timeFilter(detected_at) AND {_MODELS}
                GROUP BY incident_id, model, version ORDER BY detected DESC LIMIT 100"""),
            ),
            kind="table",
        ),
        Panel(
            "Latency of predictions", "95th percentile, as serving measured it.",
            (
                Sql(f"""SELECT $__timeInterval(minute) AS time, version, quantileTDigest(0.95)(latency_ms) AS latency
                FROM predictions WHERE {MINUTES} AND {_MODELS} GROUP BY time, version ORDER BY time"""),
            ),
            unit="ms",
        ),
        latency("irisloop_serving_compute_seconds", "job", "Time of a graph", "95th percentile of one run."),
        rate("irisloop_serving_errors_total", "job", "Errors", "Assets whose prediction is an error, a second."),
    ),
    (MODEL,),
)  # fmt: skip

BOARDS: Final = (LOOP, HEALTH, WALL, EXPLORER, PIPELINE, DELIVERY)
