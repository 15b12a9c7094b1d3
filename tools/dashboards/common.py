"""What several dashboards ask alike."""

from __future__ import annotations

from typing import Final

from tools.dashboards.spec import Panel, Prom

SEEN: Final = "$__timeFilter(captured_at) AND historical = 0"
"""Of predictions: what is monitored, by event time."""
MINUTES: Final = "$__timeFilter(minute) AND historical = 0"
"""The same by whole minutes: what counts and means are kept for, so that no row is read for them."""
JUDGED: Final = """
    SELECT captured_at, annotated_at, asset_id, camera_id, class_name AS truth, predictions.model AS model,
           predictions.version AS version, predictions.class_name AS said, predictions.score AS score
    FROM (SELECT * FROM annotations WHERE $__timeFilter(captured_at)
          ORDER BY asset_id, revision DESC LIMIT 1 BY asset_id)
    ARRAY JOIN predictions.model, predictions.version, predictions.role, predictions.class_name, predictions.score
    WHERE truth != '' AND predictions.role = 'champion'
"""
"""What the champion said of labelled frames, beside the newest revision of the label."""


def rate(metric: str, by: str, title: str, words: str, unit: str = "ops", width: int = 12) -> Panel:
    """A counter as a rate, a line for each value of a label."""
    query = Prom(f"sum by ({by}) (rate({metric}[$__rate_interval]))", f"{{{{{by}}}}}")
    return Panel(title, words, (query,), unit=unit, width=width)


def latency(metric: str, by: str, title: str, words: str) -> Panel:
    """The 95th percentile of a histogram, a line for each value of a label."""
    query = f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))"
    return Panel(title, words, (Prom(query, f"{{{{{by}}}}}"),), unit="s")
