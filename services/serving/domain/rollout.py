"""Which arm of a rollout answers for a key: sticky, by a hash of the challenger's version and the key.

A key's place on [0, 1) never changes for one version, and an arm of share s takes the keys below s: raising the share
only adds keys. Where few keys are known, a hash alone may miss the share by far (six cameras under "10 %": anything
from none to four); then the lowest so many keys are taken that come nearest to the share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

FEW: Final = 10_000
"""Keys up to which they are counted out; of 6,000, a hash alone misses a tenth by a tenth of it in 1 of 100."""
PLACES: Final = float(2**64)


def place(salt: str, key: str) -> float:
    """The key's place on [0, 1): uniform over keys, independent between salts."""
    digest = blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / PLACES


@dataclass(frozen=True, slots=True)
class Threshold:
    """Below it a key belongs to the challenger."""

    value: float
    asked: float
    """The share that was asked for."""
    real: float
    """The share of the known keys that it gives; `asked` where keys are many or unknown."""


def threshold_of(share: float, salt: str, keys: Iterable[str] = ()) -> Threshold:
    """`keys`: those known, each once; the nearest share that they allow is taken while they are few."""
    places = sorted(place(salt, key) for key in keys)
    if not places or len(places) > FEW or share in (0.0, 1.0):
        return Threshold(share, share, _real(share, places) if places else share)
    taken = round(share * len(places))
    return Threshold(_between(places, taken), share, taken / len(places))


def _between(places: Sequence[float], taken: int) -> float:
    """A value with exactly so many places below it."""
    if taken == 0:
        return 0.0
    return 1.0 if taken == len(places) else (places[taken - 1] + places[taken]) / 2


def _real(share: float, places: Sequence[float]) -> float:
    return sum(place < share for place in places) / len(places)
