"""Which detector a policy names, by `channels.detector` or `labels.detector`: a name, or a name with options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from services.monitor.domain.detectors import registry
from services.monitor.domain.detectors.protocol import CHANNELS, LABELS, Arming, Detector

_WATCHES: Final = {CHANNELS: "standardised channels", LABELS: "labels of 0 and 1"}
_TRIED: Final = {"run_length": 10_000.0, "baseline": 0.1}
"""What a detector is told where it is only tried."""


@dataclass(frozen=True, slots=True)
class DetectorChoice:
    """A name of the registry, and options by the detector's own names."""

    name: str
    options: Mapping[str, float] = field(default_factory=dict)

    def make(self, width: int, told: Mapping[str, float]) -> Detector:
        """A new detector of `width` streams; `told` are the monitor's `run_length` and `baseline`."""
        return registry.detector(self.name, width, self.options, told=told)

    def written(self) -> str | dict[str, Any]:
        """As the policy file has it."""
        return {"name": self.name, **self.options} if self.options else self.name

    def __str__(self) -> str:
        """The same choice is the same text."""
        return " ".join([self.name, *(f"{key}={value!r}" for key, value in sorted(self.options.items()))])


CUSUM: Final = DetectorChoice("cusum")
E_DETECTOR: Final = DetectorChoice("e-detector")


def read_choice(value: Any, where: str, section: str) -> DetectorChoice:
    """`value` as a file has it: `adwin`, or `{name: adwin, delta: 0.0001}`. Raises ValueError that begins with `where`
    for what is neither, for a name that is not installed or does not fit `section`, and for options that the detector
    does not take.
    """
    document = {"name": value} if isinstance(value, str) else value
    if not isinstance(document, Mapping) or not isinstance(document.get("name"), str):
        raise ValueError(f"{where} must be a detector's name, or a mapping with its name and options, not {value!r}")
    options: dict[str, Any] = {str(k): v for k, v in document.items() if k != "name"}
    choice = DetectorChoice(document["name"], options)
    fitting = registry.fitting(section)
    if choice.name not in fitting:
        names = ", ".join(sorted(fitting))
        raise ValueError(f"{where} must be one of {names}, not {choice.name!r}{_but(choice.name, section)}")
    for name, option in choice.options.items():
        if not isinstance(option, int | float) or not isfinite(option):
            raise ValueError(f"{where}.{name} must be a number, true or false, not {option!r}")
    _try(choice, where, section)
    return choice


def _but(name: str, section: str) -> str:
    """Why a detector that is installed does not fit."""
    kind = registry.installed().get(name)
    return f", which watches {_WATCHES[kind.fits[0]]}, not {_WATCHES[section]}" if kind is not None else ""


def _try(choice: DetectorChoice, where: str, section: str) -> None:
    try:
        made = choice.make(2 if section == CHANNELS else 1, _TRIED)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}") from error
    if section == CHANNELS and isinstance(made, Arming) and choice.options:
        raise ValueError(
            f"{where}: {choice.name!r} takes no options here: its thresholds follow from channels.allowance and the run"
            " lengths"
        )
