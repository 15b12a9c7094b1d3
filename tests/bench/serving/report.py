"""What a run found, in three forms: JSON for keeping, a table for a terminal, Markdown for docs/benchmarks.md.

`python -m tests.bench.serving.report [FILE]` prints the Markdown of a file that a run wrote.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from rich.console import Console
from rich.table import Table

from tests.bench.serving.aims import AIMS
from tests.bench.serving.images import ROADS as IMAGE_ROADS
from tests.bench.serving.rounds import Absence
from tests.bench.serving.servers import LABELS, TRITON
from tests.bench.serving.summary import Figures, Spread

FILE: Final = Path(".irisloop/bench/serving.json")
COLUMNS: Final = (
    "server",
    "requests/s",
    "quartiles",
    "x Triton",
    "quartiles",
    "CPU a request, us",
    "p50, ms",
    "p99, ms",
)
IMAGE_COLUMNS: Final = ("model", "road", "server", "p50, ms", "quartiles", "x Triton's time", "server's CPU, ms")
WIDTH: Final = 150
"""Of tables, also where no terminal says how wide it is."""
AIM_COLUMNS: Final = ("aim", "bound", "measured", "")

Found = Mapping[str, Any]
"""What the JSON file holds."""


@dataclass(frozen=True, slots=True)
class Circumstances:
    """How the figures came about."""

    command: str
    rounds: int
    seconds: float
    events: bool

    def as_json(self) -> dict[str, Any]:
        """With the day and the machine."""
        machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
        return asdict(self) | {"date": datetime.now(UTC).date().isoformat(), "machine": machine}


def collect(figures: Figures, absent: Sequence[Absence], about: Circumstances) -> dict[str, Any]:
    """All of it, as the file holds it."""
    return {
        **about.as_json(),
        "aims": [asdict(aim.judge(figures)) for aim in AIMS],
        "rates": [
            {"case": str(case), "rows": [_row(figures, case, server) for server in figures.servers(case)]}
            for case in figures.cases()
        ],
        "image_calls": _image_rows(figures),
        "absent": [asdict(one) for one in absent],
        "samples": [asdict(one) for one in figures.samples],
        "images": [asdict(one) for one in figures.images],
    }


def _row(figures: Figures, case: Any, server: str) -> dict[str, Any]:
    rate, cpu, p50, p99 = (
        figures.spread(server, case, lambda one, name=name: getattr(one, name))  # type: ignore[misc]
        for name in ("rate", "cpu_us", "p50_ms", "p99_ms")
    )
    ratio = figures.ratio(server, TRITON, case)
    return {"server": server, "rate": _plain(rate), "ratio": _plain(ratio)} | {
        name: round(spread.median, 3) if spread else None
        for name, spread in (("cpu_us", cpu), ("p50_ms", p50), ("p99_ms", p99))
    }


def _image_rows(figures: Figures) -> list[dict[str, Any]]:
    rows = []
    for model, road, server in dict.fromkeys((one.model, one.road, one.server) for one in figures.images):
        cpu = [one.cpu_ms for one in figures.images if (one.model, one.road, one.server) == (model, road, server)]
        time, ratio = figures.image(server, model, road), figures.image_ratio(server, TRITON, model, road)
        named = {"model": model, "road": road, "server": server}
        rows.append(named | {"time": _plain(time), "ratio": _plain(ratio), "cpu_ms": Spread.of(cpu).median})
    return rows


def _plain(spread: Spread | None) -> list[float] | None:
    return [round(one, 3) for one in (spread.median, spread.low, spread.high)] if spread else None


def write(found: Found, file: Path = FILE) -> None:
    """The file, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.rename(file)


class Outcome(Protocol):
    """A dataclass of figures that were measured for a purpose."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def aims(self) -> dict[str, bool]:
        """What was asked for, and whether it came out."""


def conclude(
    kind: str, found: Sequence[Outcome], names: Sequence[str], table: str, file: Path, **about: object
) -> None:
    """Write a program's outcomes as JSON, under `kind`, and print its table and what became of each one's aims."""
    outcomes = [asdict(one) | {"aims": one.aims()} for one in found]
    write({"command": " ".join(sys.argv), **about, kind: outcomes}, file)
    sys.stdout.write(table + "\n")
    for name, one in zip(names, found, strict=True):
        for aim, reached in one.aims().items():
            sys.stdout.write(f"{name}: {aim}: {'reached' if reached else 'missed'}\n")


def tables(found: Found) -> list[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, columns and cells of every table."""
    rates = [(one["case"], COLUMNS, [_rate_cells(row) for row in one["rows"]]) for one in found["rates"]]
    images = [_image_cells(row) for row in found["image_calls"]]
    aims = [[one["aim"], one["bound"], one["measured"], one["verdict"]] for one in found["aims"]]
    result: list[tuple[str, Sequence[str], list[list[str]]]] = [*rates]
    if images:
        result.append(("A 4.9 MB image, one call at a time", IMAGE_COLUMNS, images))
    return [*result, ("Aims", AIM_COLUMNS, aims)]


def _rate_cells(row: Mapping[str, Any]) -> list[str]:
    rate, ratio = row["rate"], row["ratio"]
    return [
        LABELS[row["server"]],
        f"{rate[0]:,.0f}",
        f"{rate[1]:,.0f}-{rate[2]:,.0f}",
        f"{ratio[0]:.2f}" if ratio else "",
        f"{ratio[1]:.2f}-{ratio[2]:.2f}" if ratio else "",
        f"{row['cpu_us']:,.0f}",
        f"{row['p50_ms']:.2f}",
        f"{row['p99_ms']:.2f}",
    ]


def _image_cells(row: Mapping[str, Any]) -> list[str]:
    time, ratio = row["time"], row["ratio"]
    return [
        row["model"],
        IMAGE_ROADS[row["road"]],
        LABELS[row["server"]],
        f"{time[0]:.1f}",
        f"{time[1]:.1f}-{time[2]:.1f}",
        f"{ratio[0]:.2f}" if ratio else "",
        f"{row['cpu_ms']:.1f}",
    ]


def show(found: Found, console: Console | None = None) -> None:
    """For a terminal."""
    console = console or Console(width=max(Console().width, WIDTH))
    for title, columns, rows in tables(found):
        table = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 or columns is not COLUMNS else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table, "")
    for one in found["absent"]:
        console.print(f"{LABELS[one['server']]} is not in {one['case']}: {one['reason']}", markup=False)


def markdown(found: Found) -> str:
    """For docs/benchmarks.md."""
    events = "events of Irisloop on" if found["events"] else "events off"
    lines = [
        f"`{found['command']}`, {found['date']}, {found['machine']}; {found['rounds']} paired rounds of "
        f"{found['seconds']:g} s, medians and quartiles; {events}.",
        "",
    ]
    for title, columns, rows in tables(found):
        lines += [f"### {title}", "", _line(columns), _line(["---"] * len(columns)), *map(_line, rows), ""]
    lines += [f"- {LABELS[one['server']]} is not in {one['case']}: {one['reason']}" for one in found["absent"]]
    return "\n".join(lines).rstrip() + "\n"


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(escaped)} |"


def main() -> None:
    """Print the Markdown of a file."""
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE
    sys.stdout.write(markdown(json.loads(file.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
