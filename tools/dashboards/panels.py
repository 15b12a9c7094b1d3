"""A dashboard as Grafana's JSON, by grafana-foundation-sdk."""

from __future__ import annotations

import json
from typing import Any, Final

from grafana_foundation_sdk.builders import dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef, DynamicConfigValue, VariableRefresh

from tools.dashboards.spec import Board, Panel, Prom, Sql, Text, Variable

ANALYTICS: Final = DataSourceRef(type_val="grafana-clickhouse-datasource", uid="irisloop-analytics")
METRICS: Final = DataSourceRef(type_val="prometheus", uid="irisloop-metrics")
_BUILDERS: Final[dict[str, Any]] = {"timeseries": timeseries.Panel, "stat": stat.Panel, "table": table.Panel}


class SqlQuery:
    """A query of the ClickHouse data source, which the SDK does not know."""

    def __init__(self, ref: str, text: str, kind: str) -> None:
        self._json = {
            "datasource": {"type": ANALYTICS.type_val, "uid": ANALYTICS.uid},
            "editorType": "sql",
            "format": 0 if kind == "timeseries" else 1,
            "pluginVersion": "4.0.0",
            "queryType": "timeseries" if kind == "timeseries" else "table",
            "rawSql": text,
            "refId": ref,
        }

    def build(self) -> SqlQuery:
        """Itself, as builders of the SDK have it."""
        return self

    def to_json(self) -> dict[str, Any]:
        """For the SDK's encoder."""
        return self._json


def text_of(board: Board) -> str:
    """The file of a dashboard."""
    builder: Any = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.words)
        .tags(["irisloop"])
        .time(board.since, "now")
        .timezone("browser")
        .refresh("30s")
        .editable()
    )
    for variable in board.variables:
        builder.with_variable(_variable(variable))
    for number, panel in enumerate(board.panels, start=1):
        builder.with_panel(_panel(number, panel))
    plain = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    return json.dumps(_without_nulls(plain), indent=2, sort_keys=True) + "\n"


def _variable(variable: Variable | Text) -> Any:
    if isinstance(variable, Text):
        return dashboard.TextBoxVariable(variable.name).default_value(variable.value).description(variable.words)
    choice: Any = dashboard.QueryVariable(variable.name).datasource(ANALYTICS).query(variable.sql)
    return choice.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True)


def _without_nulls(value: Any) -> Any:
    """Grafana has its own defaults for what is not there, and none for null."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value


def _panel(number: int, panel: Panel) -> Any:
    builder = _BUILDERS[panel.kind]().id(number).title(panel.title).description(panel.words)
    builder.unit(panel.unit).span(panel.width).height(panel.height)
    builder.datasource(ANALYTICS if isinstance(panel.queries[0], Sql) else METRICS)
    if panel.top is not None:
        builder.min(0.0).max(panel.top)
    if panel.link is not None:
        column, title, url = panel.link
        link = {"title": title, "url": url, "targetBlank": True}
        builder.override_by_name(column, [DynamicConfigValue(id_val="links", value=[link])])
    for ref, query in zip("ABCDEF", panel.queries, strict=False):
        builder.with_target(_target(ref, query, panel.kind))
    return builder


def _target(ref: str, query: Sql | Prom, kind: str) -> Any:
    if isinstance(query, Sql):
        return SqlQuery(ref, " ".join(query.text.split()), kind)
    target = prometheus.Dataquery().expr(query.text).ref_id(ref).datasource(METRICS)
    if query.legend:
        target.legend_format(query.legend)
    return target if kind == "timeseries" else target.instant()
