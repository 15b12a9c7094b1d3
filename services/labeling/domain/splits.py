"""Which labels are trained on and which are kept for judging; an asset never changes sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import Final

from services.labeling.domain.drawing import near_group
from services.labeling.domain.model import IMPORTED, Asset

TRAIN: Final = "train"
VALIDATION: Final = "validation"
TEST: Final = "test"
SHARES: Final = {
    "import": {TRAIN: 0.80, VALIDATION: 0.10, TEST: 0.10},
    "live": {TRAIN: 0.70, VALIDATION: 0.08, TEST: 0.22},
}
"""A new condition is judged on few labels, and those come from live cameras."""


class Splits:
    """Assigns assets to splits, remembering all earlier assignments of the dataset.

    Keys are `digest/<sha256>` and `near/<camera>@<bucket>`. The same object's split comes first, then a near frame's.
    """

    def __init__(self, dataset: str, known: Iterable[tuple[str, str]]) -> None:
        """`known` are the pairs (key, split) of earlier versions."""
        self._dataset = dataset
        self._known = dict(known)
        self._counts: dict[str, Counter[str]] = {stratum: Counter() for stratum in SHARES}
        self.added: dict[str, str] = {}

    def assign(self, assets: Sequence[Asset]) -> list[str]:
        """The split of each; what is new is in `added` afterwards."""
        keyed = [(_stratum(asset), _keys(asset)) for asset in assets]
        waiting: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for stratum, keys in keyed:
            split = self._of(keys)
            if split is None:
                waiting.setdefault(keys[-1], []).append((stratum, keys))
            else:
                self._note(stratum, keys, split)
        for group in sorted(waiting, key=self._order):
            for stratum, keys in waiting[group]:
                self._note(stratum, keys, self._of(keys) or self._neediest(stratum))
        return [self._known[keys[0]] for _, keys in keyed]

    def _of(self, keys: tuple[str, ...]) -> str | None:
        for key in keys:
            if key in self._known:
                return self._known[key]
        return None

    def _note(self, stratum: str, keys: tuple[str, ...], split: str) -> None:
        self._counts[stratum][split] += 1
        for key in keys:
            if key not in self._known:
                self._known[key] = self.added[key] = split

    def _neediest(self, stratum: str) -> str:
        counts, shares = self._counts[stratum], SHARES[stratum]
        total = counts.total() + 1
        return max(shares, key=lambda split: shares[split] * total - counts[split])

    def _order(self, group: str) -> bytes:
        return sha256(f"{self._dataset}\n{group}".encode()).digest()


def _stratum(asset: Asset) -> str:
    return "import" if asset.camera_id.startswith(IMPORTED) else "live"


def _keys(asset: Asset) -> tuple[str, ...]:
    digest = f"digest/{asset.object.digest}"
    if asset.camera_id.startswith(IMPORTED):
        return (digest,)
    return (digest, f"near/{near_group(asset.camera_id, asset.captured_at)}")
