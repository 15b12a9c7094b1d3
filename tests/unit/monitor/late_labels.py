"""Labels that come late, in any order, are corrected and withdrawn; and what an offline run over all of them counts.

The offline run is a plain one on purpose: it keeps everything, looks at it from scratch, and counts with none of the
monitor's code.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

import numpy as np

from services.monitor.domain.quality.book import HOUR
from services.monitor.domain.quality.truth import UNKNOWN, Said, Truth

CLASSES = ("bag", "boot", "coat", "shirt")
START = 1_700_000_000_000_000
LABELS = 1_500


def said_on(rng: random.Random, n: int) -> dict[str, Said]:
    """The champion's prediction, and for every fourth asset a shadow's."""
    found = {}
    for role, version in (("champion", "1"), ("shadow", "2"))[: 1 + (n % 4 == 0)]:
        score = float(np.float32(rng.uniform(0.25, 1.0)))
        found[f"p{n}/{role}"] = Said("m", version, role, rng.choice(CLASSES), score)
    return found


def events(seed: int) -> list[Truth]:
    """Labels over nine hours: 10 % corrected, 5 % withdrawn, 5 % sent twice, all in random order."""
    rng = random.Random(seed)
    found: list[Truth] = []
    for n in range(LABELS):
        captured_at = START + rng.randrange(9 * HOUR)
        propensity = rng.choice((0.0, 0.08, 0.08, 0.031, 0.0007))
        first = Truth(
            f"asset-{n}", f"camera-{n % 3}", captured_at, captured_at + rng.randrange(1, 48 * HOUR), 1,
            rng.choice(CLASSES), propensity, said_on(rng, n),
        )  # fmt: skip
        found.append(first)
        if rng.random() < 0.1:
            found.append(replace(first, revision=2, class_name=rng.choice(CLASSES), propensity=0.0))
        if rng.random() < 0.05:
            found.append(replace(first, revision=3, class_name=UNKNOWN, propensity=0.0, said={}))
    found += [one for one in found if rng.random() < 0.05]
    rng.shuffle(found)
    return found


Outcome = tuple[str, str, Fraction, float, bool]


def offline(found: Iterable[Truth], version: str, camera: str | None = None) -> list[Outcome]:
    """(truth, predicted, score, propensity, whether revisions disagree) of every labelled prediction of a version."""
    revisions: dict[str, dict[int, Truth]] = defaultdict(dict)
    for one in found:
        revisions[one.asset_id][one.revision] = one
    rows: list[Outcome] = []
    for known in revisions.values():
        last, first = known[max(known)], known[min(known)]
        disputed = len({one.class_name for one in known.values()}) > 1
        rows += [
            (last.class_name, said.class_name, Fraction(said.score), first.propensity, disputed)
            for said in first.said.values()
            if said.version == version and camera in (None, first.camera_id)
        ]
    return rows
