"""How soon a change is found: of the labelled error, of one channel, and of a concept, beside River's detectors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, TypeAlias

from tests.bench.monitor import batch, concepts, labels, shifts, starts
from tests.bench.monitor.figures import Median, read, table, write


def main(parts: Collection[str], scale: int, seeds: int | None, processes: int) -> None:
    """Measure, say, write: each part by itself, as some take long. Without `seeds` each part takes its own number."""
    for part, (measure, usual) in PARTS.items():
        if part in parts:
            write("monitor-delay", measure(scale, max((seeds or usual) // scale, 2), processes))
    known = read("monitor-delay")
    tables = [say(known) for needs, say in _TABLES.items() if all(need in known for need in needs)]
    sys.stdout.write("\n".join(tables))


def _shifts(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    return {"shifts": [_said(shifts.measure(case, seeds)) for case in shifts.CASES]}


def _labels(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    null = _said(labels.null(seeds * 600, 1))
    return {"label_null": null, "labels": [_said(labels.measure(after, seeds)) for after in labels.AFTER]}


def _rivals(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    rate = read("monitor-delay").get("label_null", {}).get("per_10k", 1.0) / 1e4
    found = {"label_rivals": [_said(row) for row in labels.rival_rows(seeds, 100_000 // scale, rate)]}
    return {**found, "shift_rivals": [_said(row) for row in shifts.rival_rows(seeds, 1_100_000 // scale)]}


def _concepts(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    return {"concepts": concepts.measure(list(concepts.STREAMS), seeds, processes)}


def _harmless(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    return {"harmless": concepts.harmless(seeds, processes)}


def _batch(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    return {"batch": [_said(batch.measure(*case, 5 * seeds)) for case in batch.CASES]}


def _starts(scale: int, seeds: int, processes: int) -> dict[str, Any]:
    return starts.measure(seeds, processes)


Measure: TypeAlias = Callable[[int, int, int], dict[str, Any]]

PARTS: Final[Mapping[str, tuple[Measure, int]]] = {
    "shifts": (_shifts, 100),
    "batch": (_batch, 100),
    "labels": (_labels, 100),
    "rivals": (_rivals, 100),
    "concepts": (_concepts, 20),
    "harmless": (_harmless, 200),
    "starts": (_starts, 100),
}
"""What measures each part, and by how many seeds."""


def _said(row: dict[str, Any]) -> dict[str, Any]:
    shown = {k: str(Median.of(v)) if isinstance(v, list) and k == "delays" else v for k, v in row.items()}
    sys.stderr.write(f"{shown}\n")
    return row


def shift_table(figures: Mapping[str, Any]) -> str:
    """Ours."""
    ours = [
        (f"{r['until']}, {r['stream']}, {r['shift']:g} sigma, after {r['onset']:,} frames", Median.of(r["delays"]),
         r["aim"] or "", r["false_before"])
        for r in figures["shifts"]
    ]  # fmt: skip
    return table(("Irisloop: one channel moves", "Effective frames until", "aim", "false before"), ours)


def rival_table(figures: Mapping[str, Any]) -> str:
    """River's detectors on one channel of a camera with independent frames."""
    theirs = [
        (f"{r['detector']}, {_setting(r)}", f"{r.get('per_100k_frames', 0.0):.2f}",
         *(f"{r.get('correlated_per_100k_frames', {}).get(rho, 0.0):.0f}" for rho in ("0.5", "0.9")),
         *(Median.of(r.get("delays", {}).get(s, [])) for s in ("1.0", "0.5")))
        for r in figures["shift_rivals"]
    ]  # fmt: skip
    head = ("River, a detector a channel", "False in 100k", "rho .5", "rho .9", "1 sigma", ".5 sigma")
    return table(head, theirs)


def _setting(row: Mapping[str, Any]) -> str:
    return f"{row['kind']} ({'none found' if row['setting'] is None else format(row['setting'], 'g')})"


def label_table(figures: Mapping[str, Any]) -> str:
    """Ours, then River's."""
    ours = ("Irisloop", f"{figures['label_null']['per_10k']:.2f}", *(Median.of(r["delays"]) for r in figures["labels"]))
    theirs = [
        (f"{r['detector']}, {_setting(r)}", f"{r.get('per_10k', 0.0):.2f}",
         *(Median.of(r.get("delays", {}).get(str(a), [])) for a in labels.AFTER))
        for r in figures.get("label_rivals", ())
    ]  # fmt: skip
    return table(("Labelled error .1", "False in 10k labels", *(f"to {a:g}" for a in labels.AFTER)), [ours, *theirs])


def concept_table(figures: Mapping[str, Any]) -> str:
    """Medians, false alarms before the change, and how many labels more than the fastest of the others ours took, in
    the same runs.
    """
    rows = figures["concepts"]
    who = list(rows[0]["delays"])
    body, surely, alike = [], 0, 0
    for r in rows:
        other, less = concepts.fastest(r)
        if r["stream"] != concepts.HARMLESS:
            surely += less.high is not None and less.high <= 0
            alike += less.low is not None and less.low <= 0
        shown = [f"{Median.of(r['delays'][w])}; {r['false'][w]} false" for w in who]
        body.append((r["stream"], "{:.3f} to {:.3f}".format(*r["error"]), *shown, f"{less} than {other}"))
    said = f"Surely at least as fast as the fastest of the others: {surely} of 7; not surely slower: {alike}.\n"
    return table(("Stream", "Error", *who, "ours took more, by pairs"), body) + "\n" + said


def batch_table(figures: Mapping[str, Any]) -> str:
    """The test behind a camera's CONFIRMED."""
    body = [
        (f"rho {r['rho']:g}, {r['before']} stretches before, {r['shift']:g} sigma", r["tests"],
         f"{r['rejected']:.3f} ({r['low']:.3f}-{r['high']:.3f})", r["aim"] or "", f"{r['single_blocks']:.3f}")
        for r in figures["batch"]
    ]  # fmt: skip
    return table(("Batch test at .05", "Tests", "rejected", "aim", "permuting single blocks"), body)


def harmless_table(figures: Mapping[str, Any]) -> str:
    """What the engine makes of a change that does no harm."""
    row = figures["harmless"]
    body = [
        (what, f"{row[name]} of {row['seeds']}", row["before"][name])
        for what, name in (("heard", "heard"), ("harm CONFIRMED", "confirmed"), ("a retraining asked for", "asked"))
    ]
    return table((concepts.HARMLESS, "after the change", f"before, in {concepts.QUIET * row['seeds']:,} labels"), body)


_TABLES: Final[Mapping[tuple[str, ...], Callable[[Mapping[str, Any]], str]]] = {
    ("shifts",): shift_table,
    ("batch",): batch_table,
    ("label_null", "labels"): label_table,
    ("shift_rivals",): rival_table,
    ("concepts",): concept_table,
    ("harmless",): harmless_table,
    ("starts", "blind", "creep"): starts.report,
}
