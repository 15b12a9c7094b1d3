"""What every module here leaves behind is its own matter."""

from __future__ import annotations

from tests.leftovers import leftovers

__all__ = ["leftovers"]
