"""Writes Grafana's dashboards: `python -m tools.dashboards [FOLDER]`, deploy/grafana/dashboards when none is given."""

from __future__ import annotations

import sys
from pathlib import Path

from tools.dashboards.boards import BOARDS
from tools.dashboards.panels import text_of
from tools.generate_proto import ROOT

FOLDER = ROOT / "deploy" / "grafana" / "dashboards"


def main() -> None:
    """Every dashboard, and no other."""
    folder = Path(sys.argv[1]) if sys.argv[1:] else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.glob("*.json"):
        file.unlink()
    for board in BOARDS:
        (folder / f"{board.uid}.json").write_text(text_of(board), encoding="utf-8")


if __name__ == "__main__":
    main()
