"""Hours of the day in which no retraining is asked for, in the time zone of the people who would have to look after it.

The hour is that of the event, never of a clock, so a replay keeps the same hours. Zones are the IANA's (RFC 6557).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_TIME: Final = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_FIELDS: Final = ("from", "to", "zone")


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` until before `end`, minutes since midnight (0..1439) in `zone`; past midnight when `end` is less."""

    begin: int
    end: int
    zone: str = "UTC"

    def cover(self, at: float) -> bool:
        """Whether the event time `at` (seconds since 1970) lies in them."""
        local = datetime.fromtimestamp(at, UTC).astimezone(_zone(self.zone))
        minute = local.hour * 60 + local.minute
        if self.begin <= self.end:
            return self.begin <= minute < self.end
        return minute >= self.begin or minute < self.end

    def written(self) -> dict[str, str]:
        """As the policy file has it."""
        return {"from": _clock(self.begin), "to": _clock(self.end), "zone": self.zone}

    def __str__(self) -> str:
        """As people write it."""
        return f"{_clock(self.begin)}-{_clock(self.end)} {self.zone}"


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def read_quiet_hours(value: Any, where: str) -> tuple[QuietHours, ...]:
    """From a list of {from: "22:00", to: "06:00", zone: Europe/Berlin}. Raises ValueError naming the field."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} must be a list of {{from, to, zone}}, not {value!r}")
    return tuple(_one(entry, f"{where}[{number}]") for number, entry in enumerate(value))


def _one(entry: Any, where: str) -> QuietHours:
    if not isinstance(entry, Mapping) or not set(entry) <= set(_FIELDS) or not {"from", "to"} <= set(entry):
        raise ValueError(f'{where} must be {{from: "22:00", to: "06:00", zone: Europe/Berlin}}, not {entry!r}')
    zone = entry.get("zone", "UTC")
    try:
        _zone(str(zone))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"{where}.zone must be a time zone such as Europe/Berlin or UTC, not {zone!r}") from error
    begin, end = (_minutes(entry[name], f"{where}.{name}") for name in ("from", "to"))
    if begin == end:
        raise ValueError(f"{where}: from and to are both {_clock(begin)}; leave the entry out, or name two times")
    return QuietHours(begin, end, str(zone))


def _minutes(value: Any, where: str) -> int:
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        hint = " (write it in quotes: YAML reads 22:00 as a number)" if isinstance(value, int) else ""
        raise ValueError(f'{where} must be a time of day such as "22:00", not {value!r}{hint}')
    return int(found[1]) * 60 + int(found[2])
