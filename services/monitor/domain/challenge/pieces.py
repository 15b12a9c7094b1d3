"""A trial cut into pieces of the snapshot, so that the pairs of a long rollout are not written again at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

from services.monitor.domain.challenge.pairs import Pair
from services.monitor.domain.challenge.trial import Trial
from services.monitor.domain.snapshot import load

_PAIRS: Final = 256


def cut(trial: Trial | None) -> Iterator[tuple[str, Any, Callable[[], Any]]]:
    """(suffix of the key, stamp that changes with the content, content)."""
    if trial is None:
        yield "", None, lambda: None
        return
    rollout, book = trial.rollout.id, trial.book
    bare = replace(trial, book=replace(book, entries={}))
    yield "", (rollout, trial.changes), lambda: [bare, book.floor()]
    slots: dict[int, list[Pair]] = {n: [] for n in range(book.floor() // _PAIRS, -(-book.count // _PAIRS))}
    for pair in book.entries.values():
        slots[pair.number // _PAIRS].append(pair)
    for slot, pairs in slots.items():
        stamp = (rollout, slot, len(pairs), sum(map(_progress, pairs)))
        yield f"/{slot % _ring(trial)}", stamp, partial(list, (rollout, pairs))


def _progress(pair: Pair) -> int:
    """Grows with everything that happens to a pair."""
    answers = (pair.champion is not None) + (pair.challenger is not None)
    return answers + pair.offered + bool(pair.truth) + pair.labelled


def _ring(trial: Trial) -> int:
    return trial.book.capacity // _PAIRS + 2


def join(key: str, pieces: Mapping[str, bytes]) -> Trial | None:
    """The trial that was cut, from the newest piece of each key; pairs of an earlier rollout are left out."""
    content = load(pieces[key]) if key in pieces else None
    if content is None:
        return None
    trial: Trial = content[0]
    found: list[Pair] = []
    for slot in range(_ring(trial)):
        rollout, pairs = load(pieces[place]) if (place := f"{key}/{slot}") in pieces else ("", [])
        found += pairs if rollout == trial.rollout.id else []
    kept = sorted((pair for pair in found if pair.number >= content[1]), key=lambda pair: pair.number)
    trial.book.entries = {pair.key: pair for pair in kept}
    return trial
