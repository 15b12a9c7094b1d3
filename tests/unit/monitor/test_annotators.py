"""One annotator who errs: named when it is sure and never on weak evidence, and their labels leave no trace."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from services.monitor.domain import conduct
from services.monitor.domain.camera import CameraWatch
from services.monitor.domain.events import Alert, DriftFound, Finding, Incident, Request
from services.monitor.domain.fleet.board import Board
from services.monitor.domain.inputs import DRIFT, UNIFORM, Labelled, PredictionOf, VersionKnown
from services.monitor.domain.model import ModelWatch
from tests.unit.monitor.worlds import policy

DAY = 86_400.0
BEGIN = 1e9
GAP = 150.0
ERROR = 0.1
CLASSES = 10
DELAY = 3 * 3600.0


@dataclass
class Answers:
    """Labels of twenty still cameras by five people: one each 450 seconds, three while an incident is open. From the
    fifth day on `annotator-2` answers wrongly in `wrong`, and the model errs in `error`.
    """

    seed: int
    wrong: float = 0.0
    error: float = ERROR
    days: float = 11.0
    watch: ModelWatch = field(default_factory=lambda: ModelWatch("m", successor="1"))
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> Answers:
        rules, board, rng = policy(), Board(), np.random.default_rng(self.seed)
        self.watch.know(VersionKnown(0.0, "r", "", "m", "1", "", "accepted", ERROR, 2000), rules)
        self.watch.adopt(rules)
        self.watch.cameras.update({f"c{i}": CameraWatch(f"c{i}") for i in range(20)})
        for number in range(1, int(self.days * DAY / GAP)):
            if number % 3 and not self.watch.cases:
                continue
            at = BEGIN + GAP * number
            self.watch.label(self._label(rng, number, at), rules)
            self.watch.looks += 1
            self.findings += conduct.tick(self.watch, board, at + DELAY, rules)
        return self

    def _label(self, rng: np.random.Generator, number: int, at: float) -> Labelled:
        late = at >= BEGIN + 5 * DAY
        truth = int(rng.integers(CLASSES))
        right = rng.random() >= (self.error if late else ERROR)
        predicted = truth if right else (truth + 1 + int(rng.integers(CLASSES - 1))) % CLASSES
        who = int(rng.integers(5))
        errs = late and who == 2 and rng.random() < self.wrong
        said = (truth + int(rng.integers(1, CLASSES))) % CLASSES if errs else truth
        prediction = PredictionOf("m", "1", "champion", f"class-{predicted}", 0.9)
        return Labelled(
            at + DELAY, f"l{number}", "", f"a{number}", f"c{int(rng.integers(20))}", at, 1, f"class-{said}",
            DRIFT if number % 3 else UNIFORM, 0.1, (prediction,), f"annotator-{who}",
        )  # fmt: skip

    def incidents(self) -> list[Incident]:
        """The newest word about each."""
        return list({f.incident.id: f.incident for f in self.findings if isinstance(f, DriftFound)}.values())


def test_weak_evidence_closes_nothing_and_is_heard_out_until_it_is_sure() -> None:
    """Before, this incident was closed as harmless, with a name on it that was never sure, and their labels counted."""
    world = Answers(0, wrong=0.3, days=15).run()
    (incident,) = world.incidents()
    assert str(incident.scope) == "annotator annotator-2"
    assert list(world.watch.doubted) == ["annotator-2"]
    assert [h.what for h in incident.history] == [
        "opened", "told (ticket)", "annotator doubted", "told (ticket)", "closed",
    ]  # fmt: skip


def test_what_speaks_against_somebody_does_not_begin_anew_with_the_next_incident() -> None:
    """Before, the second was closed like the first, and nobody was ever doubted."""
    world = Answers(7, wrong=0.2).run()
    first, second = world.incidents()
    assert (str(first.scope), str(second.scope)) == ("model", "annotator annotator-2")
    assert list(world.watch.doubted) == ["annotator-2"]
    assert not world.watch.cases


@pytest.mark.parametrize("seed", [2, 4, 7])
def test_labels_of_who_is_doubted_do_not_enter_what_the_error_is_held_against(seed: int) -> None:
    world = Answers(seed, wrong=0.3).run()
    assert list(world.watch.doubted) == ["annotator-2"]
    assert world.watch.labels.baseline().error < ERROR + 0.008
    assert not [f for f in world.findings if isinstance(f, Request) or (isinstance(f, Alert) and f.severity == "page")]


@pytest.mark.parametrize("seed", range(2))
def test_nobody_is_named_when_the_model_errs_for_all_alike(seed: int) -> None:
    world = Answers(seed, error=0.3, days=6.5).run()
    assert world.incidents()
    assert not world.watch.doubted
    assert not [
        i for i in world.incidents() if i.scope.kind == "annotator" or any("doubt" in h.what for h in i.history)
    ]
