"""The committed dashboards are those of the code, and name only what there is: metrics, tables, data sources, ports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from services.common import metrics
from services.local.layout import HTTP_PORTS
from tools.dashboards.boards import BOARDS
from tools.dashboards.spec import Prom, Sql

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "grafana" / "dashboards"


def test_the_committed_json_is_what_the_code_writes() -> None:
    pytest.importorskip("grafana_foundation_sdk", reason="make setup installs it")
    from tools.dashboards.panels import text_of

    written = {f"{board.uid}.json": text_of(board) for board in BOARDS}
    assert {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.json")} == written


def test_the_committed_json_holds_every_query_of_the_code() -> None:
    for board in BOARDS:
        wanted = [" ".join(query.text.split()) for panel in board.panels for query in panel.queries]
        targets = [target for panel in read(board.uid)["panels"] for target in panel["targets"]]
        assert [target.get("rawSql") or target["expr"] for target in targets] == wanted, board.uid


def test_every_metric_of_a_dashboard_is_declared_with_the_labels_it_is_asked_by() -> None:
    declared = {one._name: set(one._labelnames) for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)}
    for query in prometheus():
        (name,) = re.findall(r"irisloop_\w+", query)
        base = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert base in declared or name in declared, name
        labels = {label for by in re.findall(r"by \(([^)]*)\)", query) for label in by.split(", ")}
        assert labels - {"le", "job"} <= declared.get(base, declared.get(name, set())), query


def test_every_panel_is_explained_and_belongs_to_a_provisioned_data_source() -> None:
    provisioned = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/irisloop.yaml").read_text())
    known = {(one["type"], one["uid"]) for one in provisioned["datasources"]}
    for board in BOARDS:
        for panel in read(board.uid)["panels"]:
            sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
            assert {(one["type"], one["uid"]) for one in sources} <= known
            assert panel["description"].endswith(".")
            assert len(sources) == len(panel["targets"]) + 1 > 1


def test_prometheus_scrapes_every_service_where_it_listens() -> None:
    scraped = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    found = {one["job_name"]: one["static_configs"][0]["targets"] for one in scraped}
    assert found == {name: [f"localhost:{port}"] for name, port in HTTP_PORTS.items()}


def test_panels_do_not_lie_on_one_another_and_ask_one_source_each() -> None:
    for board in BOARDS:
        taken: set[tuple[int, int]] = set()
        for panel in read(board.uid)["panels"]:
            at = panel["gridPos"]
            mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            assert not mine & taken
            assert at["x"] + at["w"] <= 24
            taken |= mine
        for one in board.panels:
            assert len({type(query) for query in one.queries}) == 1
            assert all(isinstance(query, Sql | Prom) for query in one.queries)


def read(uid: str) -> dict[str, Any]:
    board: dict[str, Any] = json.loads((FOLDER / f"{uid}.json").read_text(encoding="utf-8"))
    return board


def prometheus() -> Iterator[str]:
    for board in BOARDS:
        for panel in board.panels:
            yield from (query.text for query in panel.queries if isinstance(query, Prom))
