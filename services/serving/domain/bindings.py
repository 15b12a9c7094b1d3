"""Which models predict on a camera: bindings of (model, role) to a camera selector."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.serving.errors import BadBinding

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
PATTERN: Final = re.compile(r"[A-Za-z0-9._/*?-]{1,128}")
MOST_SELECTORS: Final = 256
DIRECT: Final = "direct"
"""The role of a client's own call; no alias may be bound under it."""


@dataclass(frozen=True, slots=True)
class Binding:
    """A camera matches by any of the patterns in `cameras` (with * and ?), or by having all `tags`."""

    model: str
    role: str
    cameras: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def matches(self, camera: str, tags: Mapping[str, str]) -> bool:
        """Whether this camera, with these tags, is selected."""
        if any(glob(pattern).fullmatch(camera) for pattern in self.cameras):
            return True
        return bool(self.tags) and all(tags.get(name) == value for name, value in self.tags.items())


def glob(pattern: str) -> re.Pattern[str]:
    """`*` stands for any text, slashes too, and `?` for one character; `re` keeps the compiled ones."""
    return re.compile("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in pattern))


def checked(binding: Binding) -> Binding:
    """The binding, or `BadBinding` for one that could never apply."""
    if not NAME.fullmatch(binding.model):
        raise BadBinding(f"{binding.model[:128]!r} is not a model's name.", field="binding.model")
    if not NAME.fullmatch(binding.role) or binding.role == DIRECT:
        raise BadBinding(f"{binding.role[:128]!r} is not an alias's name.", field="binding.role")
    if not binding.cameras and not binding.tags:
        raise BadBinding("The binding selects no camera: name cameras, or tags.", field="binding.cameras")
    if len(binding.cameras) + len(binding.tags) > MOST_SELECTORS:
        raise BadBinding(f"A binding may hold {MOST_SELECTORS} patterns and tags.", field="binding.cameras")
    for pattern in binding.cameras:
        if not PATTERN.fullmatch(pattern):
            raise BadBinding(
                f"{pattern[:128]!r} is not a camera id with * and ?: letters, digits and . _ - / are allowed.",
                field="binding.cameras",
            )
    if any(not 0 < len(name) <= 64 or len(value) > 1024 for name, value in binding.tags.items()):
        raise BadBinding("A tag's name has 1-64 characters, its value 1,024 at most.", field="binding.tags")
    return binding


@dataclass(frozen=True, slots=True)
class BindingTable:
    """All bindings at one revision; replaced as a whole, never changed."""

    revision: int = -1
    bindings: tuple[Binding, ...] = ()

    def bound(self, camera: str, tags: Mapping[str, str]) -> list[Binding]:
        """The bindings that select the camera."""
        return [binding for binding in self.bindings if binding.matches(camera, tags)]


def in_order(bindings: Iterable[Binding]) -> tuple[Binding, ...]:
    """By model, then role."""
    return tuple(sorted(bindings, key=lambda binding: (binding.model, binding.role)))
