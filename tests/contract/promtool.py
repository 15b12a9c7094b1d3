"""Debian's promtool, as installed or fetched without being installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_SECONDS = 60


def find_promtool(folder: Path) -> Path:
    """The program; skips, saying why, where it is neither here nor to be had."""
    found = shutil.which("promtool")
    if found:
        return Path(found)
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        pytest.skip("promtool is not installed, and there is no apt-get to fetch Debian's package `prometheus` with")
    fetched = _run(["apt-get", "download", "prometheus"], folder)
    packages = list(folder.glob("prometheus_*.deb"))
    if fetched.returncode or not packages:
        last = (fetched.stderr.strip().splitlines() or ["no package"])[-1]
        pytest.skip(f"promtool is not installed, and apt-get download prometheus says: {last}")
    _run(["dpkg-deb", "-x", str(packages[0]), str(folder / "x")], folder)
    return folder / "x" / "usr" / "bin" / "promtool"


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
