"""Detectors by name, the one list of them: those that come with Irisloop, and those that other packages add by an entry
point. What a policy may name, what the monitor runs and what snapshots hold is looked up here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Final, TypeAlias

from services.monitor.domain.detectors.adwin import AdwinBank
from services.monitor.domain.detectors.cusum import CusumBank
from services.monitor.domain.detectors.ddm import DdmBank
from services.monitor.domain.detectors.eddm import EddmBank
from services.monitor.domain.detectors.fhddm import FhddmBank
from services.monitor.domain.detectors.hddm_a import HddmABank
from services.monitor.domain.detectors.hddm_w import HddmWBank
from services.monitor.domain.detectors.kswin import KswinBank
from services.monitor.domain.detectors.mixture import MixtureDetector
from services.monitor.domain.detectors.page_hinkley import PageHinkleyBank
from services.monitor.domain.detectors.protocol import CHANNELS, LABELS, Detector

GROUP: Final = "irisloop.detectors"
"""A package adds a detector by `[project.entry-points."irisloop.detectors"]`, `name = "module:Class"`."""

Kinds: TypeAlias = Mapping[str, type[Detector]]

BUILT_IN: Final[Kinds] = {
    kind.name: kind
    for kind in (
        *(AdwinBank, CusumBank, DdmBank, EddmBank, FhddmBank),
        *(HddmABank, HddmWBank, KswinBank, MixtureDetector, PageHinkleyBank),
    )
}
_NOTHING: Final[Mapping[str, float]] = MappingProxyType({})
_METHODS: Final = ("make", "update", "statistic", "threshold", "alarmed", "reset", "dump", "load")


def kinds(added: Iterable[EntryPoint]) -> Kinds:
    """Built-in classes and `added` ones by name. Raises ValueError for an entry point that cannot be loaded, lacks
    something of `Detector`, or bears a name that is taken or not its class's.
    """
    found = dict(BUILT_IN)
    for entry in added:
        if entry.name in found:
            raise ValueError(f"entry point {entry.value!r}: there is a detector {entry.name!r} already")
        found[entry.name] = _loaded(entry)
    return found


def _loaded(entry: EntryPoint) -> type[Detector]:
    try:
        kind: type[Detector] = entry.load()
    except (ImportError, AttributeError) as error:
        raise ValueError(f"detector {entry.name!r}: entry point {entry.value!r} cannot be loaded: {error}") from error
    if missing := [method for method in _METHODS if not callable(getattr(kind, method, None))]:
        raise ValueError(f"detector {entry.name!r}: {entry.value} has no method {missing[0]!r}")
    if getattr(kind, "name", None) != entry.name:
        named = getattr(kind, "name", None)
        raise ValueError(f"detector {entry.name!r}: {entry.value}.name must be {entry.name!r} too, not {named!r}")
    _check(entry, kind, "fits", (CHANNELS, LABELS), least=1)
    _check(entry, kind, "told", ("run_length", "baseline"), least=0)
    return kind


def _check(entry: EntryPoint, kind: type[Detector], attribute: str, known: tuple[str, ...], least: int) -> None:
    values = getattr(kind, attribute, None)
    if isinstance(values, tuple) and len(values) >= least and all(value in known for value in values):
        return
    wanted = f"a tuple of {' and '.join(map(repr, known))}, {'one or both' if least else 'both, one or none'}"
    raise ValueError(f"detector {entry.name!r}: {entry.value}.{attribute} must be {wanted}, not {values!r}")


@lru_cache(maxsize=1)
def installed() -> Kinds:
    """All that this installation has."""
    return kinds(entry_points(group=GROUP))


def fitting(section: str) -> Kinds:
    """Those that a policy's section, `channels` or `labels`, can name."""
    return {name: kind for name, kind in installed().items() if section in kind.fits}


def detector(
    name: str,
    width: int,
    options: Mapping[str, float],
    known: Kinds | None = None,
    told: Mapping[str, float] = _NOTHING,
) -> Detector:
    """A new detector of `width` streams. Of `told` it gets what it wants to be told, unless `options` say otherwise.
    Raises ValueError for a name or an option that there is not.
    """
    found = installed() if known is None else known
    if name not in found:
        raise ValueError(f"there is no detector {name!r}; there are {', '.join(sorted(found))}")
    kind = found[name]
    return kind.make(width, {**{key: value for key, value in told.items() if key in kind.told}, **options})
