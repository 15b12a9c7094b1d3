"""What both versions said of the same input, and what people said of it, put together in whatever order they come."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.monitor.domain.events import Labelled, Seen


@dataclass(slots=True)
class Said:
    """One version's answer."""

    class_name: str
    failed: bool
    latency_ms: float
    """0 where it says nothing, the version having run when there was time."""


@dataclass(slots=True)
class Truth:
    """The first label that an asset got; later ones are only counted."""

    class_name: str
    propensity: float


@dataclass(slots=True)
class Pair:
    """The answers to one input so far."""

    camera_id: str
    at: float
    champion: Said | None = None
    challenger: Said | None = None
    labelled: bool = False

    @property
    def whole(self) -> bool:
        """Both have answered."""
        return self.champion is not None and self.challenger is not None


@dataclass(slots=True)
class Pairs:
    """The newest pairs, and the labels that came before them."""

    most: int
    pairs: dict[str, Pair] = field(default_factory=dict)
    truths: dict[str, Truth] = field(default_factory=dict)
    opened: int = 0
    revised: int = 0

    def see(self, item: Seen, *, challenger: bool) -> Pair | None:
        """Take one answer; the pair when this made it whole."""
        key = item.pair_id or item.asset_id
        pair = self.pairs.get(key)
        if pair is None:
            pair = self.pairs[key] = Pair(item.camera_id, item.at)
            self.opened += 1
            if len(self.pairs) > self.most:
                self.pairs.pop(next(iter(self.pairs)))
        said = Said(item.class_name, bool(item.error), item.latency_ms)
        if pair.whole or (pair.challenger if challenger else pair.champion) is not None:
            return None
        if challenger:
            pair.challenger = said
        else:
            pair.champion = said
        return pair if pair.whole else None

    def label(self, item: Labelled) -> None:
        """Take a label."""
        if item.asset_id in self.truths:
            self.revised += 1
            return
        self.truths[item.asset_id] = Truth(item.class_name, item.propensity)
        if len(self.truths) > self.most:
            self.truths.pop(next(iter(self.truths)))

    def judged(self, asset_id: str) -> tuple[Pair, Truth] | None:
        """A pair with its label, once, when both are there."""
        pair, truth = self.pairs.get(asset_id), self.truths.get(asset_id)
        if pair is None or truth is None or pair.labelled or not pair.whole:
            return None
        pair.labelled = True
        return pair, truth
