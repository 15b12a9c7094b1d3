"""Which predictions people look at, and with what probability: the same asset draws the same in every replay.

Random draws estimate risk without bias (Horvitz and Thompson 1952) as long as the logged propensity is the true one, so
every probability here is fixed before the asset's own random number is looked at.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from services.labeling.domain.model import Draw, Micros, Origin, Prediction

SECOND: Micros = 1_000_000
NEAR: Micros = 2 * SECOND
"""Frames of one camera within the same so much event time teach little more than one of them."""
RATE_SECONDS = 10


@dataclass(frozen=True, slots=True)
class DrawPolicy:
    """Probabilities and bounds; their meaning stands in the settings."""

    uniform_share: float = 0.08
    uniform_floor: float = 0.002
    tasks_per_second: float = 10.0
    uncertainty_share: float = 0.1
    drift_tasks: int = 150
    drift_share: float = 0.3
    request_share: float = 0.5
    request_uncertainty: float = 0.2
    request_surplus: float = 1.1
    open_tasks: int = 5_000


def unit(purpose: str, asset_id: str) -> float:
    """A number in [0, 1), uniform over assets, independent over purposes, the same for ever."""
    return int.from_bytes(blake2b(f"{purpose}\n{asset_id}".encode(), digest_size=8).digest()) / 2**64


class Rate:
    """How many tasks a second of event time would be drawn at full probability, over the last ten seconds seen."""

    def __init__(self) -> None:
        """Nothing seen."""
        self._seconds: dict[int, float] = {}
        self._known: deque[int] = deque()

    def observe(self, captured_at: Micros, probability: float) -> None:
        """One prediction that would be drawn with that probability."""
        second = captured_at // SECOND
        if second not in self._seconds:
            self._known = deque(sorted([*self._known, second]))
        self._seconds[second] = self._seconds.get(second, 0.0) + probability
        newest = self._known[-1]
        while self._known[0] <= newest - RATE_SECONDS:
            del self._seconds[self._known.popleft()]

    def factor(self, per_second: float) -> float:
        """What to multiply probabilities with to stay within so many tasks a second; at most 1."""
        if not self._known:
            return 1.0
        span = self._known[-1] - self._known[0] + 1
        expected = sum(self._seconds.values()) / span
        return min(1.0, per_second / expected) if expected > 0 else 1.0


def full_probabilities(prediction: Prediction, policy: DrawPolicy) -> tuple[float, float]:
    """Of a uniform and of an uncertain draw, before any budget."""
    return policy.uniform_share, policy.uncertainty_share * (1.0 - prediction.margin) ** 2


def uniform_probability(policy: DrawPolicy, factor: float) -> float:
    """Of a uniform draw within the budget; never below the floor, unless uniform draws are switched off."""
    if policy.uniform_share == 0:
        return 0.0
    return min(1.0, max(policy.uniform_floor, policy.uniform_share * factor))


def draw_arriving(prediction: Prediction, policy: DrawPolicy, factor: float, *, uncertain: bool) -> Draw | None:
    """The draw of a prediction that has just arrived, or None; `uncertain` false pauses draws by uncertainty."""
    uniform = uniform_probability(policy, factor)
    _, uncertainty = full_probabilities(prediction, policy)
    if unit("uniform", prediction.asset_id) < uniform:
        return Draw(Origin.UNIFORM, uniform)
    uncertainty *= factor
    if uncertain and unit("uncertainty", prediction.asset_id) < uncertainty:
        return Draw(Origin.UNCERTAINTY, (1.0 - uniform) * uncertainty)
    return None


def share(candidates: Sequence[Prediction], purpose: str, probability: float) -> list[Prediction]:
    """Each with that probability, by its own number."""
    return [candidate for candidate in candidates if unit(purpose, candidate.asset_id) < probability]


def sample(
    candidates: Sequence[Prediction], wanted: int, purpose: str, *, uncertainty: float = 0.0
) -> list[tuple[Prediction, float]]:
    """At most `wanted` of them with their inclusion probabilities, spread over cameras and time.

    Sequential Poisson sampling (Ohlsson 1998): the smallest u/w win, and the probability is close to
    min(1, wanted * w / sum(w)). The weight w falls with the number of near frames, and `uncertainty` (0..1) leans it to
    small margins.
    """
    if wanted <= 0 or not candidates:
        return []
    if wanted >= len(candidates):
        return [(candidate, 1.0) for candidate in candidates]
    weights = _weights(candidates, uncertainty)
    total = sum(weights)
    keyed = sorted(
        (unit(purpose, candidate.asset_id) / weight, place)
        for place, (candidate, weight) in enumerate(zip(candidates, weights, strict=True))
    )
    return [(candidates[place], min(1.0, wanted * weights[place] / total)) for _, place in keyed[:wanted]]


def _weights(candidates: Sequence[Prediction], uncertainty: float) -> list[float]:
    near = Counter(near_group(candidate.camera_id, candidate.captured_at) for candidate in candidates)
    mean = sum(1.0 - candidate.margin for candidate in candidates) / len(candidates)
    weights = []
    for candidate in candidates:
        lean = (1.0 - candidate.margin) / mean if mean > 0 else 1.0
        weight = 1.0 - uncertainty + uncertainty * lean
        weights.append(max(1e-6, weight) / near[near_group(candidate.camera_id, candidate.captured_at)])
    return weights


def near_group(camera_id: str, captured_at: Micros) -> str:
    """The name of the group of near frames that a frame of a live camera belongs to."""
    return f"{camera_id}@{captured_at // NEAR}"
