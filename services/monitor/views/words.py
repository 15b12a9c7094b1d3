"""How numbers, times and findings are written, the same on the page, in a picture and in a sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from enum import IntEnum

from services.monitor.domain.events import CameraFault, Cause, Evidence, Harm, Incident, Outlook, Shape
from services.monitor.domain.fleet.absence import FLOODING, SILENT
from services.monitor.domain.probe_events import ProbeVerdict

CAUSES = {
    Cause.UNKNOWN: "not known yet",
    Cause.CAMERA: "a camera: a few cameras' pictures changed while the others stand still",
    Cause.SCENE: "the scene: what the cameras see looks different",
    Cause.LABELS: "the labels: people answer differently while the pictures stand still",
}
HARMS = {
    Harm.NONE: "none: labels show that the model is not wrong more often",
    Harm.UNKNOWN: "unknown: labels do not decide yet",
    Harm.CROSSED: "crossed: labels show that the model is wrong more often",
}
OUTLOOKS = {
    Outlook.UNKNOWN: "unknown whether training helps",
    Outlook.RECOVERABLE: "recoverable by training",
    Outlook.NOT_RECOVERABLE: "not recoverable by training; no second retraining is asked for in this condition",
}
SHAPES = {
    Shape.UNKNOWN: "not known yet",
    Shape.SUDDEN: "sudden: one step",
    Shape.GRADUAL: "gradual: old and new condition mixed, ever more of the new",
    Shape.INCREMENTAL: "incremental: a slow move from one to the other",
    Shape.RECURRING: "recurring: a condition seen before",
}


PROBES = {
    ProbeVerdict.ASKED: "asked: people are given old assets again, unmarked",
    ProbeVerdict.MOVED: "moved: people answer old assets otherwise now, so the classes mean something else",
    ProbeVerdict.STANDS: "stands: people answer old assets as before, so it is the inputs or one annotator",
    ProbeVerdict.UNDECIDED: "undecided: the labels of new frames decide alone",
}


def moment(at: float) -> str:
    """UTC, to the second; "unknown" for 0."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "unknown"


def length(seconds: float) -> str:
    """A duration in its two largest units."""
    units = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
    left, parts = round(seconds), []
    for size, name in units:
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
    return " ".join(parts[:2]) or "0 s"


def number(value: float) -> str:
    """Three significant digits."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def percent(share: float) -> str:
    """One decimal."""
    return f"{100 * share:.1f} %"


def name_of(member: IntEnum) -> str:
    """A member of an enumeration as one word in lower case."""
    return member.name.lower()


def moved(one: Evidence) -> str:
    """How far a channel moved, as a sentence."""
    where = f" on {one.camera_id}" if one.camera_id else ""
    return (
        f"{one.channel}{where}: {number(one.reference_mean)} -> {number(one.current_mean)}, "
        f"{one.shift_sigma:+.2f} sigma of the reference; {one.detector} at {number(one.statistic)}, "
        f"threshold {number(one.threshold)}"
    )


def broken(faults: Sequence[CameraFault]) -> Iterator[str]:
    """What is wrong with cameras, and since when: a line a kind."""
    for kind in dict.fromkeys(fault.kind for fault in faults):
        since = min(fault.since for fault in faults if fault.kind == kind)
        names = [fault.camera_id for fault in faults if fault.kind == kind]
        yield f"{kind} on {listed(names)} since {moment(since)}"


def is_presence(incident: Incident) -> bool:
    """Whether it is about how much cameras send, and not about what."""
    return bool(incident.faults) and all(fault.kind in (SILENT, FLOODING) for fault in incident.faults)


def listed(names: tuple[str, ...] | list[str], most: int = 6) -> str:
    """Names in a row; of many only the first."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def headline(incident: Incident) -> str:
    """What happened, in one line."""
    if is_presence(incident):
        return f"{incident.scope}: {incident.faults[0].kind}"
    if incident.cause is Cause.LABELS:
        what = (
            f"people answer differently on {listed(incident.class_names)}" if incident.class_names else "labels changed"
        )
    else:
        what = f"the picture of {listed(incident.cameras)} changed" if incident.cameras else "inputs changed"
    return f"{what}; harm {name_of(incident.harm)}, {name_of(incident.shape)}"
