"""The seven synthetic streams by which drift detectors are compared, and one whose change does no harm: a frozen model,
its wrong answers, and who hears the change in them.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from typing import Any, Final, TypeAlias

from river import tree
from river.datasets import synth

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.engine import Engine
from services.monitor.domain.events import DriftFound, Request, State
from services.monitor.domain.inputs import Labelled, PredictionOf, Seen, VersionKnown
from services.monitor.domain.labels import LabelWatch
from services.monitor.domain.risk import Count
from tests.bench.monitor import rivals, runs
from tests.bench.monitor.figures import FOLDER, Median
from tests.bench.monitor.labels import watch_delay
from tests.unit.monitor.worlds import EPOCH, policy

Stream: TypeAlias = Iterator[tuple[dict[str, Any], Any]]

TRAINED: Final = 5_000
HELD_OUT: Final = 1_000
QUIET: Final = 12_000
AFTER: Final = 10_000
OURS: Final = "Irisloop"
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
    HARMLESS: (_sea(0), _sea(2)),
}


def measure(names: Sequence[str], seeds: int, processes: int) -> list[dict[str, Any]]:
    """Of each stream: labels until each hears the change, how often before it, and what the change did to the error.
    The others' runs do not depend on our code, and are kept for good.
    """
    each = [(name, seed) for name in names for seed in range(seeds)]
    peers = runs.gather(
        "concepts-others", f"river-{version('river')}", {f"{n} {s}": (others, (n, s)) for n, s in each}, processes
    )
    mine = runs.gather("concepts", runs.judge(), {f"{n} {s}": (ours, (n, s)) for n, s in each}, processes)
    return [_row(name, [{**peers[f"{name} {s}"], **mine[f"{name} {s}"]} for s in range(seeds)]) for name in names]


def _row(name: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    who = [OURS, *(rival.name for rival in _RIVALS)]
    return {
        "stream": name,
        "error": [round(sum(one["error"][i] for one in found) / len(found), 3) for i in (0, 1)],
        "delays": {one: [run[one][1] for run in found] for one in who},
        "false": {one: sum(run[one][0] for run in found) for one in who},
        "labels_without_change": QUIET * len(found),
    }


def others(name: str, seed: int) -> dict[str, Any]:
    """River's detectors on one run: false alarms and labels until the change is heard, by name; the error before and
    after.
    """
    wrong = [float(p != t) for p, t in labels(name, seed)[1]]
    row: dict[str, Any] = {"error": (sum(wrong[:QUIET]) / QUIET, sum(wrong[QUIET:]) / AFTER)}
    for rival in _RIVALS:
        early = rivals.alarms(rival.make(rival.default), wrong[:QUIET])
        row[rival.name] = (early, rivals.delay(rival.make(rival.default), wrong, QUIET))
    return row


def ours(name: str, seed: int) -> dict[str, Any]:
    """The monitor's watch over labels on the same run."""
    report, pairs = labels(name, seed)
    found = watch_delay(LabelWatch(report), pairs, QUIET, policy().labels)
    return {OURS: (sum(n < 0 for n in found), next((n + 1 for n in found if n >= 0), None))}


def fastest(row: Mapping[str, Any]) -> tuple[str, Median]:
    """Who of the others has the lowest median, and the labels that ours took more than it, run by run: a change that
    was not heard counts as heard at the end.
    """
    late = {who: [AFTER if d is None else d for d in delays] for who, delays in row["delays"].items()}
    who = min((name for name in late if name != OURS), key=lambda name: sorted(late[name])[len(late[name]) // 2])
    return who, Median.of([mine - other for mine, other in zip(late[OURS], late[who], strict=True)])


def labels(name: str, seed: int) -> tuple[Count, list[tuple[str, str]]]:
    """The report on held-out examples (worth 600 labels at most, as in the engine), and (predicted, true) after it."""
    quiet = answers(name, seed)
    held = Count.of(p != t for p, t in quiet[:HELD_OUT])
    weight = min(float(policy().labels.report_weight), held.labels)
    return Count(held.error * weight, weight), quiet[HELD_OUT:]


def answers(name: str, seed: int) -> list[tuple[str, str]]:
    """(predicted, true) of a frozen tree, before and after the change; kept, as the tree takes its time."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in name)
    place = f"{plain}-{seed}-{TRAINED}-{HELD_OUT}-{QUIET}-{AFTER}-river-{version('river')}.json.gz"
    file = FOLDER / "runs" / "streams" / place
    if file.exists():
        return [(p, t) for p, t in json.loads(gzip.decompress(file.read_bytes()))]
    found = _answers(name, seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(json.dumps(found).encode(), 1, mtime=0))
    return found


def _answers(name: str, seed: int) -> list[tuple[str, str]]:
    before, after = STREAMS[name]
    model: Any = tree.HoeffdingTreeClassifier()
    for x, y in islice(before(3 * seed), TRAINED):
        model.learn_one(x, y)

    def said(stream: Stream, count: int) -> list[tuple[str, str]]:
        return [(f"class-{model.predict_one(x)}", f"class-{y}") for x, y in islice(stream, count)]

    return said(before(3 * seed + 1), HELD_OUT + QUIET) + said(after(3 * seed + 2), AFTER)


def harmless(seeds: int, processes: int) -> dict[str, Any]:
    """The harmless stream through the whole engine: in how many seeds the change is heard, harm is CONFIRMED, a
    retraining asked for; and the same before it.
    """
    row: dict[str, Any] = {"seeds": seeds, "heard": 0, "confirmed": 0, "asked": 0, "before": {}}
    pieces = {f"{seed}": (_judged_of, (seed,)) for seed in range(seeds)}
    for found in runs.gather("harmless", runs.judge(), pieces, processes).values():
        for what, numbers in found.items():
            row[what] += any(n >= QUIET for n in numbers)
            row["before"][what] = row["before"].get(what, 0) + sum(n < QUIET for n in numbers)
    return row


def _judged_of(seed: int) -> dict[str, list[int]]:
    return judged(*labels(HARMLESS, seed))


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
