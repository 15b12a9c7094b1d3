"""Which arm of a rollout answers for a key: sticky, by a hash of the rollout's salt and the key.

A key's place on [0, 1) never changes within a rollout, and an arm of share s takes the keys below s: raising the share
only adds keys. Where few keys are known, a hash alone may miss the share by far (six cameras under "10 %": anything
from none to four); then the lowest so many keys are taken that come nearest to the share.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

FEW: Final = 10_000
"""Keys up to which they are counted out; of 6,000, a hash alone misses a tenth by a tenth of it in 1 of 100."""
PLACES: Final = float(2**64)
Stage: TypeAlias = Literal["shadow", "canary", "experiment", "watch"]


@dataclass(frozen=True, slots=True)
class Arm:
    """A share of the keys, 0..1, that one version answers for."""

    name: str
    """The role of its predictions."""
    version: str
    share: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """A version on its way, as registry published it. In `shadow` and `watch` there are no arms."""

    id: str
    stage: Stage
    champion: str
    """What the challenger is compared with."""
    challenger: str
    arms: tuple[Arm, ...] = ()
    salt: str = ""

    @property
    def beside(self) -> str:
        """The version that runs beside the one that answers where no arm does; "" for none."""
        return {"shadow": self.challenger, "watch": self.champion}.get(self.stage, "")

    @property
    def versions(self) -> frozenset[str]:
        """All that it names."""
        return frozenset({self.champion, self.challenger, *(arm.version for arm in self.arms)} - {""})


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


@dataclass(frozen=True, slots=True)
class Split:
    """The arms of a rollout laid out on [0, 1), one after the other; what they leave is the champion's."""

    salt: str
    arms: tuple[Arm, ...]
    bounds: tuple[Threshold, ...]
    """The upper end of each arm."""

    def arm(self, key: str) -> Arm | None:
        """Whose the key is; None for the champion's."""
        if not self.arms:
            return None
        at = place(self.salt, key)
        for arm, bound in zip(self.arms, self.bounds, strict=True):
            if at < bound.value:
                return arm
        return None

    def real(self) -> tuple[float, ...]:
        """The share of the known keys that each arm has."""
        ends = [bound.real for bound in self.bounds]
        return tuple(end - start for start, end in zip([0.0, *ends], ends, strict=False))


def split_of(rollout: Rollout, keys: Iterable[str] = ()) -> Split:
    """`keys`: those known, as `threshold_of` takes them."""
    known, end, bounds = list(keys), 0.0, []
    for arm in rollout.arms:
        end = min(end + arm.share, 1.0)
        bounds.append(threshold_of(end, rollout.salt, known))
    return Split(rollout.salt, rollout.arms, tuple(bounds))


@dataclass(frozen=True, slots=True)
class Applied:
    """A rollout as it is in force here."""

    model: str
    rollout: Rollout
    split: Split
    keys: int
    """Cameras among which the shares were counted out; 0 when they are clients' keys."""
    offered: int
    compared: int
