"""A model that cannot be loaded."""

from __future__ import annotations


class TritonPythonModel:
    """Fails as soon as it is made."""

    def initialize(self, args: dict[str, str]) -> None:
        """Always raises."""
        raise ValueError("this model is broken on purpose")
