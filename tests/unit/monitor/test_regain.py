"""What a retraining regains, as a probe of labels estimates it and as a run shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.monitor.domain.channels import WIDTH
from services.monitor.domain.condition import Condition
from services.monitor.domain.events import Outlook
from services.monitor.domain.inputs import UNIFORM, Tried
from services.monitor.domain.labels import Joined
from services.monitor.domain.regain import LEAST, MOST, of_run, probe, together
from services.monitor.domain.risk import Count

HEALTHY = Count(40.0, 400.0)
CLASSES = 5


def labels(count: int, *, telling: float, seed: int = 1, alike: int = 1, wrong: float = 0.5) -> list[Joined]:
    """The frozen model answers at random in `wrong` of all; the features say the class as clearly as `telling`; runs of
    `alike` labels are of the same frame.
    """
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(CLASSES, WIDTH))
    found: list[Joined] = []
    for n in range(count):
        if n % alike == 0:
            truth = int(rng.integers(CLASSES))
            features = telling * means[truth] + rng.normal(size=WIDTH)
            said = int(rng.integers(CLASSES)) if rng.random() < wrong else truth
        found.append(
            Joined(
                f"a{n}", "c", float(n), float(n), 1, "1", f"k{said}", f"k{truth}", UNIFORM, n, "",
                features=tuple(features.tolist()),
            )
        )  # fmt: skip
    return found


def test_what_the_features_tell_can_be_regained() -> None:
    found = probe(labels(400, telling=0.7), HEALTHY, 0.5)
    assert found is not None and (found.outlook, found.labels, found.by) == (Outlook.RECOVERABLE, 400, "probe")
    assert 0.5 <= found.low < found.share <= found.high <= 1.0


def test_what_they_do_not_tell_is_not_known_to_be_lost() -> None:
    found = probe(labels(400, telling=0.0), HEALTHY, 0.5)
    assert found is not None and found.outlook is Outlook.UNKNOWN
    assert found.share < 0.2 and found.low == 0.0


def test_classes_that_changed_names_are_regained_from_answers_alone() -> None:
    swapped = {"k0": "k1", "k1": "k0"}
    told = [
        Joined(f"a{n}", "c", float(n), float(n), 1, "1", f"k{n % 4}", swapped.get(f"k{n % 4}", f"k{n % 4}"), UNIFORM)
        for n in range(200)
    ]
    found = probe(told, HEALTHY, 0.5)
    assert found is not None and (found.outlook, found.share) == (Outlook.RECOVERABLE, 1.0)


def test_frames_that_resemble_their_neighbours_do_not_answer_for_them() -> None:
    """Forty labels of one frame in a row: it stands on both sides of at most one cut."""
    found = probe(labels(400, telling=0.0, alike=40, seed=3), HEALTHY, 0.5)
    assert found is not None and found.share < 0.2 and found.outlook is Outlook.UNKNOWN


def test_few_labels_and_no_loss_say_nothing() -> None:
    assert probe(labels(LEAST - 1, telling=1.5), HEALTHY, 0.5) is None
    assert probe(labels(LEAST, telling=1.5), HEALTHY, 0.5) is not None
    assert probe(labels(400, telling=1.5, wrong=0.05), Count(100.0, 400.0), 0.5) is None


def test_of_a_detectors_losses_it_says_nothing() -> None:
    found = labels(400, telling=0.7)
    assert probe([*found[:-1], replace(found[-1], loss=0.5)], HEALTHY, 0.5) is None
    assert probe([replace(label, loss=float(label.wrong)) for label in found], HEALTHY, 0.5) is None


def test_the_newest_are_probed_and_the_same_labels_say_the_same() -> None:
    many = labels(2 * MOST, telling=1.0)
    found = probe(many, HEALTHY, 0.5)
    assert found is not None and found.labels == MOST
    assert found == probe(many[-MOST:], HEALTHY, 0.5)


@pytest.mark.parametrize(
    ("error", "share", "outlook"),
    [
        (0.10, 1.0, Outlook.RECOVERABLE),
        (0.19, 0.55, Outlook.RECOVERABLE),
        (0.21, 0.45, Outlook.NOT_RECOVERABLE),
        (0.35, 0.0, Outlook.NOT_RECOVERABLE),
    ],
)
def test_a_run_tells_what_was_regained(error: float, share: float, outlook: Outlook) -> None:
    found = of_run(Tried(error, 0.30, 200), 0.10, 0.5)
    assert found is not None and (found.outlook, found.by, found.labels) == (outlook, "run", 200)
    assert found.share == pytest.approx(share) and 0.0 <= found.low <= found.share <= found.high <= 1.0


def test_on_few_held_out_assets_a_run_says_only_what_is_sure_and_two_runs_say_more() -> None:
    unsure = of_run(Tried(0.22, 0.30, 75), 0.10, 0.5)
    assert unsure is not None and unsure.outlook is Outlook.UNKNOWN and unsure.share < 0.5 < unsure.high
    sure = of_run(Tried(0.60, 0.60, 75), 0.10, 0.5)
    assert sure is not None and sure.outlook is Outlook.NOT_RECOVERABLE and sure.high < 0.5
    both = together([Tried(0.22, 0.30, 75), Tried(0.28, 0.30, 25)])
    assert (both.error, both.champion_error) == pytest.approx((0.235, 0.3)) and both.assets == 100
    pooled = of_run(both, 0.10, 0.5)
    assert pooled is not None and pooled.outlook is Outlook.NOT_RECOVERABLE


def test_a_run_says_nothing_on_few_assets_or_without_a_loss() -> None:
    assert of_run(Tried(0.2, 0.3, 29), 0.1, 0.5) is None
    assert of_run(Tried(0.05, 0.1, 200), 0.1, 0.5) is None


def test_the_interval_of_a_run_covers_what_many_held_out_assets_would_say() -> None:
    rng, hits = np.random.default_rng(5), 0
    for _ in range(500):
        champion, new = rng.binomial(150, 0.4) / 150, rng.binomial(150, 0.25) / 150
        found = of_run(Tried(new, champion, 150), 0.1, 0.5)
        hits += found is not None and found.low <= 0.5 <= found.high
    assert hits >= 0.88 * 500


def test_a_condition_holds_within_noise_and_tolerance_only() -> None:
    blurred = Condition("2", (), {"pixels.sharpness": -3.0, "margin": -1.0}, 0.1)
    assert blurred.holds(Condition("2", (), {"pixels.sharpness": -3.3, "margin": -0.9}, 0.1), 0.2)
    assert not blurred.holds(Condition("2", (), {"pixels.sharpness": -5.0, "margin": -1.0}, 0.1), 0.2)
    assert not blurred.holds(Condition("2", (), {"pixels.brightness": -3.0, "margin": -1.0}, 0.1), 0.2)
    assert not blurred.holds(Condition("3", (), blurred.shift, 0.1), 0.2)
    swapped = Condition("2", ("bolt", "nut"), {}, 0.0)
    assert swapped.holds(Condition("2", ("bolt", "nut"), {}, 0.0), 0.2)
    assert not swapped.holds(Condition("2", ("bolt", "pin"), {}, 0.0), 0.2)
