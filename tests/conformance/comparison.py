"""Irisloop's records beside the oracle's: what differs, and whether the table of differences accounts for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from tests.conformance.differences import Difference
from tests.conformance.reduction import Record

Records = Mapping[str, Sequence[Record]]
WORDING = "text"
"""The exact words, kept in the records for people; only their class is compared."""


def differing(ours: Records, oracle: Records) -> list[str]:
    """Names of the cases whose records are not equal, in the oracle's order."""
    return [name for name in oracle if _compared(ours.get(name, ())) != _compared(oracle[name])]


def unaccounted(names: Sequence[str], differences: Sequence[Difference]) -> list[str]:
    """Those that no entry covers."""
    return [name for name in names if not any(one.covers(name) for one in differences)]


def stale(names: Sequence[str], differences: Sequence[Difference]) -> list[str]:
    """Patterns of the table that cover no case that differs."""
    return [
        f"{one.title}: {pattern}"
        for one in differences
        for pattern in one.cases
        if not any(fnmatchcase(name, pattern) for name in names)
    ]


def explained(name: str, ours: Records, oracle: Records) -> str:
    """Both records of a case, for a person."""
    return f"{name}\n  Triton:   {json.dumps(oracle[name])[:1500]}\n  Irisloop: {json.dumps(ours.get(name))[:1500]}"


def _compared(records: Sequence[Record]) -> list[Record]:
    return [_without_wording(record) for record in records]


def _without_wording(record: Record) -> Record:
    kept = {key: value for key, value in record.items() if key != WORDING}
    if "answers" in kept:
        kept["answers"] = [_without_wording(answer) for answer in kept["answers"]]
    return kept
