"""Alert rules fire when they should and only then, by promtool; they name only metrics that there are."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics import MetricWrapperBase

from services.common import metrics
from tests.contract.promtool import find_promtool
from tools.generate_proto import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "rules" / "irisloop.yml").read_text(encoding="utf-8"))
TESTS = yaml.safe_load((FOLDER / "rules" / "irisloop_test.yml").read_text(encoding="utf-8"))["tests"]
ALERTS: list[dict[str, Any]] = [rule for group in RULES["groups"] for rule in group["rules"]]


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_promtool(tmp_path_factory.mktemp("promtool"))


def verdict_of(promtool: Path, folder: Path, alerts: list[dict[str, Any]], tests: list[dict[str, Any]]) -> str:
    """What promtool says of these rules and tests; "" when all is well."""
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": alerts}]}), encoding="utf-8")
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests}
    (folder / "tests.yml").write_text(yaml.safe_dump(document), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", "tests.yml"], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def of(name: str) -> list[dict[str, Any]]:
    """The tests of an alert."""
    return [test for test in TESTS if test["alert_rule_test"][0]["alertname"] == name]


def test_the_configuration_and_its_rules_are_valid(promtool: Path) -> None:
    done = subprocess.run(
        [promtool, "check", "config", FOLDER / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERTS)} rules found" in done.stdout


def test_every_alert_fires_and_keeps_quiet_as_its_tests_have_it(promtool: Path, tmp_path: Path) -> None:
    assert verdict_of(promtool, tmp_path, ALERTS, TESTS) == ""


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_that_never_or_always_fired_would_fail_its_tests(
    promtool: Path, tmp_path: Path, alert: dict[str, Any]
) -> None:
    never = {**alert, "expr": "vector(0) > 1"}
    always = {**alert, "expr": f"({alert['expr']}) or vector(1)", "for": "0s"}
    for wrong in (never, always):
        assert verdict_of(promtool, tmp_path, [wrong], of(alert["alert"])) != ""


@pytest.mark.parametrize("alert", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_an_alert_is_tested_both_ways_and_says_what_to_do(alert: dict[str, Any]) -> None:
    expected = [bool(test["alert_rule_test"][0]["exp_alerts"]) for test in of(alert["alert"])]
    assert sorted(expected) == [False, True]
    assert alert["labels"]["severity"] in ("page", "ticket")
    assert set(alert["annotations"]) == {"summary", "action"}


def test_every_metric_of_a_rule_is_in_the_reference_with_the_labels_it_is_asked_by() -> None:
    declared = {one._name: set(one._labelnames) for one in vars(metrics).values() if isinstance(one, MetricWrapperBase)}
    listed = set(
        re.findall(r"^\| `(irisloop_\w+)`", (ROOT / "docs/reference/metrics.md").read_text("utf-8"), re.MULTILINE)
    )
    for alert in ALERTS:
        found = re.findall(r"(irisloop_\w+)(?:\{([^}]*)\})?", alert["expr"])
        assert found or alert["expr"].startswith("up{")
        for name, matchers in found:
            exposed = re.sub(r"_(bucket|sum|count)$", "", name) if name not in listed else name
            assert exposed in listed, f"{alert['alert']}: {name}"
            labels = declared[exposed.removesuffix("_total")] | {"job", "instance"}
            assert set(re.findall(r"(\w+)\s*=~?", matchers)) <= labels, f"{alert['alert']}: {matchers}"


def test_commands_and_pages_that_an_alert_names_are_there() -> None:
    for alert in ALERTS:
        for page in re.findall(r"docs/[\w/-]+\.md", alert["annotations"]["action"]):
            assert (ROOT / page).exists(), page
