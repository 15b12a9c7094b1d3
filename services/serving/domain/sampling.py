"""Which inputs of clients' calls are kept, and with what probability.

Every rule draws by a number of its own, which follows from the prediction's id, after its share is fixed: so the
probability that travels with the input is the true one, and anybody can draw again.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from hashlib import blake2b
from typing import Final, Literal, TypeAlias

from services.serving.domain.features import Floats
from services.serving.domain.tensors import Array

Reason: TypeAlias = Literal["share", "low_confidence", "drift"]
Applied: TypeAlias = tuple[Reason, float]
"""A rule and its share, above 0."""
DRAWS: Final = struct.Struct(">QQQ")
Missing: TypeAlias = Literal[
    "not_an_image", "in_shared_memory", "decoupled", "no_memory", "too_large", "no_disk", "refused"
]
"""Why an input that was chosen is not kept."""
CALLS: Final = "calls"
ODD: Final = re.compile(r"[^A-Za-z0-9._-]")
MODEL_CHARACTERS: Final = 120
"""A camera's id has 128 at most."""
Keeps: TypeAlias = Callable[[str], bool]
"""Whether inputs of a model are sampled at all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Probabilities, 0 to 1."""

    share: float = 0.0
    """Of every input."""
    low_share: float = 0.0
    """Of an input whose answer is less sure than `low_confidence`, beside `share`."""
    low_confidence: float = 0.5
    """Largest calibrated probability of a class, 0 to 1."""
    drift_share: float = 0.0
    """Of an input while drift of the model is reported, beside the others."""

    @property
    def active(self) -> bool:
        """Whether it may choose anything."""
        return self.share > 0 or self.low_share > 0 or self.drift_share > 0

    def unsure(self, confidence: Floats) -> list[bool]:
        """Of each answer; NaN is not sure."""
        return [not sure for sure in (confidence >= self.low_confidence).tolist()]

    def shares(self, *, unsure: bool, drifting: bool) -> list[Applied]:
        """What applies to one input."""
        found: list[Applied] = [("share", self.share)]
        if unsure:
            found.append(("low_confidence", self.low_share))
        if drifting:
            found.append(("drift", self.drift_share))
        return [(reason, share) for reason, share in found if share > 0]


@dataclass(frozen=True, slots=True)
class Policy:
    """A rule for all models, and those that have one of their own."""

    default: Rule = Rule()
    models: Mapping[str, Rule] | None = None

    def rule(self, model: str) -> Rule:
        """The model's."""
        return (self.models or {}).get(model, self.default)

    def keeps(self, model: str) -> bool:
        """Whether inputs of the model are sampled at all."""
        return self.rule(model).active

    @property
    def rules(self) -> Sequence[Rule]:
        """All of them."""
        return [self.default, *(self.models or {}).values()]


@dataclass(frozen=True, slots=True)
class Chosen:
    """An input that is kept, by the rules `reasons`; by any rule it would have been with the probability."""

    propensity: float
    reasons: tuple[Reason, ...]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a call brought, as far as it can be kept: encoded images, or a tensor of the model's image input."""

    encoded: Sequence[bytes] = ()
    tensor: Array | None = None
    """uint8, in the layout of the version's card."""
    missing: Missing | None = None
    """Why neither is there."""

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(map(len, self.encoded)) + (self.tensor.nbytes if self.tensor is not None else 0)


def draws(prediction_id: str) -> dict[Reason, float]:
    """Numbers in [0, 1), uniform over predictions, independent of each other, the same for ever: the three parts of a
    BLAKE2b hash of 24 bytes, as fractions of 2^64.
    """
    share, low, drift = DRAWS.unpack(blake2b(f"sample/{prediction_id}".encode(), digest_size=DRAWS.size).digest())
    return {"share": share / 2**64, "low_confidence": low / 2**64, "drift": drift / 2**64}


def choose(prediction_id: str, shares: Sequence[Applied]) -> Chosen | None:
    """Whether one of the rules that apply draws it; they draw independently."""
    drawn = draws(prediction_id)
    reasons = [reason for reason, share in shares if drawn[reason] < share]
    return Chosen(propensity_of([share for _, share in shares]), tuple(reasons)) if reasons else None


def propensity_of(shares: Iterable[float]) -> float:
    """The probability that at least one of independent draws succeeds."""
    found = 0.0
    for share in shares:
        found += share * (1.0 - found)
    return found


def camera_of(model: str) -> str:
    """The camera that inputs of the model's calls come from, as far as ingest is concerned."""
    return f"{CALLS}/{ODD.sub('_', model)[:MODEL_CHARACTERS]}"


def policy_of(default: Rule, entries: Sequence[str]) -> Policy:
    """With an entry `MODEL:FIELD=NUMBER,...` for each model that differs. Raises `ValueError`."""
    models: dict[str, Rule] = {}
    for entry in entries:
        model, sign, rest = entry.partition(":")
        if not model or not sign:
            raise ValueError(f"{entry[:80]!r} is not MODEL:FIELD=NUMBER,...")
        models[model] = replace(default, **dict(_field(entry, part) for part in rest.split(",")))
    return Policy(default, models)


FIELDS: Final = tuple(field.name for field in fields(Rule))


def _field(entry: str, part: str) -> tuple[str, float]:
    name, _, text = part.partition("=")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if name.strip() not in FIELDS or not 0 <= value <= 1:
        raise ValueError(f"{part[:80]!r} in {entry[:80]!r}: one of {', '.join(FIELDS)} =, and a number 0 to 1")
    return name.strip(), value
