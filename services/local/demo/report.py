"""What the demo found, as one document; and what it should have found."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from irisloop.monitor.v1 import monitor_pb2

from services.local.demo.chaos import Kill
from services.local.demo.client import Calls
from services.local.demo.journal import CHAMPION, SHADOW, Journal, utc
from services.local.demo.producer import Sent
from services.local.demo.scenario import Family, Scenario
from services.local.demo.statistics import Share

HEALTHY_FRAMES = 1_500
"""At least so many frames stand behind each accuracy."""
RECOVERED = {Family.FOG: 0.95, Family.NOISE: 0.92, Family.RELABEL: 0.95}


@dataclass(slots=True)
class Facts:
    """Everything measured; the director fills it in as the run goes on."""

    scenario: Scenario
    seed: int
    data: dict[str, Any]
    kafka: dict[str, Any]
    journal: Journal
    sent: Sent
    calls: Calls
    kills: list[Kill] = field(default_factory=list)
    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    accepted: int = 0
    rejected: int = 0
    runs_after_onset: int = 0
    versions: int = 0
    champion: str = ""
    labels_used: int = 0
    onset_at: datetime | None = None
    in_datasets: set[int] = field(default_factory=set)
    evaluation: tuple[int, int] = (0, 0)
    plot: str = ""

    @property
    def frames_again(self) -> int:
        """Records that the broker holds under a ce_id it had before."""
        return self.sent.again


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Live accuracy; recovered is of no frames when nothing was retrained."""

    healthy: Share
    drifted: Share
    recovered: Share


def accuracy(facts: Facts) -> Accuracy:
    """Healthy by the champion before onset; drifted and recovered on the same changed frames, in no dataset version."""
    journal, first, last = facts.journal, *facts.evaluation
    onset = facts.scenario.onset
    healthy = [number for number in journal.truth.label if number < onset]
    full = [number for number in range(first, last) if number in journal.truth.changed]
    full = [number for number in full if number not in facts.in_datasets]
    retrained = bool(journal.answers[SHADOW])
    drifted = journal.right(SHADOW if retrained else CHAMPION, full)
    recovered = journal.right(CHAMPION, full) if retrained else (0, 0)
    return Accuracy(Share(*journal.right(CHAMPION, healthy)), Share(*drifted), Share(*recovered))


def expected_predictions(facts: Facts) -> int:
    """One by the champion for each accepted live frame, one by the shadow for each frame of the evaluation."""
    first, last = facts.evaluation
    shadows = last - first if facts.journal.answers[SHADOW] else 0
    return len(facts.journal.truth.label) + shadows


def counted_predictions(facts: Facts) -> tuple[int, int]:
    """(unique, repeated): repeated over everything read, unique over what is expected."""
    predictions, truth = facts.journal.predictions, facts.journal.truth
    repeated = sum(predictions.values()) - len(predictions)
    first, last = facts.evaluation
    champions = sum(role == CHAMPION for role, _ in predictions)
    shadows = sum(first <= number < last for number in facts.journal.answers[SHADOW])
    return min(champions, len(truth.label)) + shadows, repeated


def drift(facts: Facts) -> dict[str, Any]:
    """The incident after onset in the monitor's last words, and the alarms that were false."""
    journal, onset = facts.journal, facts.onset_at
    false = {i.id for i in journal.confirmed() if onset is None or utc(i.detected_at) < onset}
    after = [i for i in journal.drifts if onset is not None and utc(i.detected_at) >= onset]
    last = journal.incidents[after[0].id] if after else monitor_pb2.Incident()
    frame = frame_at(facts, utc(after[0].detected_at)) if after else 0
    return {
        "onset_frame": facts.scenario.onset if facts.scenario.cameras else 0,
        "detected_frame": frame,
        "cause": _word(monitor_pb2.DriftCause.Name(last.cause)),
        "harm": _word(monitor_pb2.DriftHarm.Name(last.harm)),
        "shape": _word(monitor_pb2.DriftShape.Name(last.shape)),
        "false_alarms": len(false),
    }


def frame_at(facts: Facts, at: datetime) -> int:
    """How many frames had been captured at that time."""
    return sum(captured <= at for captured in facts.journal.truth.captured_at.values())


