"""The rules a model's owner writes down: which gates, how many approvals, what happens on promotion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any, Final

from services.common.errors import InvalidMessage
from services.registry.domain.model import Stage

STAGE_KEYS: Final = ("stage", "share", "pairs")


@dataclass(frozen=True, slots=True)
class PolicyStage:
    """One stage on the way to be champion.

    `share` of the keys, 0 in shadow; after `pairs` compared answers without a verdict the next stage begins.
    """

    stage: Stage
    share: float = 0.0
    pairs: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """One model's rules; accuracies are shares (0..1), latencies milliseconds.

    `better_on_new_by`: on the new condition the challenger must beat the champion by this much.
    `not_worse_on_old_by`: on the old one, judged by labels still in force, it may lose at most this much.
    `first_accuracy`: what the first version must reach, having no champion to be measured against.
    `parity`: largest allowed difference of ONNX and torch outputs. `latency_ms` / `latency_factor`: the median of one
    image stays under the larger of the two limits (absolute, and so many times the champion's).
    `condition_assets`: fewer held-out assets than this prove nothing, and the gate fails.
    `approvals`: how many different people must say yes. `auto_promote`: an accepted version goes live by itself.
    `stages`: what an accepted version passes before it is champion, `[{stage: shadow, pairs: 300}, {stage: canary,
    share: 0.1}]`; with none it is champion at once. `watch_pairs`: a new champion is compared with the one before for
    so many pairs, and goes when it is worse; 0 is no watch. `stage_hours`: a stage without a verdict in so long is
    withdrawn; 0 is no limit.
    """

    models: str = "*"
    better_on_new_by: float = 0.02
    not_worse_on_old_by: float = 0.05
    first_accuracy: float = 0.5
    parity: float = 1e-3
    latency_ms: float = 20.0
    latency_factor: float = 3.0
    condition_assets: int = 30
    approvals: int = 0
    auto_promote: bool = True
    keep_previous_in_shadow: bool = True
    stages: tuple[PolicyStage, ...] = ()
    watch_pairs: int = 0
    stage_hours: float = 168.0


KINDS: Final[Mapping[str, Any]] = {field.name: type(field.default) for field in fields(Policy)}
"""The keys of an entry and their types."""


def parse_policies(document: Any) -> tuple[Policy, ...]:
    """Read the policy file's content: `policies: [{models: glob, ...}]`, the first match counts.

    Raises `InvalidMessage` that names the entry and the key it does not know or cannot read.
    """
    if not isinstance(document, Mapping) or set(document) != {"policies"}:
        raise InvalidMessage("expected `policies:` and nothing beside it", field="policies")
    entries = document["policies"]
    if not isinstance(entries, list) or not entries:
        raise InvalidMessage("`policies` is a list of at least one entry", field="policies")
    return tuple(_policy(f"policies[{place}]", entry) for place, entry in enumerate(entries))


def _policy(place: str, entry: Any) -> Policy:
    if not isinstance(entry, Mapping):
        raise InvalidMessage(f"{place}: expected keys and values, got {entry!r}", field=place)
    return Policy(**{str(key): _checked(place, str(key), value) for key, value in entry.items()})


def _checked(place: str, key: str, value: Any) -> Any:
    """The value as its field wants it: the right type, and a number not negative (a NaN passes no gate)."""
    kind = KINDS.get(key)
    if kind is None:
        raise InvalidMessage(f"{place}: unknown key `{key}`, expected one of {', '.join(KINDS)}", field=key)
    if kind is tuple:
        return parse_stages(f"{place}.{key}", value)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise InvalidMessage(f"{place}.{key}: expected {kind.__name__}, got {value!r}", field=key)
    if kind in (int, float) and not 0 <= value < float("inf"):
        raise InvalidMessage(f"{place}.{key}: expected a number from 0 on, got {value!r}", field=key)
    return kind(value)


def parse_stages(place: str, value: Any) -> tuple[PolicyStage, ...]:
    """The stages of an entry, each giving more keys than the one before; raises `InvalidMessage` that names the key."""
    if not isinstance(value, list):
        raise InvalidMessage(f"{place}: expected a list of stages, got {value!r}", field="stages")
    found = tuple(_stage(f"{place}[{number}]", entry) for number, entry in enumerate(value))
    for number, (stage, after) in enumerate(pairwise(found)):
        if after.share <= stage.share:
            words = "expected more than the stage before; a shadow comes first, and once"
            raise InvalidMessage(f"{place}[{number + 1}].share: {words}, got {after.share:g}", field="share")
        if not stage.pairs:
            words = "expected after how many pairs without a verdict the next stage begins"
            raise InvalidMessage(f"{place}[{number}].pairs: {words}", field="pairs")
    return found


def _stage(place: str, entry: Any) -> PolicyStage:
    if not isinstance(entry, Mapping):
        raise InvalidMessage(f"{place}: expected keys and values, got {entry!r}", field="stages")
    unknown = next((str(key) for key in entry if key not in STAGE_KEYS), None)
    if unknown is not None:
        known = ", ".join(STAGE_KEYS)
        raise InvalidMessage(f"{place}: unknown key `{unknown}`, expected one of {known}", field=unknown)
    if entry.get("stage") not in (Stage.SHADOW, Stage.CANARY):
        raise InvalidMessage(f"{place}.stage: expected shadow or canary, got {entry.get('stage')!r}", field="stage")
    stage, pairs = Stage(entry["stage"]), entry.get("pairs", 0)
    if type(pairs) is not int or ("pairs" in entry and pairs < 1):
        raise InvalidMessage(f"{place}.pairs: expected a whole number from 1 on, got {pairs!r}", field="pairs")
    return PolicyStage(stage, _share(place, stage, entry), pairs)


def _share(place: str, stage: Stage, entry: Mapping[str, Any]) -> float:
    share: Any = entry.get("share")
    if stage is Stage.SHADOW:
        if share is not None:
            raise InvalidMessage(f"{place}.share: a shadow answers nobody, got {share!r}", field="share")
        return 0.0
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise InvalidMessage(f"{place}.share: expected above 0 and at most 1, got {share!r}", field="share")
    return float(share)


def policy_for(model: str, policies: Sequence[Policy]) -> Policy:
    """The first policy whose `models` glob matches, else the defaults."""
    return next((policy for policy in policies if fnmatchcase(model, policy.models)), Policy())
