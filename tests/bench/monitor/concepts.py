"""The seven synthetic streams by which drift detectors are compared, and one whose change does no harm: a frozen model,
its wrong answers, and who hears the change in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, TypeAlias

from river import tree
from river.datasets import synth

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Labelled, PredictionOf, Request, Seen, State, VersionKnown
from services.monitor.domain.labels import LabelWatch
from services.monitor.domain.risk import Count
from tests.bench.monitor import rivals
from tests.bench.monitor.labels import watch_delay
from tests.unit.monitor.worlds import EPOCH, policy

Stream: TypeAlias = Iterator[tuple[dict[str, Any], Any]]

TRAINED: Final = 5_000
HELD_OUT: Final = 1_000
QUIET: Final = 12_000
AFTER: Final = 10_000
HARMLESS: Final = "SEA 0 to 2, harmless"
_RIVALS: Final = tuple(r for r in rivals.LABELS if not r.slow)


def _sea(variant: int) -> Callable[[int], Stream]:
    return lambda seed: iter(synth.SEA(variant=variant, noise=0.1, seed=seed))


def _of(kind: Callable[..., Any], function: int) -> Callable[[int], Stream]:
    return lambda seed: iter(kind(classification_function=function, seed=seed))


def _led(swapped: int) -> Callable[[int], Stream]:
    return lambda seed: iter(
        synth.LEDDrift(seed=seed, noise_percentage=0.1, irrelevant_features=True, n_drift_features=swapped)
    )


def _rbf(model: int) -> Callable[[int], Stream]:
    return lambda seed: iter(synth.RandomRBF(seed_model=model, seed_sample=seed, n_classes=2, n_features=10))


STREAMS: Final[dict[str, tuple[Callable[[int], Stream], Callable[[int], Stream]]]] = {
    "SEA 0 to 3": (_sea(0), _sea(3)),
    "Agrawal 0 to 4": (_of(synth.Agrawal, 0), _of(synth.Agrawal, 4)),
    "Sine, reversed": (_of(synth.Sine, 0), _of(synth.Sine, 1)),
    "Mixed, reversed": (_of(synth.Mixed, 0), _of(synth.Mixed, 1)),
    "STAGGER 0 to 1": (_of(synth.STAGGER, 0), _of(synth.STAGGER, 1)),
    "LED, 3 swapped": (_led(0), _led(3)),
    "RBF, new centroids": (_rbf(1), _rbf(2)),
    "SEA 0 to 2, harmless": (_sea(0), _sea(2)),
}


def measure(name: str, seeds: int) -> dict[str, Any]:
    """Labels until each hears the change, how often before it, and what the change did to the error."""
    row: dict[str, Any] = {"stream": name, "delays": {}, "false": {}, "error": []}
    for seed in range(seeds):
        report, pairs = labels(name, seed)
        wrong = [float(p != t) for p, t in pairs]
        row["error"].append((sum(wrong[:QUIET]) / QUIET, sum(wrong[QUIET:]) / AFTER))
        found = watch_delay(LabelWatch(report), pairs, QUIET, policy().labels)
        _note(row, "Irisloop", [n for n in found if n < 0], next((n + 1 for n in found if n >= 0), None))
        for rival in _RIVALS:
            early = [-1] * rivals.alarms(rival.make(rival.default), wrong[:QUIET])
            _note(row, rival.name, early, rivals.delay(rival.make(rival.default), wrong, QUIET))
    row["error"] = [round(sum(e[i] for e in row["error"]) / seeds, 3) for i in (0, 1)]
    row["labels_without_change"] = QUIET * seeds
    return row


def _note(row: dict[str, Any], who: str, early: list[int], late: int | None) -> None:
    row["false"][who] = row["false"].get(who, 0) + len(early)
    row["delays"].setdefault(who, []).append(late)


def labels(name: str, seed: int) -> tuple[Count, list[tuple[str, str]]]:
    """The report on held-out examples (worth 600 labels at most, as in the engine), and (predicted, true) after it."""
    before, after = STREAMS[name]
    model: Any = tree.HoeffdingTreeClassifier()
    for x, y in islice(before(3 * seed), TRAINED):
        model.learn_one(x, y)

    def answers(stream: Stream, count: int) -> list[tuple[str, str]]:
        return [(f"class-{model.predict_one(x)}", f"class-{y}") for x, y in islice(stream, count)]

    quiet = answers(before(3 * seed + 1), HELD_OUT + QUIET)
    held = Count.of(p != t for p, t in quiet[:HELD_OUT])
    weight = min(float(policy().labels.report_weight), held.labels)
    return Count(held.error * weight, weight), quiet[HELD_OUT:] + answers(after(3 * seed + 2), AFTER)


def harmless(seeds: int) -> dict[str, Any]:
    """The harmless stream through the whole engine: in how many seeds the change is heard, harm is CONFIRMED, a
    retraining asked for; and the same before it.
    """
    row: dict[str, Any] = {"seeds": seeds, "heard": 0, "confirmed": 0, "asked": 0, "before": {}}
    for seed in range(seeds):
        report, pairs = labels(HARMLESS, seed)
        found = judged(report, pairs)
        for what, numbers in found.items():
            row[what] += any(n >= QUIET for n in numbers)
            row["before"][what] = row["before"].get(what, 0) + sum(n < QUIET for n in numbers)
    return row


def judged(report: Count, pairs: list[tuple[str, str]]) -> dict[str, list[int]]:
    """Numbers of the labels at which the engine heard a change, was sure of harm, and asked; one frame with its label
    a second, no features.
    """
    engine, nothing = Engine.new(policy()), (float("nan"),) * WIDTH
    engine.feed([("r", False, VersionKnown(EPOCH, "r", "", "m", "1", "", "accepted", report.error, HELD_OUT))])
    found: dict[str, dict[str, int]] = {"heard": {}, "confirmed": {}, "asked": {}}
    for n, (predicted, truth) in enumerate(pairs):
        at, key = EPOCH + 1.0 + n, str(n)
        seen = Seen(at, f"p{n}", "", "m", "1", "champion", "c", key, predicted, 0.9, nothing)
        said = (PredictionOf("m", "1", "champion", predicted, 0.9),)
        label = Labelled(at, f"l{n}", "", key, "c", at, 1, truth, "uniform", 1.0, said)
        for finding in engine.feed([("p", True, seen), ("l", False, label)]):
            if isinstance(finding, DriftFound):
                found["heard"].setdefault(finding.incident.id, n)
                if finding.incident.state is State.CONFIRMED:
                    found["confirmed"].setdefault(finding.incident.id, n)
            elif isinstance(finding, Request):
                found["asked"].setdefault(finding.id, n)
    return {what: list(numbers.values()) for what, numbers in found.items()}