def document(facts: Facts) -> dict[str, Any]:
    """The report of `--report FILE`."""
    found = accuracy(facts)
    unique, repeated = counted_predictions(facts)
    shares = {"healthy": found.healthy, "drifted": found.drifted, "recovered": found.recovered}
    return {
        "data": facts.data,
        "kafka": facts.kafka,
        "scenario": facts.scenario.family.value,
        "seed": facts.seed,
        "services": facts.services,
        "kills": [asdict(kill) for kill in facts.kills],
        "frames": {
            "sent": facts.sent.total,
            "accepted": facts.accepted,
            "rejected": facts.rejected,
            "redelivered": facts.frames_again,
        },
        "predictions": {"expected": expected_predictions(facts), "unique": unique, "repeated": repeated},
        "client": {
            "calls": facts.calls.calls,
            "failures": facts.calls.failures,
            "failures_while_down": facts.calls.excused,
            "swaps": [asdict(swap) for swap in facts.calls.swaps],
        },
        "accuracy": {
            **{name: round(share.value, 4) for name, share in shares.items()},
            "interval": {name: [round(share.low, 4), round(share.high, 4)] for name, share in shares.items()},
            "frames": {name: share.count for name, share in shares.items()},
        },
        "drift": drift(facts),
        "retrain": {
            "requests": len(facts.journal.requests),
            "runs_after_onset": facts.runs_after_onset,
            "versions": facts.versions,
            "champion": facts.champion,
            "labels_used": facts.labels_used,
        },
        "seconds": {name: round(value, 1) for name, value in facts.seconds.items()},
        "plot": facts.plot,
    }


def broken_promises(facts: Facts) -> list[str]:
    """What the run did not keep, in words; empty when all is well."""
    report = document(facts)
    broken = _counts(report) + _calls(facts)
    if facts.scenario.mendable:
        return broken + _mended(facts, report)
    return broken + _left_alone(facts, report)


def _counts(report: dict[str, Any]) -> list[str]:
    frames, predictions = report["frames"], report["predictions"]
    arrived = frames["accepted"] + frames["rejected"] + frames["redelivered"]
    checks = {
        f"sent {frames['sent']}, but accepted + rejected + redelivered = {arrived}": frames["sent"] == arrived,
        f"{predictions['repeated']} predictions came twice": predictions["repeated"] == 0,
        f"{predictions['unique']} predictions of {predictions['expected']} expected": (
            predictions["unique"] == predictions["expected"]
        ),
        f"{report['drift']['false_alarms']} false alarms before onset": report["drift"]["false_alarms"] == 0,
    }
    return [words for words, kept in checks.items() if not kept]


def _calls(facts: Facts) -> list[str]:
    failures = facts.calls.failures - facts.calls.excused
    one_sided = [swap for swap in facts.calls.swaps if not (swap.calls_before and swap.calls_after)]
    broken = [f"{failures} client calls failed: {facts.calls.errors[-1:]}"] if failures else []
    return broken + ([f"{len(one_sided)} swaps without calls on both sides"] if one_sided else [])


def _mended(facts: Facts, report: dict[str, Any]) -> list[str]:
    found, retrain = accuracy(facts), report["retrain"]
    healthy, drifted, recovered = found.healthy.value, found.drifted.value, found.recovered.value
    wanted = RECOVERED[facts.scenario.family] * healthy
    checks = {
        f"healthy accuracy {found.healthy}, expected at least .85": healthy >= 0.85,
        f"drifted accuracy {found.drifted}, expected healthy - .40 to healthy - .10": (
            healthy - 0.40 <= drifted <= healthy - 0.10
        ),
        f"recovered accuracy {found.recovered}, expected at least {wanted:.3f}": recovered >= wanted,
        f"{retrain['requests']} retrain requests, expected 1": retrain["requests"] == 1,
        f"{retrain['runs_after_onset']} runs after onset, expected 1": retrain["runs_after_onset"] == 1,
        "fewer than 1,500 frames behind an accuracy": (
            min(found.healthy.count, found.drifted.count, found.recovered.count) >= HEALTHY_FRAMES
        ),
    }
    return [words for words, kept in checks.items() if not kept]


def _left_alone(facts: Facts, report: dict[str, Any]) -> list[str]:
    pages = [alert for alert in facts.journal.alerts if alert.severity == "page"]
    checks = {
        f"{report['retrain']['requests']} retrain requests, expected none": report["retrain"]["requests"] == 0,
        f"{len(pages)} pages, expected none": not pages,
        f"{len(facts.journal.champions())} moves of the champion, expected 1": len(facts.journal.champions()) == 1,
    }
    return [words for words, kept in checks.items() if not kept]


def _word(name: str) -> str:
    word = name.split("_")[-1].lower()
    return "" if word == "unspecified" else word
