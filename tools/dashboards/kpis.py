"""Delivery of models, in the four measures of software delivery (Forsgren, Humble and Kim: Accelerate, 2018).

Analytics hold no releases as such, so one is read from predictions: the first frame that a version answers as champion.
A champion that comes back is not counted anew.
"""

from __future__ import annotations

from typing import Final

from tools.dashboards.spec import Board, Panel, Sql

RELEASES: Final = """
    SELECT model, version, min(captured_at) AS since FROM predictions
    WHERE role = 'champion' AND historical = 0 AND failed = 0 GROUP BY model, version
"""
INCIDENTS: Final = """
    SELECT incident_id, any(model) AS model, any(version) AS version, min(detected_at) AS detected,
           argMax(closed_at, revision) AS closed, countIf(harm = 'crossed') > 0 AS harmful
    FROM drifts GROUP BY incident_id
"""
LEADS: Final = f"""
    SELECT r.model AS model, r.since AS since, dateDiff('second', d.decided_at, r.since) AS seconds
    FROM ({RELEASES}) AS r
    ASOF INNER JOIN (SELECT model, decided_at FROM decisions WHERE decision = 'requested') AS d
    ON r.model = d.model AND r.since >= d.decided_at
"""
FAILURES: Final = f"""
    SELECT r.model AS model, r.version AS version, r.since AS since, countIf(i.harmful) > 0 AS failed
    FROM ({RELEASES}) AS r LEFT JOIN ({INCIDENTS}) AS i
    ON r.model = i.model AND r.version = i.version
    GROUP BY model, version, since
"""

DELIVERY: Final = Board(
    "irisloop-delivery",
    "Irisloop: delivery",
    "How often models are released, how long it takes, how often it goes wrong and how soon that is over.",
    (
        Panel(
            "Deployment frequency",
            "Versions that became champion, by the day of their first answer.",
            (
                Sql(f"""SELECT toStartOfDay(since) AS time, count() AS releases FROM ({RELEASES})
                WHERE $__timeFilter(since) GROUP BY time ORDER BY time"""),
            ),
        ),
        Panel(
            "Lead time",
            "From the request of a retraining to the first answer of the version that came of it, as champion.",
            (Sql(f"SELECT since AS time, model, seconds FROM ({LEADS}) WHERE $__timeFilter(since) ORDER BY time"),),
            unit="s",
        ),
        Panel(
            "Median lead time",
            "Over the releases shown that answer a request.",
            (Sql(f"SELECT median(seconds) AS seconds FROM ({LEADS}) WHERE $__timeFilter(since)"),),
            kind="stat", unit="s", width=6, height=5,
        ),
        Panel(
            "Median time to restore",
            "From the detection of an incident that hurts to its end.",
            (
                Sql(f"""SELECT median(dateDiff('second', detected, closed)) AS seconds FROM ({INCIDENTS})
                WHERE harmful AND closed > detected AND $__timeFilter(detected)"""),
            ),
            kind="stat", unit="s", width=6, height=5,
        ),
        Panel(
            "Change-failure rate",
            "Share of the releases shown that had an incident that hurts.",
            (Sql(f"SELECT avg(failed) AS share FROM ({FAILURES}) WHERE $__timeFilter(since)"),),
            kind="stat", unit="percentunit", width=6, height=5,
        ),
        Panel(
            "Releases",
            "How many there are behind these numbers.",
            (Sql(f"SELECT count() AS releases FROM ({RELEASES}) WHERE $__timeFilter(since)"),),
            kind="stat", width=6, height=5,
        ),
        Panel(
            "Releases, newest first",
            "Each with whether it failed.",
            (
                Sql(f"""SELECT since, model, version, failed FROM ({FAILURES})
                WHERE $__timeFilter(since) ORDER BY since DESC LIMIT 100"""),
            ),
            kind="table",
        ),
        Panel(
            "Retrainings asked for and declined",
            "The policy's decisions, with their reasons.",
            (
                Sql("""SELECT decided_at, model, decision, reason FROM decisions
                WHERE $__timeFilter(decided_at) ORDER BY decided_at DESC LIMIT 100"""),
            ),
            kind="table",
        ),
    ),
    since="now-30d",
)  # fmt: skip
