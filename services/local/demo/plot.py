"""Accuracy over frames as a PNG: what a person would rather see than read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from services.local.demo.journal import CHAMPION, SHADOW, utc
from services.local.demo.report import Facts, drift, frame_at

WINDOW = 300
COLOURS = {CHAMPION: "#0b6e4f", SHADOW: "#b0413e"}


def draw(facts: Facts, file: Path) -> Path:
    """Moving accuracy of champion and shadow over frames, with onset, detection, request and swap marked."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 5), layout="constrained")
    for role, colour in COLOURS.items():
        frames, right = _series(facts, role)
        if len(frames) > WINDOW:
            share = np.convolve(right, np.ones(WINDOW) / WINDOW, mode="valid")
            words = "champion" if role == CHAMPION else "old champion, in shadow"
            axes.plot(frames[WINDOW - 1 :], share, color=colour, label=words, linewidth=1.6)
    for place, (words, frame, style) in enumerate(_marks(facts)):
        axes.axvline(frame, color="#444444", linestyle=style, linewidth=1)
        axes.text(frame, 1.005 + 0.03 * (place % 2), f" {words}", fontsize=8, ha="left", va="bottom")
    axes.set(xlabel="live frame", ylabel=f"accuracy, moving over {WINDOW} frames", ylim=(0.3, 1.0))
    figure.suptitle(f"irisloop demo: {facts.scenario.family.value}, seed {facts.seed}", x=0.02, ha="left")
    axes.legend(loc="lower left", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return file


def _series(facts: Facts, role: str) -> tuple[np.ndarray, np.ndarray]:
    journal = facts.journal
    frames = sorted(number for number in journal.answers[role] if number in journal.truth.label)
    return np.array(frames), np.array([journal.is_right(role, number) for number in frames], float)


def _marks(facts: Facts) -> list[tuple[str, int, str]]:
    journal, found = facts.journal, drift(facts)
    marks = [("onset", found["onset_frame"], "-")] if found["onset_frame"] else []
    if found["detected_frame"]:
        marks.append(("detected", found["detected_frame"], "--"))
    marks += [("retrain asked", frame_at(facts, utc(r.requested_at)), ":") for r in journal.requests]
    marks += [("swap", frame_at(facts, utc(move.moved_at)), "-.") for move in journal.champions()[1:]]
    return marks
