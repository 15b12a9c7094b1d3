"""Reads single fields of `model.json`; every refusal names the field and what it should be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from services.serving.errors import BadPackage

CARD_FILE: Final = "model.json"


def bad(field: str, problem: str) -> BadPackage:
    """The refusal, to be raised; `field` is empty where the file as a whole is meant."""
    where = f"{CARD_FILE}: `{field}`" if field else CARD_FILE
    return BadPackage(f"{where} {problem}.", field=field)


def part(document: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """An object within."""
    value = document.get(field)
    if not isinstance(value, dict):
        raise bad(field, "is missing or not an object")
    return value


def text(document: Mapping[str, Any], key: str, field: str, *, required: bool = True) -> str:
    """Text; "" where it may be missing."""
    value = document.get(key, "")
    if not isinstance(value, str) or (required and not value):
        raise bad(field, "is missing or not text")
    return value


def whole(document: Mapping[str, Any], key: str, least: int, most: int, field: str, default: int | None = None) -> int:
    """A whole number from `least` to `most`."""
    value = document.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise bad(field, f"is {value!r}; a whole number from {least} to {most} is needed")
    return value


def share(document: Mapping[str, Any], key: str, field: str, default: float) -> float:
    """A number from 0 to 1."""
    value = document.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.0 <= value <= 1.0:
        raise bad(field, f"is {value!r}; a number from 0 to 1 is needed")
    return float(value)


def positive(value: object, field: str) -> float:
    """A number above 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not (value > 0 and math.isfinite(value)):
        raise bad(field, f"is {value!r}; a number above 0 is needed")
    return float(value)


def choice(document: Mapping[str, Any], key: str, choices: tuple[str, ...], field: str) -> str:
    """One of a few words."""
    value = document.get(key)
    if value not in choices:
        raise bad(field, f"is {value!r}; one of {', '.join(choices)} is needed")
    return str(value)
