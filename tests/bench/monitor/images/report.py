"""The tables: the lines of the aim, then every cell."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from tests.bench.monitor import figures
from tests.bench.monitor.images import score, truth
from tests.bench.monitor.images.bench import Ground, by_cell
from tests.bench.monitor.images.cells import TUNED_ON
from tests.bench.monitor.images.play import Outcome
from tests.bench.monitor.images.score import Line
from tests.bench.monitor.images.truth import Truth


def write(ground: Ground, outcomes: Sequence[Outcome], left_out: int, code: str, *, tuning: bool) -> str:
    """The report, also kept as JSON; `code` is the commit that was run."""
    name, truths = ground.dataset.name, truth.read(ground.dataset.name, ground.model)
    unseen = [o for o in outcomes if truths[o.cell].cell.kind not in TUNED_ON]
    parts = {
        "": score.lines(outcomes, truths),
        "families never looked at: ": score.lines(unseen, truths),
        "severities 1 and 2: ": score.lines(outcomes, truths, judged=False),
    }
    policies = {who: score.lines(make(outcomes), truths) for who, make in score.POLICIES.items()}
    document = {
        "commit": code, "model": ground.model.digest, "left_out": left_out,
        "outcomes": [o.document() for o in outcomes],
    }  # fmt: skip
    figures.write(f"monitor-images-{name}{'-tuning' if tuning else ''}", document)
    head = f"{name}, model {ground.model.digest}, commit {code}, {left_out} worlds left out\n\n"
    return "\n".join((head, *(aims(parts, policies)), cells(outcomes, truths)))


def aims(parts: Mapping[str, Sequence[Line]], policies: Mapping[str, Sequence[Line]]) -> list[str]:
    """One table for each group of cells, with the policies that look at nothing beside the first."""
    found = []
    for number, (what, listed) in enumerate(parts.items()):
        beside = policies if number == 0 else {}
        rows = [
            (what + line.name, said(line), limit(line), *(said(other[place]) for other in beside.values()), line.cells)
            for place, line in enumerate(listed)
            if line.runs
        ]
        found.append(figures.table(("Figure", "Irisloop", "aim", *beside, "cells"), rows))
    failing = ", ".join(f"{who} misses {sum(not x.met for x in listed)}" for who, listed in policies.items())
    return [*found, f"Of {len(next(iter(parts.values())))} lines: {failing}.\n"]


def said(line: Line) -> str:
    """As tables show it."""
    if not line.runs:
        return "none"
    low, high = max(line.value - line.half, 0.0), min(line.value + line.half, 1.0)
    return f"{line.value:.3f} ({low:.3f}-{high:.3f}){'' if line.met else ' missed'}"


def limit(line: Line) -> str:
    """The aim as tables show it."""
    return f"{'>=' if line.at_least else '<='} {line.aim:.2f}" if line.aim else ""


def cells(outcomes: Sequence[Outcome], truths: Mapping[str, Truth]) -> str:
    """Every cell: what it costs, how many runs found it and how soon, what was blamed, what was asked for."""
    rows = []
    for name, runs in by_cell(outcomes).items():
        found = sorted(r.found for r in runs if r.found is not None)
        causes = {c: sum(r.cause == c for r in runs) for c in ("scene", "camera", "labels")}
        known = [r for r in runs if not r.unknown]
        off = sum(abs(r.estimate - r.accuracy) for r in known) / len(known) if known else None
        rows.append((
            name, f"{truths[name].cost:+.3f}", f"{len(found)}/{len(runs)}", found[len(found) // 2] if found else "",
            "/".join(map(str, causes.values())), sum(r.requests > 0 for r in runs), _kinds(runs),
            "" if off is None else f"{off:.3f}",
        ))  # fmt: skip
    head = ("Cell", "cost", "found", "median frames", "scene/camera/labels", "asked", "fault said", "off by")
    return figures.table(head, rows)


def _kinds(runs: Sequence[Outcome]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        for blame in run.blamed:
            if blame.fault:
                counts[blame.fault] = counts.get(blame.fault, 0) + 1
    return ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items(), key=lambda one: -one[1]))


def commit() -> str:
    """Of the code that was run, and whether it was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(("git", *words), capture_output=True, text=True, check=False).stdout.strip()

    return f"{git('rev-parse', '--short', 'HEAD')}{' with changes' if git('status', '--porcelain', '-uno') else ''}"
