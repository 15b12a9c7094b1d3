"""A detector is named in a policy, whoever made it: the page's own example is installed beside Irisloop and runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.monitor.domain.detectors import registry
from services.monitor.domain.detectors.choice import DetectorChoice
from services.monitor.domain.detectors.protocol import LABELS
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, State
from services.monitor.domain.labels import LabelWatch
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from services.monitor.domain.risk import Count
from services.monitor.domain.snapshot import dump, load
from tests.bench.monitor.labels import confusion, joined
from tests.unit.monitor.worlds import World, again, policy

REPOSITORY = Path(__file__).parents[3]
PAGE = REPOSITORY / "docs" / "how-to" / "choose-detectors.md"

WITH_EWMA = """
import json, sys
import yaml
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound
from services.monitor.domain.pieces import Snapshots, rebuild
from services.monitor.domain.policy import Policy
from tests.unit.monitor.worlds import POLICY_FILE, World

document = yaml.safe_load(POLICY_FILE.read_text(encoding="utf-8"))
document["channels"]["detector"] = {"name": "ewma", "limit": 6}
chosen = Policy.read(document)
world = World(3, frames=6_000, onset=3_000, shift=2.0)
engine, snapshots, written = Engine.new(chosen), Snapshots(), {}
for number, batch in enumerate(world.inputs()):
    if number == 120:  # Goes on from its snapshot in the middle.
        written |= dict(snapshots.changed(engine))
        engine = Engine.new(chosen)
        rebuild(engine, written)
    world.heard(engine.feed(batch))
first = next(f for f in world.findings if isinstance(f, DriftFound))
refused = ""
try:
    Policy.read({**document, "labels": {**document["labels"], "detector": "ewma"}})
except ValueError as error:
    refused = str(error)
json.dump({
    "detectors": sorted({e.detector for e in first.incident.evidence}),
    "frame": world.frame(first.at),
    "classes": sorted({type(c.bank).__module__ for c in engine.models["m"].watched()}),
    "refused": refused,
}, sys.stdout)
"""


def block(page: str, language: str, section: str) -> str:
    """The first code block of that language in a section of the page."""
    after = page.split(f"\n## {section}\n", 1)[1].split("\n## ", 1)[0]
    return after.split(f"```{language}\n", 1)[1].split("```", 1)[0]


def installed(site: Path) -> None:
    """What an installer makes of the page's package: the file, and a .dist-info with its entry points."""
    page = PAGE.read_text(encoding="utf-8")
    (site / "ewma_detector.py").write_text(block(page, "python", "Add a detector"), encoding="utf-8")
    said = block(page, "toml", "Add a detector")
    assert said.startswith('[project.entry-points."irisloop.detectors"]\n')
    name, value = (part.strip().strip('"') for part in said.splitlines()[1].split("="))
    info = site / "ewma_detector-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: ewma-detector\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[irisloop.detectors]\n{name} = {value}\n", encoding="utf-8")


def test_the_detector_of_the_page_is_installed_and_runs_by_a_policy(tmp_path: Path) -> None:
    installed(tmp_path)
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY), str(REPOSITORY / "proto" / "gen")])
    run = subprocess.run(
        [sys.executable, "-c", WITH_EWMA], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    said = json.loads(run.stdout)
    assert said["detectors"] == ["ewma"]
    assert said["classes"] == ["ewma_detector"]
    assert 3_000 <= said["frame"] < 3_600
    assert "labels.detector must be one of" in said["refused"]
    assert "not 'ewma', which watches standardised channels, not labels of 0 and 1" in said["refused"]


def test_it_is_unknown_where_it_is_not_installed() -> None:
    assert "ewma" not in registry.installed()


def with_detector(section: str, value: Any) -> Policy:
    rules = policy()
    return replace(rules, **{section: replace(getattr(rules, section), detector=value)})


@pytest.mark.parametrize("name", sorted(registry.fitting(LABELS)))
def test_each_detector_of_labels_hears_that_the_error_rose_and_goes_on_alike_from_its_snapshot(name: str) -> None:
    options = {"alpha": 1e-4, "window_size": 60, "stat_size": 20} if name == "kswin" else {}
    rules = with_detector("labels", DetectorChoice(name, options)).labels
    rng = np.random.default_rng(5)
    watch = LabelWatch(Count(60.0, 600.0))
    for number in range(300):
        watch.update(joined(number, *confusion(rng, float(rng.random() < 0.1))), rules)
    assert watch.error is not None
    assert watch.error.name == name
    for number in range(300, 900):
        watch.update(joined(number, *confusion(rng, float(rng.random() < 0.7))), rules)
        if number == 320:
            watch = load(dump([watch]))[0]
    assert watch.error is not None
    assert watch.error.alarmed()[0]
    assert watch.alarmed()


def test_a_detector_of_any_change_raises_no_alarm_for_the_better() -> None:
    rules = with_detector("labels", DetectorChoice("page-hinkley", {"threshold": 10.0})).labels
    rng = np.random.default_rng(6)
    watch = LabelWatch(Count(240.0, 600.0))
    outcomes = [*(rng.random(400) < 0.4), *(rng.random(1_500) < 0.02)]
    for number, wrong in enumerate(outcomes):
        watch.update(joined(number, *confusion(rng, float(wrong))), rules)
    assert watch.error is not None
    assert watch.error.alarmed()[0]
    assert not watch.alarmed()


def run(engine: Engine, world: World) -> None:
    for batch in world.inputs():
        world.heard(engine.feed(batch))


def test_another_detector_in_the_policy_takes_over_at_the_next_block_and_keeps_what_was_learnt() -> None:
    """Also out of a snapshot that was written under the former policy."""
    before = World(4, frames=3_000, onset=9_999)
    engine, snapshots = Engine.new(policy()), Snapshots()
    run(engine, before)
    copy = Engine.new(with_detector("channels", DetectorChoice("adwin")))
    rebuild(copy, dict(snapshots.changed(engine)))
    camera = copy.models["m"].cameras["camera-0"]
    assert camera.bank is not None
    assert camera.bank.name == "cusum"
    assert camera.reference is not None
    means = camera.reference.mean.tolist()
    quiet = again(replace(before, first=3_000, frames=500))
    run(copy, quiet)
    assert {c.bank.name for c in copy.models["m"].cameras.values() if c.bank is not None} == {"adwin"}
    assert camera.reference.mean.tolist() == means
    later = again(replace(before, first=3_500, frames=4_000, onset=0, shift=3.0))
    run(copy, later)
    (found, *_) = later.of(DriftFound)
    assert isinstance(found, DriftFound)
    assert {e.detector for e in found.incident.evidence} == {"adwin"}


def test_a_detector_that_hears_late_does_not_let_the_change_become_normal_meanwhile() -> None:
    """ADWIN looks at every 32nd block; until then CUSUM says from which blocks may be learnt."""
    engine = Engine.new(with_detector("channels", DetectorChoice("adwin")))
    run(engine, World(4, frames=2_500, onset=9_999))
    camera = engine.models["m"].cameras["camera-0"]
    assert camera.profile is not None
    known = camera.profile.expected(0.0)
    run(engine, World(5, first=2_500, frames=1_000, onset=0, shift=3.0))
    assert camera.state < State.ALARM
    assert camera.gate is not None
    assert np.abs(camera.profile.expected(0.0) - known).max() < 0.5
