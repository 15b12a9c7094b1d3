"""What several dashboards ask alike."""

from __future__ import annotations

from typing import Final

from tools.dashboards.spec import Panel, Prom

SEEN: Final = "$__timeFilter(captured_at) AND historical = 0"
"""Of predictions: what is monitored, by event time."""


def rate(metric: str, by: str, title: str, words: str, unit: str = "ops", width: int = 12) -> Panel:
    """A counter as a rate, a line for each value of a label."""
    query = Prom(f"sum by ({by}) (rate({metric}[$__rate_interval]))", f"{{{{{by}}}}}")
    return Panel(title, words, (query,), unit=unit, width=width)


def latency(metric: str, by: str, title: str, words: str) -> Panel:
    """The 95th percentile of a histogram, a line for each value of a label."""
    query = f"histogram_quantile(0.95, sum by (le, {by}) (rate({metric}_bucket[$__rate_interval])))"
    return Panel(title, words, (Prom(query, f"{{{{{by}}}}}"),), unit="s")
