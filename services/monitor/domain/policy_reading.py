"""From a parsed policy file to typed sections; every error names the field and says what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, fields, replace
from math import isfinite
from typing import Any, Final, TypeVar

from services.monitor.domain.detectors.choice import read_choice
from services.monitor.domain.quiethours import read_quiet_hours

T = TypeVar("T")

_SHARED: Final = ("merge", "quality", "fleet")
"""One for all models: the order of events, the book of labels, and how cameras' alarms become incidents."""
_PROBED: Final = 1_000
"""More assets labeling takes for no probe."""
_HALF: Final = 0.5
_NO_ONE: Final = {"none": False, "person": True}


def known(document: Any, *, required: Sequence[str], optional: Sequence[str] = (), where: str = "policy") -> None:
    """Raises ValueError naming the keys of a mapping that are missing or unknown."""
    if not isinstance(document, Mapping):
        raise ValueError(f"{where} must be a mapping of names to values, not {document!r}")
    missing = [name for name in required if name not in document]
    unknown = [str(name) for name in document if name not in (*required, *optional)]
    if missing:
        raise ValueError(f"{where}: missing: {', '.join(sorted(missing))}")
    if unknown:
        raise ValueError(
            f"{where}: unknown: {', '.join(sorted(unknown))}; known are {', '.join((*required, *optional))}"
        )


def read_section(kind: type[T], values: Any, where: str) -> T:
    """One section. Raises ValueError naming `<section>.<field>`."""
    needed = [f.name for f in fields(kind) if f.default is MISSING]  # type: ignore[arg-type]
    others = [f.name for f in fields(kind) if f.default is not MISSING]  # type: ignore[arg-type]
    known(values, required=needed, optional=others, where=f"policy: {where}")
    kinds = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _value(kinds[name], value, f"{where}.{name}") for name, value in values.items()})


def read_quality(kind: type[T], document: Mapping[str, Any]) -> T:
    """The section `quality`, which a file may leave out."""
    quality: Any = read_section(kind, document.get("quality", {}), "quality")
    if not 0.0 < quality.alpha < 1.0:
        raise ValueError(f"policy: quality.alpha must lie between 0 and 1, not {quality.alpha!r}")
    if not (0.0 < quality.propensity <= 1.0 <= quality.weight_max and quality.remembered):
        raise ValueError("policy: quality: propensity is above 0 and at most 1, weight_max and remembered at least 1")
    read: T = quality
    return read


def read_fleet(kind: type[T], document: Mapping[str, Any]) -> T:
    """The section `fleet`, which a file may leave out."""
    fleet: Any = read_section(kind, document.get("fleet", {}), "fleet")
    if not fleet.alike <= 1.0 <= fleet.run_length:
        raise ValueError("policy: fleet: alike is at most 1, and run_length at least 1")
    read: T = fleet
    return read


def read_probe(probe: T, where: str) -> T:
    """The section `probe`, which a file may leave out, checked."""
    p: Any = probe
    if p.assets > _PROBED:
        raise ValueError(f"policy: {where}.assets must be a whole number of 0 (no probe) to {_PROBED}, not {p.assets}")
    if p.assets and not p.wait_seconds:
        raise ValueError(f"policy: {where}.wait_seconds must be above 0; assets: 0 holds no probe")
    if not 0.0 < p.error_rate < 1.0:
        raise ValueError(f"policy: {where}.error_rate must lie between 0 and 1, not {p.error_rate!r}")
    if not 0.0 < p.usual < _HALF:
        raise ValueError(f"policy: {where}.usual must lie between 0 and {_HALF}, not {p.usual!r}")
    return probe


def read_models(document: Mapping[str, Any], plain: T, kinds: Mapping[str, type[Any]]) -> dict[str, T]:
    """`models`: what departs from the file for each model, section by section, field by field."""
    models = document.get("models") or {}
    if not isinstance(models, Mapping):
        raise ValueError(f"policy: models must be a mapping of model names to sections, not {models!r}")
    return {str(name): _departing(plain, sections, kinds, f"models.{name}") for name, sections in models.items()}


def _departing(plain: T, sections: Any, kinds: Mapping[str, type[Any]], where: str) -> T:
    allowed = [name for name in kinds if name not in _SHARED]
    if isinstance(sections, Mapping) and (shared := [s for s in sections if s in _SHARED]):
        raise ValueError(f"policy: {where}.{shared[0]} is one for all models; set it at the top of the file")
    known(sections, required=(), optional=allowed, where=f"policy: {where}")
    changed: dict[str, Any] = {}
    for name, values in sections.items():
        whole = f"{where}.{name}"
        known(values, required=(), optional=[f.name for f in fields(kinds[name])], where=f"policy: {whole}")
        types = {f.name: str(f.type) for f in fields(kinds[name])}
        new = {key: _value(types[key], value, f"{whole}.{key}") for key, value in values.items()}
        changed[name] = replace(getattr(plain, name), **new)
    return replace(plain, **changed)  # type: ignore[type-var]


def _value(kind: str, value: Any, where: str) -> Any:
    if kind == "bool":
        if not isinstance(value, str) or value not in _NO_ONE:
            raise ValueError(f"policy: {where} must be none or person, not {value!r}")
        return _NO_ONE[value]
    if kind == "DetectorChoice":
        return read_choice(value, f"policy: {where}", where.split(".")[-2])
    if "QuietHours" in kind:
        return read_quiet_hours(value, f"policy: {where}")
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or not isfinite(value):
        raise ValueError(f"policy: {where} must be a number of at least 0, not {value!r}")
    if kind == "int" and value != int(value):
        raise ValueError(f"policy: {where} must be a whole number of at least 0, not {value!r}")
    return int(value) if kind == "int" else float(value)


def written(policy: Any) -> dict[str, Any]:
    """A policy as the file would say it, defaults filled in, `models` left out."""
    document = {name: value for name, value in asdict(policy).items() if name != "models"}
    document["channels"]["detector"] = policy.channels.detector.written()
    document["labels"]["detector"] = policy.labels.detector.written()
    document["retrain"]["approval"] = "person" if policy.retrain.approval else "none"
    document["retrain"]["quiet_hours"] = [one.written() for one in policy.retrain.quiet_hours]
    return document
