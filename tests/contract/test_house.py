"""What a stranger relies on before anything runs: pinned, hashed, and bound to no one's package registry."""

from __future__ import annotations

import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from tools.generate_proto import ROOT

LOCKS = ("requirements.lock", "requirements-dev.lock")
SERVICES = ("ingest", "labeling", "trainer", "registry", "serving", "monitor", "local")
REGISTRIES = [r"\.".join(host) for host in (("pypi", "org"), ("pythonhosted", "org"), ("registry", "npmjs", "org"))]
ADDRESS = re.compile("|".join([*REGISTRIES, r"repo\w*\.maven\.", r"--(extra-)?index-url", "--find-links"]))
WRITTEN = (".py", ".toml", ".lock", ".yaml", ".yml", ".md", ".json", ".proto", ".sh")


def written_files() -> list[Path]:
    folders = [ROOT / name for name in ("services", "proto", "tools", "docs", "deploy", ".ci")]
    inside = [path for folder in folders for path in folder.rglob("*") if path.suffix in WRITTEN or path.name == "run"]
    return [path for path in ROOT.iterdir() if path.suffix in WRITTEN or path.name == "Makefile"] + inside


def packages(lock: str) -> list[list[str]]:
    """Each locked package's lines, its name and version first."""
    lines = (ROOT / lock).read_text(encoding="utf-8").splitlines()
    starts = [place for place, line in enumerate(lines) if re.match(r"[a-z0-9]", line)]
    return [lines[start:end] for start, end in pairwise([*starts, len(lines)])]


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_pinned_and_hashed(lock: str) -> None:
    found = packages(lock)
    assert len(found) > 20
    assert [lines[0] for lines in found if not re.match(r"[a-z0-9._-]+==[^ ]+", lines[0])] == []
    assert [lines[0] for lines in found if not any("--hash=sha256:" in line for line in lines)] == []


def test_both_locks_agree_on_every_version() -> None:
    run, dev = ({lines[0].split(" ")[0] for lines in packages(lock)} for lock in LOCKS)
    names = {pin.split("==")[0] for pin in run} & {pin.split("==")[0] for pin in dev}
    assert names
    assert {pin for pin in run if pin.split("==")[0] in names} == {pin for pin in dev if pin.split("==")[0] in names}


def test_nothing_names_a_package_registry() -> None:
    files = [path for path in written_files() if path.name != "Makefile"]
    assert len(files) > 50
    assert [str(path) for path in files if ADDRESS.search(path.read_text(encoding="utf-8", errors="replace"))] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_says_nothing_of_where_it_was_made(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert re.findall(r"https?://|file://|^-.*", text, flags=re.MULTILINE) == []


def test_every_service_has_an_extra_and_torch_is_trainers_alone() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert set(SERVICES) <= set(extras)
    assert extras["all"] == [f"irisloop[{','.join(SERVICES)}]"]
    assert [name for name, needs in extras.items() if any(need.startswith("torch") for need in needs)] == ["trainer"]


def test_ci_runs_make_check_and_nothing_else() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == [
        "set -eu",
        'cd "$(dirname "${BASH_SOURCE[0]}")/.."',
        "make check",
    ]
