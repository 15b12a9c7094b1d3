"""Whether a class means something else than it did: old answers are given again by people who do not know that they
are, and what changed is held against how often people answer otherwise anyway.

- *Moved*. Null: answers about suspected classes change no more often than `usual`, or no more often than those about
  other classes do in the same probe. It has to be refuted also without the answers of any one annotator, so one who
  answers otherwise than all others is never taken for the concept. Without other classes to compare with, `usual`
  speaks alone, and only when all answers are in. What only one person answered moves nothing while there are others.
- *Stands*. Null: at least half of the answers about suspected classes change, as they do when classes change places.
- *Somebody answers otherwise*. Null: an annotator's answers change no more often than `usual`, or than the others'
  answers do, about the suspected classes and about the others. The i-th annotator who answers is tested at
  error_rate / (i (i + 1)), which over all of them adds up to error_rate.

The first two are looked at after every answer at half of the error rate, by evidence that allows it, and once at the
end at the other half, by exact tests: each word is wrong with probability at most `error_rate`.

Assumed: who answers which asset depends on neither its class nor its answer, and answers are given independently.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from math import log

from services.monitor.domain.probe_events import ProbeEnded, ProbeVerdict, ProbeWord, Reread
from services.monitor.domain.probe_evidence import (
    Changes,
    chance_of_less,
    chance_of_more,
    deviates,
    exceeds,
    exceeds_usual,
    stands,
)


@dataclass(slots=True)
class Probe:
    """One that is held, or was: `answers` by asset, in the order in which they were first given; `heard` counts the
    events about it, `judged` how many had been heard at the last look, `told_at` when it had told.
    """

    id: str
    asked_at: float
    until: float
    assets: int
    class_names: tuple[str, ...]
    answers: dict[str, Reread] = field(default_factory=dict)
    ended: ProbeEnded | None = None
    verdict: ProbeVerdict = ProbeVerdict.ASKED
    annotator: str = ""
    why: str = ""
    heard: int = 0
    judged: int = 0
    told_at: float = 0.0

    def hear(self, item: Reread | ProbeEnded) -> None:
        """Take an answer, or the end; what is known already changes nothing."""
        self.heard += 1
        if isinstance(item, ProbeEnded):
            self.ended = item
            return
        known = self.answers.get(item.asset_id)
        if known is None or known.revision < item.revision:
            self.answers[item.asset_id] = item

    def is_complete(self, now: float) -> bool:
        """Whether no more answers are waited for."""
        told = self.ended is not None and len(self.answers) >= self.ended.answered
        return told or now >= self.until

    def word(self) -> ProbeWord:
        """As it stands, for others."""
        kept = _without(self.annotator, self.answers.values())
        about, others = _counts(kept, self.class_names)
        return ProbeWord(
            self.id, self.verdict, about.total, about.changed, others.total, others.changed, self.annotator, self.why,
            self.asked_at, self.until,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reading:
    """What the answers say by now. Without a verdict it is ASKED. The counts are without the answers of `annotator`,
    who answers otherwise than everybody else; empty when nobody does. `standing` are suspected classes whose own
    answers are known to stand.
    """

    verdict: ProbeVerdict
    suspected: Changes
    others: Changes
    annotator: str = ""
    standing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What is held against what: the classes that are suspected, how often two answers to one asset differ at most
    while classes mean what they meant (in (0, 0.5)), how often each word may be wrong, and whether no more answers
    come.
    """

    suspected: Collection[str]
    usual: float
    error_rate: float
    complete: bool
    alone: bool = True
    """Whether there is but one annotator: then there is nobody to tell the concept from."""

    def is_more(self, about: Changes, others: Changes) -> bool:
        """Whether `about` change more often than usual and than `others`."""
        if not others.total and not self.complete:
            return False  # Some to compare with may come.
        evidence = exceeds(about, others, self.usual) if others.total else exceeds_usual(about, self.usual)
        half = self.error_rate / 2.0
        return evidence >= -log(half) or (self.complete and chance_of_more(about, others, self.usual) <= half)

    def is_less(self, about: Changes) -> bool:
        """Whether less than half of them change."""
        half = self.error_rate / 2.0
        return stands(about, self.usual) >= -log(half) or (self.complete and chance_of_less(about) <= half)

    def counts(self, answers: Iterable[Reread]) -> tuple[Changes, Changes]:
        """Of the suspected classes, and of the others."""
        return _counts(answers, self.suspected)


def read(answers: Sequence[Reread], rules: Rules) -> Reading:
    """What `answers`, in the order in which they were given, say of the suspected classes."""
    odd = _odd(answers, rules)
    kept = _without(odd, answers)
    about, others = rules.counts(kept)
    verdict = ProbeVerdict.ASKED
    if _has_moved(kept, rules):
        verdict = ProbeVerdict.MOVED
    elif rules.is_less(about):
        verdict = ProbeVerdict.STANDS
    own = {name: Changes.of(a.changed for a in kept if a.class_before == name) for name in sorted(rules.suspected)}
    return Reading(verdict, about, others, odd, tuple(name for name in own if rules.is_less(own[name])))


def _has_moved(answers: Sequence[Reread], rules: Rules) -> bool:
    people = {answer.annotator_now for answer in answers}
    if len(people) < 2:  # More may answer, and say otherwise.
        return rules.complete and rules.alone and rules.is_more(*rules.counts(answers))
    return all(rules.is_more(*rules.counts(a for a in answers if a.annotator_now != name)) for name in people)


def _odd(answers: Sequence[Reread], rules: Rules) -> str:
    """Who surely answers otherwise than everybody else; empty when nobody does."""
    found = []
    for place, name in enumerate(dict.fromkeys(answer.annotator_now for answer in answers), start=1):
        own = rules.counts(a for a in answers if a.annotator_now == name)
        rest = rules.counts(a for a in answers if a.annotator_now != name)
        evidence = deviates(own, rest, rules.usual)
        if name and evidence >= log(place * (place + 1)) - log(rules.error_rate):
            found.append((evidence, name))
    return max(found)[1] if found else ""


def _without(annotator: str, answers: Iterable[Reread]) -> list[Reread]:
    """All of them when nobody is named."""
    return [answer for answer in answers if not annotator or answer.annotator_now != annotator]


def _counts(answers: Iterable[Reread], suspected: Collection[str]) -> tuple[Changes, Changes]:
    listed = list(answers)
    about = Changes.of(a.changed for a in listed if a.class_before in suspected)
    return about, Changes.of(a.changed for a in listed if a.class_before not in suspected)
