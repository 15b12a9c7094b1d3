"""Labeling as far as a probe needs it: it remembers who answered what, and has old assets answered again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.monitor.domain.inputs import Labelled
from services.monitor.domain.probe_events import ProbeEnded, ProbeRequest, Reread


@dataclass
class OldAnswers:
    """`read` says what an annotator calls an old asset now; `delay` seconds after it was asked for, all is answered by
    `annotators` in turn.
    """

    read: Callable[[Labelled, str], str]
    annotators: Sequence[str] = ("",)
    delay: float = 5.0
    given: dict[str, Labelled] = field(default_factory=dict)
    waiting: list[Reread | ProbeEnded] = field(default_factory=list)

    def note(self, label: Labelled) -> None:
        """A label was given."""
        self.given[label.asset_id] = label

    def ask(self, request: ProbeRequest) -> None:
        """Answer again: three fifths of the suspected classes, the newest old ones first."""
        old = [
            one
            for one in sorted(self.given.values(), key=lambda one: -one.captured_at)
            if one.captured_at < request.answered_before and one.at < request.answered_before
            if not request.cameras or one.camera_id in request.cameras
        ]
        others = [one for one in old if one.class_name not in request.class_names][: request.assets * 2 // 5]
        about = [one for one in old if one.class_name in request.class_names][: request.assets - len(others)]
        at = request.at + self.delay
        drawn = [*about, *others] if about else []
        for number, one in enumerate(drawn):
            who = self.annotators[number % len(self.annotators)]
            key, now = f"again-{request.id}-{one.asset_id}", self.read(one, who)
            self.waiting.append(
                Reread(
                    at + number / 1000, key, "", request.model, request.id, one.asset_id, one.class_name, now,
                    one.annotator, who, 0.1,
                )
            )  # fmt: skip
        reason = "answered" if drawn else "no_assets"
        end = ProbeEnded(at + 1.0, f"end-{request.id}", "", request.model, request.id, reason, len(drawn), len(drawn))
        self.waiting.append(end)

    def due(self, now: float) -> list[Reread | ProbeEnded]:
        """What has come by now."""
        ready = [one for one in self.waiting if one.at <= now]
        self.waiting = [one for one in self.waiting if one.at > now]
        return ready
