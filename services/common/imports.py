"""Six processes start at once on two cores: what a library imports for comforts that we do not use is left out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Have imports inside the block find these optional modules missing, unless they are loaded already."""
    modules: dict[str, Any] = sys.modules  # None in it makes an import fail, which the annotation does not know
    hidden = [name for name in names if name not in modules]
    modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            modules.pop(name, None)
