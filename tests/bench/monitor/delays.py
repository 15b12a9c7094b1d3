"""How soon a change is found: of the labelled error, of one channel, and of a concept, beside River's detectors."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.monitor import concepts, labels, shifts
from tests.bench.monitor.figures import Median, table, write


def main(quick: bool, seeds: int) -> None:
    """Measure, say, write."""
    seeds, scale = (max(seeds // 20, 2), 20) if quick else (seeds, 1)
    figures: dict[str, Any] = {}
    figures["shifts"] = [_said(shifts.measure(case, seeds)) for case in shifts.CASES]
    write("monitor-delay", figures)
    figures["label_null"] = _said(labels.null(200_000 // scale, 1))
    figures["labels"] = [_said(row) for row in labels.delays(seeds)]
    write("monitor-delay", figures)
    figures["label_rivals"] = labels.rival_rows(seeds, 400_000 // scale, figures["label_null"]["per_10k"] / 1e4)
    figures["shift_rivals"] = shifts.rival_rows(seeds, 4_400_000 // scale)
    write("monitor-delay", figures)
    figures["concepts"] = [_said(concepts.measure(name, max(seeds // 5, 1))) for name in concepts.STREAMS]
    write("monitor-delay", figures)
    sys.stdout.write("\n".join((shift_table(figures), label_table(figures), concept_table(figures["concepts"]))))


def _said(row: dict[str, Any]) -> dict[str, Any]:
    sys.stderr.write(
        f"{ {k: str(Median.of(v)) if isinstance(v, list) and k == 'delays' else v for k, v in row.items()} }\n"
    )
    return row


def shift_table(figures: Mapping[str, Any]) -> str:
    """Ours, then River's, on independent frames."""
    ours = [
        (f"{r['until']}, {r['stream']}, {r['shift']:g} sigma, after {r['onset']:,} frames", Median.of(r["delays"]),
         r["aim"] or "", r["false_before"])
        for r in figures["shifts"]
    ]  # fmt: skip
    theirs = [
        (f"{r['detector']}, {_setting(r)}", f"{r.get('per_100k_frames', 0.0):.2f}",
         *(f"{r.get('correlated_per_100k_frames', {}).get(rho, 0.0):.0f}" for rho in ("0.5", "0.9")),
         *(Median.of(r.get("delays", {}).get(s, [])) for s in ("1.0", "0.5")))
        for r in figures["shift_rivals"]
    ]  # fmt: skip
    first = table(("Irisloop: one channel moves", "Effective frames until", "aim", "false before"), ours)
    head = ("River, a detector a channel", "False in 100k", "rho .5", "rho .9", "1 sigma", ".5 sigma")
    return f"{first}\n{table(head, theirs)}"


def _setting(row: Mapping[str, Any]) -> str:
    return f"{row['kind']} ({'none found' if row['setting'] is None else format(row['setting'], 'g')})"


def label_table(figures: Mapping[str, Any]) -> str:
    """Ours, then River's."""
    ours = ("Irisloop", f"{figures['label_null']['per_10k']:.2f}", *(Median.of(r["delays"]) for r in figures["labels"]))
    theirs = [
        (f"{r['detector']}, {_setting(r)}", f"{r.get('per_10k', 0.0):.2f}",
         *(Median.of(r.get("delays", {}).get(str(a), [])) for a in labels.AFTER))
        for r in figures["label_rivals"]
    ]  # fmt: skip
    return table(("Labelled error .1", "False in 10k labels", *(f"to {a:g}" for a in labels.AFTER)), [ours, *theirs])


def concept_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Medians, and false alarms before the change."""
    who = list(rows[0]["delays"])
    body = [
        (r["stream"], "{:.3f} to {:.3f}".format(*r["error"]),
         *(f"{Median.of(r['delays'][w])}; {r['false'][w]} false" for w in who))
        for r in rows
    ]  # fmt: skip
    return table(("Stream", "Error", *who), body)
